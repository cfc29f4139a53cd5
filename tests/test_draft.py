"""A first declaration from names, shapes and config.json: what it guesses, and what it asks a person."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import llama_config, llama_tensors, write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TINY

from registry import Family, Layout, draft, families, match
from registry.family import parse_family
from registry.stack import as_names

Shapes = dict[str, tuple[int, ...]]
Config = Mapping[str, Any]

H, F, KV = 24, 44, 12
"""Widths of the residual stream, of the feed-forward block's inside, and of all keys."""

CONFIG = {
    "model_type": "own", "num_hidden_layers": 3, "hidden_size": H, "num_attention_heads": 6,
    "num_key_value_heads": 3, "head_dim": 4,
}  # fmt: skip


def layers(prefix: str, inside: Shapes, count: int = 3, outside: Shapes | None = None) -> Shapes:
    """So many layers alike, and tensors outside them."""
    shapes = {prefix.format(layer=i) + name: shape for i in range(count) for name, shape in inside.items()}
    return shapes | (outside or {})


def attention(q: str, k: str, v: str, o: str) -> Shapes:
    return {q: (H, H), k: (KV, H), v: (KV, H), o: (H, H)}


def gated(gate: str, up: str, down: str) -> Shapes:
    return {gate: (F, H), up: (F, H), down: (H, F)}


def drafted(shapes: Shapes, config: Config | None = CONFIG) -> Family:
    return parse_family(draft(shapes, config), "the draft")


def understood(shapes: Shapes, config: Config | None = CONFIG) -> Layout:
    """By its own draft, without a change."""
    family = drafted(shapes, config)
    layout = match(shapes, config, (family,), family.name)
    assert isinstance(layout, Layout), layout
    return layout


def asked(text: str, about: str) -> str:
    """What the comment in front of a line asks to check."""
    above, _, _ = text.partition(f"\n{about}")
    assert above != text, about
    comment = re.search(r"((?:^# .*\n?)+)\Z", above, re.M)
    return re.sub(r"\n# ", " ", comment[1]) if comment else ""


# Words and shapes: the tensor of each projection, typed by hand

LLAMA = {
    "Q": "self_attn.q_proj.weight", "K": "self_attn.k_proj.weight", "V": "self_attn.v_proj.weight",
    "O": "self_attn.o_proj.weight", "Gate": "mlp.gate_proj.weight", "Up": "mlp.up_proj.weight",
    "Down": "mlp.down_proj.weight",
}  # fmt: skip
BERT = {
    "Q": "attention.self.query.weight", "K": "attention.self.key.weight", "V": "attention.self.value.weight",
    "O": "attention.output.dense.weight", "Up": "intermediate.dense.weight", "Down": "output.dense.weight",
}  # fmt: skip
OPT = {
    "Q": "self_attn.q_proj.weight", "K": "self_attn.k_proj.weight", "V": "self_attn.v_proj.weight",
    "O": "self_attn.out_proj.weight", "Up": "fc1.weight", "Down": "fc2.weight",
}  # fmt: skip
META = {
    "Q": "attention.wq.weight", "K": "attention.wk.weight", "V": "attention.wv.weight",
    "O": "attention.wo.weight", "Gate": "feed_forward.w1.weight", "Up": "feed_forward.w3.weight",
    "Down": "feed_forward.w2.weight",
}  # fmt: skip
DISTILLED = {
    "Q": "attention.q_lin.weight", "K": "attention.k_lin.weight", "V": "attention.v_lin.weight",
    "O": "attention.out_lin.weight", "Up": "ffn.lin1.weight", "Down": "ffn.lin2.weight",
}  # fmt: skip
SEQUENTIAL = {
    "Q": "attn.to_q.weight", "K": "attn.to_k.weight", "V": "attn.to_v.weight", "O": "attn.to_out.0.weight",
    "Up": "ff.net.0.weight", "Down": "ff.net.2.weight",
}  # fmt: skip
CAMEL = {
    "Q": "SelfAttention.q.weight", "K": "SelfAttention.k.weight", "V": "SelfAttention.v.weight",
    "O": "SelfAttention.o.weight", "Gate": "DenseReluDense.wi_0.weight", "Up": "DenseReluDense.wi_1.weight",
    "Down": "DenseReluDense.wo.weight",
}  # fmt: skip
BARE = {"Q": "ask", "K": "key", "V": "val", "O": "out", "Gate": "ffn.g", "Up": "ffn.u", "Down": "ffn.d"}
SCHEMES = {
    "model.layers.{layer}.": LLAMA, "encoder.layer.{layer}.": BERT, "model.decoder.layers.{layer}.": OPT,
    "layers.{layer}.": META, "transformer.layer.{layer}.": DISTILLED, "blocks.{layer}.": SEQUENTIAL,
    "block_{layer}/": CAMEL, "stack/{layer}/": BARE,
}  # fmt: skip
SHAPES = {"Q": (H, H), "K": (KV, H), "V": (KV, H), "O": (H, H), "Gate": (F, H), "Up": (F, H), "Down": (H, F)}


