"""Rotary positions in config.json, in the current and the old layout.

Current: "rope_parameters": {"rope_theta": ..., "rope_type": ..., ...}. Old: "rope_theta" at the top level, and
"rope_scaling": null or {"type" or "rope_type": ..., ...}.

The context of a model with the scaling "dynamic" is its original length, at which the scaling begins. Longer sequences
need a configuration with a larger `max_position_embeddings`.
"""

import math

from tinyslm.checkpoints.families.config_reader import ConfigReader, FieldTable, read_fields, write_fields
from tinyslm.models.config_checks import ORIGINAL_CONTEXT
from tinyslm.ops import Rope
from tinyslm.ops.rotary import longrope_attention_factor


def read_original_length(keys: ConfigReader, key: str) -> int:
    """The context length before the scaling."""
    return keys.in_range(key, ORIGINAL_CONTEXT)


def read_factors(keys: ConfigReader, key: str) -> tuple[float, ...]:
    """One longrope factor for each pair of rotary dimensions."""
    return keys.factors(key, keys.get("dimension") // 2)


def read_attention_factor(keys: ConfigReader, key: str) -> float:
    """The factor of longrope's attention scores. By default it is computed from the extension of the context."""
    if keys.get(key) is not None:
        return keys.factor(key)
    original = read_original_length(keys, "original_max_position_embeddings")
    extension = keys.optional_factor("factor") or keys.count(CONTEXT) / original
    return longrope_attention_factor(extension, original)


CONTEXT = "max_position_embeddings"  # a key of config.json, not of its table of rotary positions
ORIGINAL_LENGTH = {"original_length": ("original_max_position_embeddings", read_original_length, None)}
FACTOR = {"factor": ("factor", ConfigReader.factor, None)}
SCALINGS: dict[str, FieldTable] = {  # the table of fields of each scaling
    "default": {},
    "linear": FACTOR,
    "dynamic": FACTOR | {"original_length": (CONTEXT, read_original_length, None)},
    "llama3": FACTOR
    | ORIGINAL_LENGTH
    | {
        "low_frequency_factor": ("low_freq_factor", ConfigReader.factor, None),
        "high_frequency_factor": ("high_freq_factor", ConfigReader.factor, None),
    },
    "longrope": ORIGINAL_LENGTH
    | {
        "short_factors": ("short_factor", read_factors, None),
        "long_factors": ("long_factor", read_factors, None),
        "attention_factor": ("attention_factor", read_attention_factor, None),
    },
}


def read_rope(keys: ConfigReader, head_dim: int, partial: bool = False) -> Rope:
    """The rotation in a config.json of either layout.

    partial: whether the family rotates only the fraction "partial_rotary_factor" of a head. transformers ignores this
    key in other families.
    Raises ConfigError for a scaling that is not supported, such as "yarn".
    """
    parameters = keys.table("rope_parameters") or keys.table("rope_scaling") or ConfigReader({}, {}, keys.where)
    for shared in ("rope_theta", "partial_rotary_factor"):
        parameters.values.setdefault(shared, keys.get(shared))
    if "rope_type" not in parameters.values:
        parameters.values["rope_type"] = parameters.values.get("type", "default")
    scaling = parameters.choice("rope_type", SCALINGS)

    is_partial = partial and parameters.get("partial_rotary_factor") is not None
    key = "partial_rotary_factor" if is_partial else "head_dim"
    source = keys.with_values(head_dim=head_dim) if key == "head_dim" else parameters
    dimension = head_dim if key == "head_dim" else int(head_dim * parameters.fraction(key))
    if dimension % 2 or not dimension:
        source.refuse(key, f"an even number of rotary dimensions, at least 2, not {dimension} of {head_dim}")
    parameters = parameters.with_values(**{"dimension": dimension, CONTEXT: keys.get(CONTEXT)})
    if keys.get("original_max_position_embeddings") is not None:  # the top-level key has priority
        parameters.values["original_max_position_embeddings"] = keys.get("original_max_position_embeddings")
    settings = read_fields(parameters, SCALINGS[scaling])
    if scaling == "llama3" and settings["low_frequency_factor"] >= settings["high_frequency_factor"]:
        parameters.refuse("high_freq_factor", f"more than low_freq_factor, which is {settings['low_frequency_factor']}")
    return Rope(theta=parameters.theta("rope_theta"), dimension=dimension, scaling=scaling, **settings)


def write_rope(rope: Rope, head_dim: int) -> dict:
    """The value of "rope_parameters", in the current layout."""
    parameters = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.dimension != head_dim:
        factor = rope.dimension / head_dim
        exact = int(head_dim * factor) == rope.dimension  # as `read_rope` rounds
        parameters["partial_rotary_factor"] = factor if exact else math.nextafter(factor, 1)
    fields = write_fields(rope, SCALINGS[rope.scaling])
    return parameters | {key: value for key, value in fields.items() if key != CONTEXT}
