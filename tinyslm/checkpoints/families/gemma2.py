"""Gemma 2: Gemma with post-norms on the sublayer outputs, soft-capped attention scores and logits, and a sliding window
in every second layer."""

from dataclasses import replace

from tinyslm.checkpoints.families import gemma, llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows, write_windows
from tinyslm.models import DecoderConfig

DEFAULTS = gemma.DEFAULTS | {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
}
FIELDS = gemma.FIELDS | {
    "activation": ("hidden_activation", gemma.read_activation, "gelu_pytorch_tanh"),
    "logit_softcap": ("final_logit_softcapping", ConfigReader.optional_factor, 30.0),
}
POST_NORMS = {
    "layers.{i}.attention_output_norm": "model.layers.{i}.post_attention_layernorm",
    "layers.{i}.feed_forward_norm": "model.layers.{i}.pre_feedforward_layernorm",
    "layers.{i}.feed_forward_output_norm": "model.layers.{i}.post_feedforward_layernorm",
}


def read_shared(keys: ConfigReader) -> dict:
    """The fields that are not in FIELDS and that Gemma 2 and 3 have."""
    scale = keys.factor("query_pre_attn_scalar") ** -0.5
    return gemma.read_shared(keys) | {"sublayer_output_norm": True, "attention_scale": scale}


def write_shared(config: DecoderConfig) -> dict:
    """The keys that are not in FIELDS and that Gemma 2 and 3 have."""
    return (
        gemma.write(config)
        | write_windows(config)
        | {
            "query_pre_attn_scalar": round(config.scale**-2),
            "attn_logit_softcapping": config.attention_softcap,
        }
    )


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    windows = read_windows(keys, lambda layer: FULL if layer % 2 else SLIDING)
    cap = {"attention_softcap": keys.optional_factor("attn_logit_softcapping")}
    return llama.read_ropes(keys) | read_shared(keys) | windows | cap


FAMILY = replace(
    llama.FAMILY,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.FAMILY.tensors | POST_NORMS,
    fields=FIELDS,
    read=read,
    write=write_shared,
)
