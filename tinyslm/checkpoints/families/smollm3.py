"""SmolLM3: Llama in which every fourth layer does not know positions ("NoPE")."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows, write_windows
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rope_theta": 2e6,
    "no_rope_layers": None,
    "no_rope_layer_interval": 4,
    "use_sliding_window": False,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "pad_token_id": 128004,
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    common = llama.read_common(keys)
    layers = common["num_hidden_layers"]
    knows = _layers_that_know_positions(keys, layers)
    windows = ()
    if keys.flag("use_sliding_window"):
        windows = read_windows(keys, layers, lambda layer: FULL if knows[layer] else SLIDING)
    return (
        common
        | llama.read_biases(keys)
        | {
            "ropes": tuple(rope if known else None for rope, known in zip(common["ropes"], knows, strict=True)),
            "windows": windows,
        }
    )


def _layers_that_know_positions(keys, layers):
    """no_rope_layers holds 1 for a layer with positions, and 0 for one without."""
    flags = keys.get("no_rope_layers")
    if flags is None:
        interval = keys.count("no_rope_layer_interval")
        return [(layer + 1) % interval != 0 for layer in range(layers)]
    if not isinstance(flags, list) or len(flags) != layers or any(flag not in (0, 1) for flag in flags):
        keys.refuse("no_rope_layers", f"0 or 1 for each of {layers} layers")
    return [flag == 1 for flag in flags]


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return (
        llama.write_common(config)
        | llama.write_biases(config)
        | write_windows(config)
        | {
            "use_sliding_window": any(config.windows),
            "sliding_window": next(filter(None, config.windows), None),
            "no_rope_layers": [0 if rope is None else 1 for rope in config.ropes],
        }
    )


FAMILY = replace(
    llama.FAMILY,
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
