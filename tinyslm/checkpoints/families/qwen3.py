"""Qwen3: Llama with an independent head size and an RMS norm on each query and key head (QK norm)."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, qwen2
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import write_switched_windows
from tinyslm.models import DecoderConfig

DEFAULTS = qwen2.DEFAULTS | {"head_dim": 128}
HEAD_NORMS = {
    "layers.{i}.attention.query_norm": "model.layers.{i}.self_attn.q_norm",
    "layers.{i}.attention.key_norm": "model.layers.{i}.self_attn.k_norm",
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    windows = qwen2.read_last_windows(keys)
    return llama.read_ropes(keys) | llama.read_attention_bias(keys) | windows | {"query_key_norm": True}


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    bias = {"attention_bias": config.attention_bias}
    return llama.write_ropes(config) | bias | write_switched_windows(config)


FAMILY = replace(
    llama.FAMILY,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.FAMILY.tensors | HEAD_NORMS,
    read=read,
    write=write,
)
