"""Checks that every model configuration shares, and the ranges of its numbers.

Within these ranges, float32 arithmetic is finite for weights and activations of order 1. The readers of config.json use
the same ranges.
"""

import numbers
from dataclasses import fields
from typing import Any, NamedTuple

from tinyslm.errors import ConfigError
from tinyslm.ops import ACTIVATIONS, Rope


class Range(NamedTuple):
    """The numbers from `low` to `high`, or only the integers among them."""

    low: float
    high: float
    integer: bool = False

    def holds(self, value: Any) -> bool:
        """Whether the value is a number of this range. Booleans are not numbers."""
        kind: Any = numbers.Integral if self.integer else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        if self.integer:
            return f"an integer from {self.low} to {self.high}"
        return f"a number from {self.low:g} to {self.high:g}"


SIZE = Range(1, 2**30, integer=True)  # the product of two sizes cannot overflow 64 bits
LAYER_COUNT = Range(1, 10_000, integer=True)
EXPERT_COUNT = Range(1, 10_000, integer=True)
ORIGINAL_CONTEXT = Range(2, SIZE.high, integer=True)  # of a scaled context; its logarithm is a divisor
EPS = Range(1e-30, 1)  # the norm of zeros divides by sqrt(eps), which must not be 0 in float32
THETA = Range(1, 1e15)  # base of the rotary frequencies
FACTOR = Range(1e-6, 1e6)  # scales, soft caps, and divisors of rotary frequencies
FRACTION = Range(0, 1)

RANGES = {  # of the fields that are not sizes
    **dict.fromkeys(("num_hidden_layers", "num_decoder_layers"), LAYER_COUNT),
    **dict.fromkeys(("attention_scale", "attention_softcap", "logit_softcap"), FACTOR),
    **dict.fromkeys(("embedding_scale", "output_scale", "residual_multiplier", "logits_scaling"), FACTOR),
    "norm_eps": EPS,
    "norm_offset": FRACTION,
    **dict.fromkeys(("type_vocab_size", "expert_intermediate_size"), SIZE),
}
ROPE_RANGES = {
    "theta": THETA,
    **dict.fromkeys(("factor", "low_frequency_factor", "high_frequency_factor", "attention_factor"), FACTOR),
    **dict.fromkeys(("beta_fast", "beta_slow"), FACTOR),
    "query_scale_beta": Range(0, 100),
}


def require(config, condition: bool, message: str):
    """Raise ConfigError with the message, naming the family, unless the condition holds."""
    if not condition:
        raise ConfigError(f"configuration of a {config.family} model: {message}")


def require_in_range(config, name: str, value: Any, allowed: Range):
    """Raise ConfigError, naming the field, unless the value is in its range."""
    require(config, allowed.holds(value), f"{name} is {value!r}, expected {allowed}")


def check_common(config, not_sizes: tuple[str, ...] = ()):
    """Check that every number is in its range, and that the activation exists.

    Integer fields without a range of their own are sizes, except the fields in `not_sizes`.
    """
    for field in fields(config):
        value, is_size = getattr(config, field.name), field.type is int and field.name not in not_sizes
        allowed = RANGES.get(field.name, SIZE if is_size else None)
        if allowed is not None and not (value is None and field.default is None):
            require_in_range(config, field.name, value, allowed)
    heads = max(config.num_attention_heads, config.num_key_value_heads)
    require(
        config,
        heads * config.head_dim <= SIZE.high,
        f"head_dim is {config.head_dim}, expected at most {SIZE.high} dimensions in all {heads} heads together",
    )
    known = config.activation in ACTIVATIONS
    require(config, known, f"activation {config.activation!r} is not one of {', '.join(ACTIVATIONS)}")


def check_rope(config, rope: Rope):
    """Check that a rotation fits the heads, and that its numbers are in their ranges."""
    pairs = rope.dimension // 2
    require(
        config,
        rope.dimension == 2 * pairs and 1 <= pairs <= config.head_dim // 2,
        f"rope rotates {rope.dimension} dimensions, expected an even number up to head_dim {config.head_dim}",
    )
    for name, allowed in ROPE_RANGES.items():
        require_in_range(config, f"{name} of rope", getattr(rope, name), allowed)
    if rope.scaling == "dynamic":
        require(config, pairs > 1, "dynamic rope rotates 2 dimensions, expected at least 4")
    if rope.scaling in ("llama3", "longrope", "dynamic", "yarn") or rope.query_scale_beta:
        require_in_range(config, "original_length of rope", rope.original_length, ORIGINAL_CONTEXT)
    if rope.query_scale_beta:  # both enlarge the scores
        require_in_range(config, "attention_factor of rope", rope.attention_factor, FACTOR._replace(high=1e3))
    if rope.scaling == "yarn":  # the logarithm of theta is a divisor
        require(config, rope.theta > 1, f"theta of rope is {rope.theta}, expected more than 1 for yarn")
    if rope.scaling == "llama3":
        low, high = rope.low_frequency_factor, rope.high_frequency_factor
        require(config, low < high, f"high_frequency_factor of rope is {high}, expected more than low, which is {low}")
    for factors in (rope.short_factors, rope.long_factors):
        require(
            config,
            rope.scaling != "longrope" or len(factors) == pairs,
            f"longrope has {len(factors)} factors for {rope.dimension} rotary dimensions, expected half",
        )
        for factor in factors:
            require_in_range(config, "a longrope factor", factor, FACTOR)
