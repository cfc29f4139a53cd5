"""How each model type of the registry is proved, and the table of them in docs/model-types.md.

`python tests/proofs.py > docs/model-types.md` (`make tables`) renews it.
"""

from collections.abc import Iterator, Mapping

from tiny_decoders import DECODER_TINY
from tiny_encoders import TINY as ENCODER_TINY
from tiny_experts import EXPERT_TINY
from tiny_hybrids import HYBRIDS
from tiny_models import TIMM, TINY
from tiny_multimodal import MULTIMODAL
from typed_by_hand import TYPED

from registry import Family, families
from registry.projection import SHARED

FORWARD = "forward pass"
RENAMED = "renamed"
TYPED_BY_HAND = "typed by hand"
TRAINED = "trained here"

INTRODUCTION = """\
# Model types

Every `model_type` of config.json that the registry knows, and how its declaration is proved by the tests:

- **forward pass**: a tiny model with unequal dimensions is built with transformers and saved; each matrix
  that is extracted equals what the modules multiply with when they are run.
- **typed by hand**: transformers has no code for it, or none that runs here; each matrix that is extracted
  equals the one that was laid out in the published order.
- **trained here**: `gcont-audit train` writes it; what is computed by hand from the saved tensors is what was
  trained, and the audit's numbers are those measured in training.
- **renamed**: a model proved by forward pass, under the names that other code gives its tensors, or put
  together with others as that code does.

Stacks beside the main one are in brackets. Sub-models (text, vision, audio) are read by the family of their
own model type. This table is made by `make tables`, and a test holds it to the registry.

"""


ELSEWHERE = {
    "gemma3n": "test_gemma3ns_text_model_is_read_beside_towers_that_are_no_transformers",
    "intern_vit_6b": "test_internvl_in_its_own_code",
    "internvl_chat": "test_internvl_in_its_own_code",
    "kimi_k2": "test_kimi_k2_is_a_deepseek_v3_by_another_name",
    "minicpmo": "test_minicpm_v_and_o",
    "minicpmv": "test_minicpm_v_and_o",
    "new": "test_files_that_are_named_otherwise_hold_the_same",
    "phi3_v": "test_phi_3_vision_has_clips_tower_among_its_embeddings",
    "phi4mm": "test_phi_4_multimodal_as_microsoft_published_it",
    "qwen2_5_omni": "test_qwen_omni_talks_with_a_second_model",
    "qwen2_5_omni_talker": "test_qwen_omni_talks_with_a_second_model",
}
"""The tests of model types that transformers has under another name, or in parts."""

OWN_TRAINED = {
    "residual-mlp": "test_the_network_that_is_saved_computes_what_was_trained",
    "ablated-llama": "test_each_ablation_removes_exactly_what_it_says",
}
"""The same of those that the experiments leave."""

OWN_TYPED = {"nemotron-nas": "test_layers_found_by_architecture_search_say_what_they_lack"}
"""The same of those whose tensors are typed there."""


def proofs() -> Mapping[str, str]:
    """Model type to the way it is proved."""
    configs = [tiny.config() for tiny in (*TINY.values(), *DECODER_TINY.values(), *ENCODER_TINY.values())]
    configs += [tiny.config() for tiny in EXPERT_TINY.values()]
    configs += [hybrid.tiny.config() for hybrid in HYBRIDS.values()]
    configs += [composite.config() for composite in MULTIMODAL.values()]
    run = {model_type for config in configs for model_type in _model_types(config.to_dict())}
    typed = {model_type for one in TYPED.values() for model_type in _model_types(one.config)}
    hand = dict.fromkeys((*typed, *OWN_TYPED), TYPED_BY_HAND)
    own = dict.fromkeys(OWN_TRAINED, TRAINED)
    return dict.fromkeys(ELSEWHERE, RENAMED) | own | hand | dict.fromkeys(run, FORWARD)


def _model_types(config: Mapping[str, object]) -> Iterator[str]:
    """A config's own, and those of the sub-models in it."""
    if isinstance(config.get("model_type"), str):
        yield str(config["model_type"])
    for value in config.values():
        if isinstance(value, Mapping):
            yield from _model_types(value)


def declared() -> set[str]:
    """All that the registry claims to know."""
    return {model_type for family in families() for model_type in family.model_types}


def to_markdown() -> str:
    """The page."""
    how = proofs()
    rows = [(model_type, family) for family in families() for model_type in family.model_types]
    rows.sort(key=lambda row: row[0].lower())
    lines = ["| model type | family | what is read | proved by |", "|:--|:--|:--|:--|"]
    lines += [
        f"| `{model_type}` | {family.name} | {_reads(family)} | {how[model_type]} |"
        for model_type, family in rows
    ]
    names = ", ".join(f"`{name}`" for name in TIMM)
    timm = f"\nBeside these, timm's Vision Transformers by `architecture`, proved on {names}.\n"
    return (
        f"{INTRODUCTION}{len(rows)} model types in {len(families())} families.\n\n"
        + "\n".join(lines)
        + "\n"
        + timm
    )


def _reads(family: Family) -> str:
    if family.parts:
        return "sub-models: " + ", ".join(family.parts)
    more = [
        word for word, there in (("experts", family.experts), ("shared experts", _shared(family))) if there
    ]
    main = ", ".join([" ".join(name for name in family.declared if name not in SHARED), *more])
    return main + (f" [{', '.join(family.stacks)}]" if family.stacks else "")


def _shared(family: Family) -> bool:
    return not set(SHARED).isdisjoint(family.declared)


if __name__ == "__main__":
    print(to_markdown(), end="")
