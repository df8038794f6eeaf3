"""Mistral: Llama with a sliding window on every layer, unless sliding_window is null (v0.2, v0.3, Nemo)."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,  # a missing key does have a window
}


def has_layers_of_both_kinds(values) -> bool:
    """Whether a config.json is one of Ministral."""
    kinds = values.get("layer_types")
    return isinstance(kinds, list) and FULL in kinds and SLIDING in kinds


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    layers = keys.count("num_hidden_layers", llama.MOST_LAYERS)
    kind = FULL if keys.get("sliding_window") is None else SLIDING
    if keys.get("layer_types") not in (None, [kind] * layers):
        keys.refuse("layer_types", f"{kind!r} for every layer")
    return llama.read_common(keys) | {"windows": (keys.optional_count("sliding_window"),) * layers}


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return llama.write_common(config) | {"sliding_window": config.windows[0]}


FAMILY = replace(
    llama.FAMILY,
    model_type="mistral",
    architecture="MistralForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
