"""What each layer sees, in config.json: "layer_types" names a kind per layer, "sliding_window" is the window of one."""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

FULL, SLIDING = "full_attention", "sliding_attention"


def read_windows(keys: ConfigReader, layers: int, default) -> tuple:
    """The window of each layer, None where it sees everything. default(i): the kind of layer i where no key says it."""
    kinds = keys.get("layer_types")
    if kinds is None:
        kinds = [default(i) for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in (FULL, SLIDING) for kind in kinds):
        keys.refuse("layer_types", f"{FULL!r} or {SLIDING!r} for each of {layers} layers")
    window = keys.optional_count("sliding_window")
    if window is None and keys.get("layer_types") is not None and SLIDING in kinds:
        keys.refuse("sliding_window", f"the window of the layers of type {SLIDING!r}")
    return tuple(window if kind == SLIDING else None for kind in kinds)


def write_windows(config: DecoderConfig) -> dict:
    """The reverse. Where no layer has a window the number means nothing, but transformers wants one."""
    return {
        "layer_types": [FULL if window is None else SLIDING for window in config.windows],
        "sliding_window": next(filter(None, config.windows), config.max_position_embeddings),
    }
