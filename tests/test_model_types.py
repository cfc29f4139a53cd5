"""Every model type that the registry claims is proved, and docs/model-types.md tells how."""

from pathlib import Path

import proofs

from registry import families

ROOT = Path(__file__).parents[1]

ASKED_FOR = {
    "llama", "llama4", "llama4_text", "mistral", "ministral", "mistral3", "mixtral", "qwen2", "qwen2_moe",
    "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl", "gemma", "gemma2", "gemma3",
    "gemma3n", "gemma4", "exaone4", "exaone", "phi", "phi3", "phimoe", "gpt2", "gpt_neo", "gpt_neox",
    "gptj", "codegen", "gpt_bigcode", "opt", "bloom", "falcon", "mpt", "dbrx", "starcoder2", "stablelm",
    "cohere", "cohere2", "olmo", "olmo2", "olmo3", "olmoe", "granite", "granitemoe", "nemotron", "glm",
    "glm4", "glm4_moe", "chatglm", "internlm2", "internlm3", "baichuan", "minicpm", "minicpm3",
    "hunyuan_v1_dense", "hunyuan_v1_moe", "smollm3", "deepseek_v2", "deepseek_v3", "kimi_k2", "kimi_linear",
    "gpt_oss", "ernie4_5", "arcee", "seed_oss", "bert", "roberta", "distilbert", "albert", "deberta",
    "modernbert", "t5", "bart", "whisper", "vit", "clip", "siglip", "dinov2",
}  # fmt: skip
"""By use on the Hub."""


def test_every_model_type_is_proved() -> None:
    assert proofs.declared() - proofs.proofs().keys() == set()


def test_what_people_use_is_declared() -> None:
    assert ASKED_FOR - proofs.declared() == set()
    assert len(proofs.declared()) >= 120


def test_a_proof_that_is_named_is_there() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    named = {*proofs.ELSEWHERE.values(), *proofs.OWN_TYPED.values(), *proofs.OWN_TRAINED.values()}
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_the_table_of_model_types_is_the_registrys() -> None:
    """`make tables` renews it."""
    assert (ROOT / "docs" / "model-types.md").read_text(encoding="utf-8") == proofs.to_markdown()


def test_a_sub_models_family_is_there() -> None:
    known = {family.name for family in families()}
    for family in families():
        assert {part.family for part in family.parts.values()} - {None} <= known


def test_what_is_only_a_part_is_one() -> None:
    named = {part.family for family in families() for part in family.parts.values()}
    assert {family.name for family in families() if family.part_only} <= named
