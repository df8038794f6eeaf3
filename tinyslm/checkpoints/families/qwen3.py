"""Qwen3: Llama with an independent head size and an RMS norm on each query and key head (QK norm)."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_switched_windows, write_switched_windows
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "bos_token_id": None,
    "eos_token_id": None,
}
HEAD_NORMS = {
    "layers.{i}.attention.query_norm": "model.layers.{i}.self_attn.q_norm",
    "layers.{i}.attention.key_norm": "model.layers.{i}.self_attn.k_norm",
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""

    def kind(layer):
        full = keys.count("max_window_layers") if keys.get("max_window_layers") else 0  # layers before the first window
        return SLIDING if layer >= full else FULL

    windows = read_switched_windows(keys, kind)
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
