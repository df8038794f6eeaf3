"""SmolLM3: Llama without rotary positions in every fourth layer (NoPE).

"layer_types" chooses the layers with a window. Without it, those are the NoPE layers if "use_sliding_window" is true.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows, write_switched_windows
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
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    rotary = _rotary_layers(keys)
    ropes = tuple(r if has else None for r, has in zip(llama.read_ropes(keys)["ropes"], rotary, strict=True))
    switched = keys.flag("use_sliding_window")
    windows = read_windows(keys, lambda layer: SLIDING if switched and not rotary[layer] else FULL)
    return llama.read_biases(keys) | windows | {"ropes": ropes}


def _rotary_layers(keys):
    """[whether a layer has rotary positions]. In "no_rope_layers", 1 is a layer with and 0 a layer without them."""
    flags, layers = keys.get("no_rope_layers"), keys.layers("num_hidden_layers")
    if flags is None:
        interval = keys.count("no_rope_layer_interval")
        return [(layer + 1) % interval != 0 for layer in range(layers)]
    if not isinstance(flags, list) or len(flags) != layers or any(flag not in (0, 1) for flag in flags):
        keys.refuse("no_rope_layers", f"0 or 1 for each of {layers} layers")
    return [flag == 1 for flag in flags]


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    rotary = {"no_rope_layers": [0 if rope is None else 1 for rope in config.ropes]}
    return llama.write_ropes(config) | llama.write_biases(config) | write_switched_windows(config) | rotary


FAMILY = replace(
    llama.FAMILY,
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