@pytest.mark.parametrize(("prefix", "names"), SCHEMES.items(), ids=lambda value: str(value)[:12])
def test_each_projection_is_found_under_many_names(prefix: str, names: dict[str, str]) -> None:
    inside = {name: SHAPES[projection] for projection, name in names.items()}
    family = drafted(layers(prefix, inside, outside={"embed.weight": (50, H)}))
    assert family.layers == (prefix,)
    assert family.projections == names
    assert (family.stored, family.fused, family.stacks, family.experts) == ("out_in", (), {}, None)
    assert understood(layers(prefix, inside)).main.lacks == ()


@pytest.mark.parametrize(("model_type", "names"), [("llama", LLAMA), ("bert", BERT), ("opt", OPT)])
def test_the_registry_declares_these_names_as_well(model_type: str, names: dict[str, str]) -> None:
    family = next(family for family in families() if model_type in family.model_types)
    assert {str(name): as_names(told)[0] for name, told in family.projections.items()} == names


def in_memory(name: str) -> tuple[Shapes, dict[str, Any]]:
    """Names and shapes of a model of transformers, without its weights, and its config."""
    config = TINY[name].config()
    with torch.device("meta"):
        model = TINY[name].model(config)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}, config.to_dict()


@pytest.mark.parametrize("name", TINY)
def test_a_draft_of_every_tiny_model_agrees_with_what_is_declared(name: str) -> None:
    shapes, config = in_memory(name)
    family = drafted(shapes, config)
    known = next(family for family in families() if config["model_type"] in family.model_types)
    for projection, names in (family.projections if not known.parts else {}).items():
        assert set(as_names(names)) <= set(as_names(known.projections[projection])), projection
    assert {one.tensor for one in family.fused} <= {one.tensor for one in known.fused} or known.parts
    assert understood(shapes, config).main.lacks == ()


@pytest.mark.parametrize("names", [BARE, META], ids=["bare", "meta"])
def test_a_llama_under_other_names_audits_alike_without_a_change(
    audited: Callable[..., dict[str, Any]], cli: Any, tmp_path: Path, llama: Path, names: dict[str, str]
) -> None:
    ours = {theirs: names[projection] for projection, theirs in LLAMA.items()}
    tensors = {}
    for name, value in llama_tensors().items():
        hit = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
        tensors[f"trunk.{hit[1]}.{ours.get(hit[2], hit[2])}" if hit else name] = value
    folder = write_checkpoint(tmp_path / "own", tensors, llama_config(model_type="own"))
    (tmp_path / "own.toml").write_text(cli("families", "--draft", folder).stdout)
    report, usual = audited(folder, "--family-file", tmp_path / "own.toml"), audited(llama)
    assert report["findings"] == []
    assert report["projections"] == usual["projections"]
    assert report["coverage"]["unknown"] == []


# Experts


def mixture(inside: Shapes, experts: int = 4) -> Shapes:
    """Layers with attention and experts; {expert} in a name is a number."""
    named = {
        name.replace("{expert}", str(i)): shape for name, shape in inside.items() for i in range(experts)
    }
    return layers("model.layers.{layer}.", attention(*list(LLAMA.values())[:4]) | named)


def test_experts_are_counted_and_the_router_is_none() -> None:
    at = "block_sparse_moe.experts.{expert}."
    inside = gated(f"{at}w1.weight", f"{at}w3.weight", f"{at}w2.weight")
    shapes = mixture(inside | {"block_sparse_moe.gate.weight": (4, H)})
    family = drafted(shapes)
    assert family.experts is not None
    assert family.experts.projections == {
        "Gate": f"{at}w1.weight", "Up": f"{at}w3.weight", "Down": f"{at}w2.weight"
    }  # fmt: skip
    assert "which of the two is Gate" in asked(draft(shapes, CONFIG), "Gate = ")
    assert understood(shapes).unknown == ()
    known = next(family for family in families() if "mixtral" in family.model_types)
    assert known.experts is not None
    assert family.experts.projections == known.experts.projections


