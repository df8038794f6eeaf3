"""Mistral: Llama with sliding-window attention in all layers.

With `sliding_window` null in config.json (v0.2, v0.3, Nemo), all layers have full attention.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_uniform_window
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,  # a missing key means this window, null means none
}


def has_full_and_sliding_layers(values) -> bool:
    """Whether a config.json has both full and sliding-window layers, as in Ministral."""
    kinds = values.get("layer_types")
    return isinstance(kinds, list) and FULL in kinds and SLIDING in kinds


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    layers = keys.layers("num_hidden_layers")
    kind = FULL if keys.get("sliding_window") is None else SLIDING
    if keys.get("layer_types") not in (None, [kind] * layers):
        keys.refuse("layer_types", f"{kind!r} for every layer")
    return llama.read_ropes(keys) | read_uniform_window(keys)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    return llama.write_ropes(config) | {"sliding_window": config.windows[0]}


FAMILY = replace(
    llama.FAMILY,
    model_type="mistral",
    architecture="MistralForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
