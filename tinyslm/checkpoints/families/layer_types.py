"""Attention window of each layer in config.json: "layer_types" holds a kind per layer, "sliding_window" the size."""

from collections.abc import Callable

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

FULL, SLIDING = "full_attention", "sliding_attention"


def read_windows(keys: ConfigReader, default: Callable[[int], str]) -> dict:
    """The window of each layer, None for full attention. default(i): the kind of layer i without "layer_types"."""
    layers = keys.layers("num_hidden_layers")
    kinds = keys.get("layer_types")
    if kinds is None:
        kinds = [default(i) for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in (FULL, SLIDING) for kind in kinds):
        keys.refuse("layer_types", f"{FULL!r} or {SLIDING!r} for each of {layers} layers")
    window = keys.optional_count("sliding_window")
    if window is None and keys.get("layer_types") is not None and SLIDING in kinds:
        keys.refuse("sliding_window", f"the window of the layers of type {SLIDING!r}")
    return {"windows": tuple(window if kind == SLIDING else None for kind in kinds)}


def write_windows(config: DecoderConfig) -> dict:
    """Keys of config.json for the windows, the reverse of `read_windows`.

    transformers requires a number for the window even if no layer uses it.
    """
    return {
        "layer_types": [FULL if window is None else SLIDING for window in config.windows],
        "sliding_window": next(filter(None, config.windows), config.max_position_embeddings),
    }


def read_switched_windows(keys: ConfigReader, default: Callable[[int], str]) -> dict:
    """As `read_windows`; all layers have full attention unless "use_sliding_window" is true."""
    return read_windows(keys, default) if keys.flag("use_sliding_window") else {}


def write_switched_windows(config: DecoderConfig) -> dict:
    """Keys of config.json for the windows, the reverse of `read_switched_windows`; null if no layer has a window."""
    window = next(filter(None, config.windows), None)
    return write_windows(config) | {"use_sliding_window": window is not None, "sliding_window": window}


def read_uniform_window(keys: ConfigReader) -> dict:
    """One window for all layers, None for full attention."""
    return {"windows": (keys.optional_count("sliding_window"),) * keys.layers("num_hidden_layers")}