def test_experts_beside_shared_ones_and_behind_dense_layers() -> None:
    at = "mlp.experts.{expert}."
    inside = gated(f"{at}gate_proj.weight", f"{at}up_proj.weight", f"{at}down_proj.weight")
    shared = {"gate_proj": (60, H), "up_proj": (60, H), "down_proj": (H, 60)}
    inside |= {f"mlp.shared_experts.{name}.weight": shape for name, shape in shared.items()}
    shapes = mixture(inside | {"mlp.gate.weight": (4, H)})
    dense = gated(*list(LLAMA.values())[4:])
    first = {name: shape for name, shape in shapes.items() if "layers.0.mlp" not in name}
    first |= {
        f"model.layers.0.{name}": (shape if shape[0] == H else (50, H)) for name, shape in dense.items()
    }
    first["model.layers.0.mlp.down_proj.weight"] = (H, 50)
    layout = understood(first)
    assert layout.unknown == ()
    assert [lack.projection for lack in layout.main.lacks if lack.reason is None] == []
    assert drafted(first).projections["SharedUp"] == "mlp.shared_experts.up_proj.weight"
    assert drafted(first).projections["Up"] == "mlp.up_proj.weight"


@pytest.mark.parametrize("stored", ["out_in", "in_out"])
def test_experts_in_one_tensor_are_oriented_by_the_residual_stream(stored: str) -> None:
    both, down = (4, 2 * F, H), (4, H, F)
    if stored == "in_out":
        both, down = (4, H, 2 * F), (4, F, H)
    shapes = mixture({"mlp.experts.gate_up_proj": both, "mlp.experts.down_proj": down})
    family = drafted(shapes)
    assert family.experts is not None
    assert [(one.tensor, one.order, one.stored or family.stored) for one in family.experts.packed] == [
        ("mlp.experts.gate_up_proj", ("Gate", "Up"), stored),
        ("mlp.experts.down_proj", ("Down",), stored),
    ]
    assert 'repeat = "rows"' in asked(draft(shapes, CONFIG), 'order = ["Gate", "Up"]')
    assert understood(shapes).main.layers[0].slots["Down"].shape == (H, 4 * F)


# Fused, transposed, in two steps: what a person has to confirm


def gpt2(prefix: str = "h.{layer}.") -> Shapes:
    inside = {"attn.c_attn.weight": (H, 3 * H), "attn.c_proj.weight": (H, H), "attn.bias": (1, 1, 16, 16)}
    inside |= {"mlp.c_fc.weight": (H, F), "mlp.c_proj.weight": (F, H), "ln_1.weight": (H,), "ln_1.bias": (H,)}
    return layers(prefix, inside, outside={"wte.weight": (50, H), "wpe.weight": (16, H)})


def test_transposed_weights_a_fused_tensor_and_other_keys() -> None:
    config = {"model_type": "own", "n_layer": 3, "n_embd": H, "n_head": 3}
    text, family = draft(gpt2(), config), drafted(gpt2(), config)
    assert family.stored == "in_out"
    assert family.projections == {
        "O": "attn.c_proj.weight", "Up": "mlp.c_fc.weight", "Down": "mlp.c_proj.weight"
    }  # fmt: skip
    assert [(one.tensor, one.order) for one in family.fused] == [("attn.c_attn.weight", ("Q", "K", "V"))]
    assert "the order Q, K, V" in asked(text, 'order = ["Q", "K", "V"]')
    assert "head by head" in asked(text, 'order = ["Q", "K", "V"]')
    keys = family.config
    assert (keys.layers, keys.hidden, keys.heads) == (("n_layer",), ("n_embd",), ("n_head",))
    assert family.ignore == {
        "embeddings": ("wte.weight", "wpe.weight"), "causal mask": ("h.*.attn.bias",)
    }  # fmt: skip
    layout = understood(gpt2(), config)
    assert layout.unknown == ()
    assert layout.main.layers[0].slots["Up"].shape == (F, H)


def test_a_fused_tensor_needs_no_heads_where_its_thirds_are_alike() -> None:
    text = draft(gpt2(), None)
    assert "no queries are grouped" in asked(text, "equal = true")
    assert understood(gpt2(), None).main.layers[2].slots["V"].shape == (H, H)


