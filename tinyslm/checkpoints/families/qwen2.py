"""Qwen2 and Qwen2.5: Llama with biases of the query, key and value projections."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_switched_windows, write_switched_windows
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "bos_token_id": None,
    "eos_token_id": None,
}


def read_last_windows(keys: ConfigReader) -> dict:
    """The windows. Without "layer_types", the first "max_window_layers" layers have full attention."""

    def kind(layer):
        full = keys.count("max_window_layers") if keys.get("max_window_layers") else 0  # layers before the first window
        return SLIDING if layer >= full else FULL

    return read_switched_windows(keys, kind)


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    return llama.read_ropes(keys) | read_last_windows(keys) | {"attention_bias": True}


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    return llama.write_ropes(config) | write_switched_windows(config)


FAMILY = replace(
    llama.FAMILY,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
