"""Gemma 2: Gemma whose branches are normalized once more before they are added, with soft caps on scores and logits,
and a window on every second layer."""

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
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}
BRANCH_NORMS = {
    "layers.{i}.attention_output_norm": "model.layers.{i}.post_attention_layernorm",
    "layers.{i}.feed_forward_norm": "model.layers.{i}.pre_feedforward_layernorm",
    "layers.{i}.feed_forward_output_norm": "model.layers.{i}.post_feedforward_layernorm",
}


def read_with_branch_norms(keys: ConfigReader) -> dict:
    """The fields that Gemma 2 and 3 share; windows and ropes are each generation's own."""
    cap = keys.optional_number("final_logit_softcapping")
    scale = keys.number("query_pre_attn_scalar") ** -0.5
    common = gemma.read_like_gemma(keys, "hidden_activation")
    return common | {"sublayer_output_norm": True, "attention_scale": scale, "logit_softcap": cap}


def write_with_branch_norms(config: DecoderConfig) -> dict:
    """The reverse."""
    values = gemma.write(config) | {
        "hidden_activation": config.activation,
        "query_pre_attn_scalar": round(config.scale**-2),
        "final_logit_softcapping": config.logit_softcap,
        "attn_logit_softcapping": config.attention_softcap,
    }
    del values["hidden_act"]
    return values


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    common = read_with_branch_norms(keys)
    return common | {
        "windows": read_windows(keys, common["num_hidden_layers"], lambda layer: FULL if layer % 2 else SLIDING),
        "attention_softcap": keys.optional_number("attn_logit_softcapping"),
    }


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return write_with_branch_norms(config) | write_windows(config)


FAMILY = replace(
    llama.FAMILY,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.FAMILY.tensors | BRANCH_NORMS,
    read=read,
    write=write,
)