def test_grouped_keys_that_no_key_of_the_config_tells_are_counted_by_rows() -> None:
    inside = {"attn.qkv.weight": (H + 2 * 4, H), "attn.proj.weight": (H, H)}
    inside |= {"mlp.fc1.weight": (F, H), "mlp.fc2.weight": (H, F)}
    config = {"model_type": "own", "depth": 3, "dim": H, "heads": 6}
    shapes = layers("blocks.{layer}.", inside)
    assert "is there a key" in asked(draft(shapes, config), "kv_heads = [{ value = 1 }]")
    assert understood(shapes, config).main.layers[0].slots["K"].shape == (4, H)


@pytest.mark.parametrize(
    ("name", "order"),
    [("gate_up_proj", ("Gate", "Up")), ("up_gate_proj", ("Up", "Gate")), ("Wi", ("Gate", "Up"))],
)
def test_twice_as_many_rows_as_down_reads_are_gate_and_up(name: str, order: tuple[str, ...]) -> None:
    inside = attention(*list(LLAMA.values())[:4]) | {
        f"mlp.{name}.weight": (2 * F, H), "mlp.Wo.weight": (H, F)
    }  # fmt: skip
    shapes = layers("layers.{layer}.", inside)
    assert [(one.tensor, one.order) for one in drafted(shapes).fused] == [(f"mlp.{name}.weight", order)]
    assert "halves or alternate" in asked(draft(shapes, CONFIG), f"order = {json.dumps(order)}")


def test_latent_attention_is_a_product() -> None:
    inside = {
        "self_attn.q_a_proj.weight": (10, H), "self_attn.q_b_proj.weight": (36, 10),
        "self_attn.q_a_layernorm.weight": (10,), "self_attn.kv_a_proj_with_mqa.weight": (14, H),
        "self_attn.kv_b_proj.weight": (33, 12), "self_attn.kv_a_layernorm.weight": (12,),
        "self_attn.o_proj.weight": (H, 15),
    }  # fmt: skip
    config = CONFIG | {"num_attention_heads": 3, "num_key_value_heads": 3, "v_head_dim": 5}
    layout = understood(layers("layers.{layer}.", inside), config)
    shapes = {str(name): place.shape for name, place in layout.main.layers[0].slots.items()}
    assert shapes == {"Q": (36, H), "K": (18 + 6, H), "V": (15, H), "O": (H, 15)}
    assert (
        drafted(layers("layers.{layer}.", inside), config).low_rank[1].gain
        == "self_attn.kv_a_layernorm.weight"
    )


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        (
            {"input_layernorm": 1, "post_attention_layernorm": 1},
            ("input_layernorm", "post_attention_layernorm"),
        ),
        ({"ln_1": 2, "ln_2": 2}, ("ln_1", "ln_2")),
        ({"input_layernorm": 2}, ("input_layernorm", "input_layernorm")),
        ({"post_attention_layernorm": 1, "post_feedforward_layernorm": 1}, (None, None)),
        ({"attention.output.LayerNorm": 2, "output.LayerNorm": 2}, (None, None)),
        (
            {"input_layernorm": 1, "post_attention_layernorm": 1, "pre_feedforward_layernorm": 1},
            ("input_layernorm", "pre_feedforward_layernorm"),
        ),
    ],
)  # fmt: skip
def test_norms_in_front_where_names_tell(
    norms: dict[str, int], expected: tuple[str | None, str | None]
) -> None:
    """With a bias they centre; each is to be checked."""
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    for name, tensors in norms.items():
        inside |= {f"{name}.{kind}": (H,) for kind in ("weight", "bias")[:tensors]}
    text = draft(layers("layers.{layer}.", inside), CONFIG)
    found = drafted(layers("layers.{layer}.", inside)).norms
    for norm, name in zip((found.attention, found.ffn), expected, strict=True):
        if name is None:
            assert norm is None
        else:
            assert norm is not None
            assert norm.weight == (f"{name}.weight",)
            assert norm.kind == ("rms", "layer")[norms[name] - 1]
            assert "in front" in asked(text, f'weight = ["{name}.weight"]')


# What lies around, and what could not be placed


