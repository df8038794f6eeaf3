"""Qwen3: Llama with heads of a size of their own, and an RMS norm on each query and key head."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows, write_windows
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
    """config.json -> fields of DecoderConfig."""
    common = llama.read_common(keys)
    layers, windows = common["num_hidden_layers"], None
    if keys.flag("use_sliding_window"):
        first = keys.count("max_window_layers") if keys.get("max_window_layers") else 0  # 0: every layer has a window
        windows = read_windows(keys, layers, lambda layer: SLIDING if layer >= first else FULL)
    return common | llama.read_attention_bias(keys) | {"query_key_norm": True, "windows": windows or ()}


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return (
        llama.write_common(config)
        | {"attention_bias": config.attention_bias}
        | write_windows(config)
        | {"use_sliding_window": any(config.windows), "sliding_window": next(filter(None, config.windows), None)}
    )


FAMILY = replace(
    llama.FAMILY,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.FAMILY.tensors | HEAD_NORMS,
    read=read,
    write=write,
)
