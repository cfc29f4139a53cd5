"""config.json of a run: transformers' words for the model, and all that its numbers follow from."""

from dataclasses import asdict
from typing import Any

from audit.train.text import Tokens
from audit.train.transformer.ablations import Activation, TransformerAblation
from audit.train.transformer.model import EPS, THETA
from audit.train.transformer.settings import Run, Settings
from registry.experiments import ABLATED_LLAMA, LLAMA, QWEN3

HIDDEN_ACT: dict[Activation, str] = {"silu": "silu", "relu": "relu", "gelu": "gelu", "none": "linear"}
"""What transformers calls the activations."""


def config_of(run: Run, tokens: Tokens, settings: Settings) -> dict[str, Any]:
    """As `LlamaConfig` or `Qwen3Config` reads it, where transformers has a model that computes the same."""
    shape = settings.shape(tokens.vocabulary)
    model_type, architecture = _model(run.ablation)
    told = asdict(run.ablation)
    del told["isolates"]
    return {
        **({"architectures": [architecture]} if architecture else {}),
        "model_type": model_type,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": run.ablation.kv_heads or shape.heads,
        "head_dim": shape.head,
        "hidden_act": HIDDEN_ACT[run.ablation.activation],
        "max_position_embeddings": shape.context,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "tie_word_embeddings": run.ablation.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": settings.init_std,
        "dtype": "float32",
        "ablation": told,
        "seed": run.seed,
        "dataset": tokens.dataset,
        "dataset_sha256": tokens.digest,
        "tokenizer": tokens.tokenizer,
        "training": settings.identity,
    }


def _model(ablation: TransformerAblation) -> tuple[str, str | None]:
    """The model type, and the class in transformers; None where it has none that computes the same."""
    if not ablation.in_transformers:
        return ABLATED_LLAMA, None
    return (QWEN3, "Qwen3ForCausalLM") if ablation.qk_norm else (LLAMA, "LlamaForCausalLM")