def test_an_encoder_beside_a_decoder_is_a_stack_and_cross_attention_is_asked_about() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    cross = {f"encoder_attn.{name}_proj.weight": (H, H) for name in ("q", "k", "v", "out")}
    shapes = layers("decoder.layers.{layer}.", inside | cross) | layers("encoder.layers.{layer}.", inside, 2)
    config = {"model_type": "own", "d_model": H, "encoder_layers": 2, "decoder_layers": 3, "head_dim": 4}
    config |= {"decoder_attention_heads": 6, "encoder_attention_heads": 6, "num_key_value_heads": 3}
    family = drafted(shapes, config)
    assert family.layers == ("decoder.layers.{layer}.",)
    assert family.stacks["encoder"].layers == ("encoder.layers.{layer}.",)
    assert family.stacks["encoder"].config.layers == ("encoder_layers",)
    assert family.stacks["encoder"].config.heads == ("encoder_attention_heads",)
    assert family.config.heads == ("decoder_attention_heads",)
    assert family.stacks["encoder"].projections == family.projections == LLAMA
    assert "#   decoder.layers.{layer}.encoder_attn.q_proj.weight [24, 24]  cross-attention" in draft(
        shapes, config
    )
    layout = understood(shapes, config)
    assert [(stack.name, len(stack.layers)) for stack in layout.stacks] == [("", 3), ("encoder", 2)]
    assert set(layout.unknown) == {name for name in shapes if "encoder_attn" in name}


@pytest.mark.parametrize(
    "name",
    ["encoder_attn.q_proj", "cross_attn.q_proj", "layer.1.EncDecAttention.q", "crossattention.self.query"],
)
def test_cross_attention_is_no_second_attention(name: str) -> None:
    inside = {told: SHAPES[projection] for projection, told in LLAMA.items()} | {f"{name}.weight": (H, H)}
    shapes = layers("model.layers.{layer}.", inside)
    assert drafted(shapes).projections == LLAMA
    assert f"{name}.weight [24, 24]  cross-attention" in draft(shapes, CONFIG)


def test_of_two_that_claim_a_layer_s_projection_one_is_listed() -> None:
    inside = {told: SHAPES[projection] for projection, told in LLAMA.items()}
    shapes = layers("model.layers.{layer}.", inside | {"self_attn.indexer.wk.weight": (6, H)})
    assert drafted(shapes).projections == LLAMA
    assert "#   model.layers.{layer}.self_attn.indexer.wk.weight [6, 24]" in draft(shapes, CONFIG)
    assert understood(shapes).main.layers[0].slots["K"].shape == (KV, H)


def test_other_names_in_other_layers_are_alternatives() -> None:
    inside = {told: SHAPES[projection] for projection, told in LLAMA.items()}
    shapes = layers("model.layers.{layer}.", inside)
    shapes = {
        name.replace("mlp", "feed_forward") if ".2." in name else name: shape
        for name, shape in shapes.items()
    }
    assert drafted(shapes).projections["Down"] == ("mlp.down_proj.weight", "feed_forward.down_proj.weight")
    assert understood(shapes).main.lacks == ()


def test_a_tower_of_another_width_is_left_out_and_asked_about() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    tower = {"attn.qkv.weight": (54, 18), "attn.proj.weight": (18, 18), "mlp.fc1.weight": (30, 18)}
    shapes = layers("text.layers.{layer}.", inside) | layers("vision.blocks.{layer}.", tower)
    text = draft(shapes, CONFIG)
    assert "[parts.NAME]" in asked(text, '"another stack"')
    layout = understood(shapes)
    assert layout.unknown == ()
    assert {rule for name, rule in layout.ignored() if name.startswith("vision.")} == {"another stack"}


def test_the_config_of_the_stack_is_asked_among_several() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    config = {"model_type": "own", "hidden_size": 99, "llm": CONFIG, "vision": CONFIG | {"hidden_size": 18}}
    family = drafted(layers("llm.layers.{layer}.", inside), config)
    assert family.config.nested == ("llm",)
    assert understood(layers("llm.layers.{layer}.", inside), config).main.hidden_size == H


def test_what_lies_outside_the_layers_is_ignored_by_telling_rules() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    outside = {
        "model.embed_tokens.weight": (50, H), "lm_head.weight": (50, H), "odd[1]*.weight": (3, 3),
        "pooler.dense.weight": (H, H), "model.norm.weight": (H,),
    }  # fmt: skip
    outside |= {f"adapter.{i}.{j}.weight": (2, 2) for i in "abcd" for j in "xy"}
    shapes = layers("model.layers.{layer}.", inside, outside=outside)
    assert drafted(shapes).ignore == {
        "embeddings": ("model.embed_tokens.weight",),
        "pooler": ("pooler.dense.weight",),
        "output head": ("lm_head.weight",),
        "outside the layers": ("odd[[]1][*].weight", "adapter.*"),
    }
    assert "what are these?" in asked(draft(shapes, CONFIG), '"outside the layers"')
    assert understood(shapes).unknown == ()


