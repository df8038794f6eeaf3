"""Rotary positions in config.json, in the current and the old layout.

Current: "rope_parameters": {"rope_theta": ..., "rope_type": ..., ...}. Old: "rope_theta" at the top level, and
"rope_scaling": null or {"type" or "rope_type": ..., ...}.

In a config.json with the scaling "dynamic", "max_position_embeddings" is the original length, at which the scaling
begins. The context of the model, `max_position_embeddings` of its configuration, is `factor` times this length.
"""

import math

from tinyslm.checkpoints.families.config_reader import ConfigReader, FieldTable, read_fields, write_fields
from tinyslm.models.config_checks import ORIGINAL_CONTEXT, SIZE
from tinyslm.ops import Rope
from tinyslm.ops.rotary import longrope_attention_factor, yarn_attention_factor

CONTEXT = "max_position_embeddings"  # a key of config.json, not of its table of rotary positions
ORIGINAL = "original_max_position_embeddings"


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
    original = read_original_length(keys, ORIGINAL)
    extension = keys.optional_factor("factor") or keys.count(CONTEXT) / original
    return longrope_attention_factor(extension, original)


def read_extension(keys: ConfigReader, key: str) -> float:
    """The factor of yarn. Null: the extension of the context."""
    original = read_original_length(keys, ORIGINAL)
    return keys.factor(key) if keys.get(key) is not None else keys.count(CONTEXT) / original


def read_yarn_attention_factor(keys: ConfigReader, key: str) -> float:
    """The factor of yarn's attention scores. By default it is computed from the extension of the context."""
    if keys.get(key) is not None:
        return keys.factor(key)
    scales = (keys.optional_factor(name) for name in ("mscale", "mscale_all_dim"))
    return yarn_attention_factor(read_extension(keys, "factor"), *scales)


ORIGINAL_LENGTH = {"original_length": (ORIGINAL, read_original_length, None)}
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
    "yarn": ORIGINAL_LENGTH
    | {
        "factor": ("factor", read_extension, None),
        "attention_factor": ("attention_factor", read_yarn_attention_factor, None),
        "beta_fast": ("beta_fast", lambda keys, key: keys.optional_factor(key) or 32.0, None),
        "beta_slow": ("beta_slow", lambda keys, key: keys.optional_factor(key) or 1.0, None),
        "truncate": ("truncate", lambda keys, key: key not in keys.values or keys.flag(key), None),
    },
}


def read_rope(keys: ConfigReader, head_dim: int, partial: bool = False) -> Rope:
    """The rotation in a config.json of either layout.

    partial: whether the family rotates only the fraction "partial_rotary_factor" of a head. transformers ignores this
    key in other families.
    Raises ConfigError for a scaling that is not supported.
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
    lengths = keys.get(ORIGINAL), parameters.get(ORIGINAL), keys.get(CONTEXT)
    parameters.values[ORIGINAL] = next((length for length in lengths if length is not None), None)
    settings = read_fields(parameters, SCALINGS[scaling])
    if scaling == "llama3" and settings["low_frequency_factor"] >= settings["high_frequency_factor"]:
        parameters.refuse("high_freq_factor", f"more than low_freq_factor, which is {settings['low_frequency_factor']}")
    return Rope(theta=parameters.theta("rope_theta"), dimension=dimension, scaling=scaling, **settings)


def context_of(ropes: tuple[Rope | None, ...], written: int) -> int:
    """The context of a model with these rotations. written: "max_position_embeddings" in its config.json."""
    rope = _dynamic(ropes)
    return written if rope is None else int(min(max(rope.factor, 1) * written, SIZE.high))


def written_context(ropes: tuple[Rope | None, ...], context: int) -> int:
    """The reverse of `context_of`."""
    rope = _dynamic(ropes)
    return context if rope is None else rope.original_length


def _dynamic(ropes):
    return next((rope for rope in ropes if rope is not None and rope.scaling == "dynamic"), None)


def write_rope(rope: Rope, head_dim: int) -> dict:
    """The value of "rope_parameters", in the current layout."""
    parameters = {"rope_type": rope.scaling, "rope_theta": rope.theta}
    if rope.dimension != head_dim:
        factor = rope.dimension / head_dim
        exact = int(head_dim * factor) == rope.dimension  # as `read_rope` rounds
        parameters["partial_rotary_factor"] = factor if exact else math.nextafter(factor, 1)
    fields = write_fields(rope, SCALINGS[rope.scaling])
    return parameters | {key: value for key, value in fields.items() if key != CONTEXT}
