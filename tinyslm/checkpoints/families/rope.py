"""Rotary positions in config.json, in the current and the old layout.

Current: "rope_parameters": {"rope_theta": ..., "rope_type": ..., ...}. Old: "rope_theta" at the top level, and
"rope_scaling": null or {"type" or "rope_type": ..., ...}.
"""

import math

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.ops import Rope
from tinyslm.ops.rotary import longrope_attention_factor

SCALINGS = ("default", "linear", "llama3", "longrope")


def read_rope(keys: ConfigReader, head_dim: int) -> Rope:
    """The rotation in a config.json of either layout.

    Raises ConfigError for a scaling that is not supported, such as "yarn".
    """
    parameters = keys.table("rope_parameters") or keys.table("rope_scaling") or ConfigReader({}, {}, keys.where)
    for shared in ("rope_theta", "partial_rotary_factor"):
        parameters.values.setdefault(shared, keys.get(shared))
    if "rope_type" not in parameters.values:
        parameters.values["rope_type"] = parameters.values.get("type", "default")
    scaling = parameters.choice("rope_type", SCALINGS)

    dimension = head_dim
    if parameters.get("partial_rotary_factor") is not None:
        dimension = int(head_dim * parameters.number("partial_rotary_factor"))
    if dimension % 2 or not 0 < dimension <= head_dim:
        keys.refuse("head_dim", f"a size with an even number of rotary dimensions, at most {head_dim}, not {dimension}")
    settings = {"theta": parameters.number("rope_theta"), "dimension": dimension, "scaling": scaling}
    if scaling == "default":
        return Rope(**settings)
    if scaling == "linear":
        return Rope(**settings, factor=parameters.number("factor"))
    if keys.get("original_max_position_embeddings") is not None:  # the top-level key has priority
        parameters.values["original_max_position_embeddings"] = keys.get("original_max_position_embeddings")
    settings["original_length"] = parameters.count("original_max_position_embeddings")
    if settings["original_length"] == 1:
        parameters.refuse("original_max_position_embeddings", "an integer from 2")
    if scaling == "llama3":
        return _read_llama3(parameters, settings)
    return _read_longrope(parameters, settings, keys.count("max_position_embeddings"))


def _read_llama3(parameters, settings):
    low, high = parameters.number("low_freq_factor"), parameters.number("high_freq_factor")
    if low >= high:
        parameters.refuse("high_freq_factor", f"more than low_freq_factor, which is {low}")
    factor = parameters.number("factor")
    return Rope(**settings, factor=factor, low_frequency_factor=low, high_frequency_factor=high)


def _read_longrope(parameters, settings, max_length):
    pairs = settings["dimension"] // 2
    if parameters.get("attention_factor") is not None:
        attention_factor = parameters.number("attention_factor")
    else:
        original = settings["original_length"]
        extension = max_length / original if parameters.get("factor") is None else parameters.number("factor")
        attention_factor = longrope_attention_factor(extension, original)
    return Rope(
        **settings,
        short_factors=parameters.numbers("short_factor", pairs),
        long_factors=parameters.numbers("long_factor", pairs),
        attention_factor=attention_factor,
    )


def write_rope(rope: Rope, head_dim: int) -> dict:
    """The value of "rope_parameters", in the current layout."""
    parameters = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.dimension != head_dim:
        factor = rope.dimension / head_dim
        exact = int(head_dim * factor) == rope.dimension  # as `read_rope` rounds
        parameters["partial_rotary_factor"] = factor if exact else math.nextafter(factor, 1)
    if rope.scaling in ("linear", "llama3"):
        parameters["factor"] = rope.factor
    if rope.scaling == "llama3":
        parameters["low_freq_factor"] = rope.low_frequency_factor
        parameters["high_freq_factor"] = rope.high_frequency_factor
    if rope.scaling in ("llama3", "longrope"):
        parameters["original_max_position_embeddings"] = rope.original_length
    if rope.scaling == "longrope":
        parameters["short_factor"] = list(rope.short_factors)
        parameters["long_factor"] = list(rope.long_factors)
        parameters["attention_factor"] = rope.attention_factor
    return parameters