def test_what_could_not_be_placed_is_listed() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()} | {"zebra.weight": (7, 9)}
    shapes = layers("model.layers.{layer}.", inside)
    assert "\n#   model.layers.{layer}.zebra.weight [7, 9]\n" in draft(shapes, CONFIG)
    assert set(understood(shapes).unknown) == {name for name in shapes if "zebra" in name}


def test_layers_that_lack_attention_are_asked_about() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    shapes = layers("model.layers.{layer}.", inside)
    shapes = {name: shape for name, shape in shapes.items() if "layers.1.self_attn" not in name}
    assert "1 of 3 layers have no Q" in draft(shapes, CONFIG)


def test_a_config_that_says_another_number_of_layers_is_asked_about() -> None:
    inside = {name: SHAPES[projection] for projection, name in LLAMA.items()}
    text = draft(layers("model.layers.{layer}.", inside), CONFIG | {"num_hidden_layers": 12})
    assert "config.json says 12 layers, and 3 have tensors" in text


def test_a_real_model_of_names_that_no_library_uses(
    real: Callable[[str], Path], cli: Any, tmp_path: Path
) -> None:
    folder = real("kwt1")
    assert cli(folder).exit_code == 3
    (tmp_path / "kwt.toml").write_text(cli("families", "--draft", folder).stdout)
    report = json.loads(cli(folder, "--family-file", tmp_path / "kwt.toml", "--json").stdout)
    assert {name: found["layers"] for name, found in report["projections"].items()} == {
        name: list(range(12)) for name in ("Q", "K", "V", "O", "OV", "Up", "Down")
    }
    assert report["projections"]["Up"]["shape"] == [256, 64]
    assert report["coverage"]["unknown"] == []


# Whatever the names are


@pytest.mark.parametrize("config", [None, {}, CONFIG, {"model_type": 3, "architectures": "x"}])
@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"": (1,)},
        {"weight": (2, 2)},
        layers("a.{layer}.", {f"nonsense{i}.weight": (5, 7) for i in "abcd"}),
        {"h.{layer}.0.q": (2, 2), "h.{expert}.1.q": (2, 2)},
        {f"h.{i}.x.{j}.\ud800\n\"'\\{{": (2, 2) for i in range(4) for j in range(4)},
        {f"h.{i}.experts.{j}": (3, 3) for i in range(3) for j in range(3)},
        {f"h.{i}.experts.{i}.experts.{j}.up.weight": (3, 3) for i in range(3) for j in range(3)},
    ],
)
def test_a_draft_is_a_declaration_whatever_it_is_of(shapes: Shapes, config: Config | None) -> None:
    family = drafted(shapes, config)
    assert family.declared
    assert draft(shapes, config) == draft(dict(shapes), config)


def test_nothing_recognised_is_said() -> None:
    assert "nothing was recognised" in asked(draft({}, None), 'Q = "q"')


PIECES = (
    "layers", "0", "1", "2", "experts", "attn", "mlp", "q_proj", "k", "value", "o_proj", "qkv", "w1", "w2",
    "c_attn", "gate_up_proj", "down", "q_a_proj", "q_b_proj", "kv_b_proj", "norm1", "weight", "bias",
    "{layer}", "é", "*", "[", "²",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(".".join) | st.text(max_size=12)
SIZES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 12]), max_size=4).map(tuple)
NUMBERS = st.none() | st.integers(-2, 12) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)
CONFIGS = st.none() | st.dictionaries(
    st.sampled_from([*CONFIG, "n_embd", "dim", "n_head", "text_config", "architecture"]),
    NUMBERS | st.dictionaries(st.sampled_from([*CONFIG]), NUMBERS, max_size=3),
    max_size=5,
)


@given(st.dictionaries(NAMES, SIZES, max_size=30), CONFIGS)
def test_any_names_shapes_and_config_make_a_declaration(shapes: Shapes, config: Config | None) -> None:
    """And one that matching takes, too."""
    family = drafted(shapes, config)
    match(shapes, config, (family,), family.name)
