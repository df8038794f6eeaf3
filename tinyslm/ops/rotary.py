"""Rotary positions: each pair of query and key dimensions turns by an angle proportional to its position.

The score of a query at position m with a key at position n then depends on m - n only.
Source: Su et al. 2021 (RoFormer), section 3.2.2; pairs are (i, i + R/2) as in Llama ("rotate half"), not (2i, 2i+1).
"""

import math
from dataclasses import dataclass

import numpy as np

from tinyslm.autodiff import differentiable


@dataclass(frozen=True)
class Rope:
    """How fast each pair turns. `dimension` is the number R of turning dimensions of a head, `theta` the base.

    scaling stretches a model beyond the length it was trained at (`original_length`):
    "default" none; "linear" every angle / factor; "llama3" slow pairs only, with a smooth transition;
    "longrope" one factor per pair, the long ones if the sequence is longer than original_length.
    """

    theta: float
    dimension: int
    scaling: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    attention_factor: float = 1.0


def inverse_frequencies(rope, length):
    """Radians per position of each pair: (R/2,) float32. `length` is that of the longest sequence (longrope)."""
    exponent = np.arange(0, rope.dimension, 2, dtype=np.float32) / np.float32(rope.dimension)
    inverse = (1 / np.float32(rope.theta) ** exponent).astype(np.float32)  # (R/2,)
    if rope.scaling == "linear":
        return inverse / np.float32(rope.factor)
    if rope.scaling == "llama3":
        return _llama3_frequencies(rope, inverse)
    if rope.scaling == "longrope":
        factors = rope.long_factors if length > rope.original_length else rope.short_factors
        return inverse / np.array(factors, np.float32)
    return inverse


def _llama3_frequencies(rope, inverse):
    """Long waves are stretched by the factor, short ones kept, those between interpolated (Llama 3.1 release, 2024)."""
    wavelength = 2 * np.pi / inverse  # (R/2,) positions
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = (rope.original_length / wavelength - low) / (high - low)
    kept = np.clip(kept, 0, 1).astype(np.float32)  # 1: kept as it is, 0: stretched
    return (1 - kept) * inverse / np.float32(rope.factor) + kept * inverse


def longrope_attention_factor(extension, original_length):
    """sqrt(1 + ln(extension) / ln(original_length)): the factor of cos and sin (Phi-3's published code)."""
    return 1.0 if extension <= 1 else math.sqrt(1 + math.log(extension) / math.log(original_length))


def rotary_tables(rope, positions):
    """cos and sin of every position and pair, times the attention factor (1 but for longrope).

    positions: (T,) or (B, T) integers;  returns two float32 arrays (..., T, R/2).
    """
    inverse = inverse_frequencies(rope, int(positions.max(initial=0)) + 1)
    angle = positions[..., None].astype(np.float32) * inverse  # (..., T, R/2)
    factor = np.float32(rope.attention_factor)
    return np.cos(angle) * factor, np.sin(angle) * factor


def _turn(x, cos, sin):
    """(first, second) -> (first cos - second sin, second cos + first sin) for the halves of the turning dimensions.

    As (second, first) * (-sin, sin) + x * (cos, cos), over whole heads at once; x: (..., H, D), cos: (..., 1, R/2).
    """
    half = cos.shape[-1]
    R = 2 * half  # the other dimensions have no position (partial rotary)
    turned = np.concatenate([x[..., half:R], x[..., :half], x[..., R:]], axis=-1)
    turning = turned[..., :R]
    turning *= np.concatenate([-sin, sin], axis=-1)
    turning += x[..., :R] * np.concatenate([cos, cos], axis=-1)
    return turned


@differentiable
def rotary(x, *, cos, sin):
    """Turn the first R dimensions of every head by its position's angles.

    x: (B, T, H, D);  cos, sin: (T, R/2) or (B, T, R/2);  returns (B, T, H, D).
    A rotation's transpose is the rotation back, which is the vjp.
    """
    cos = cos[..., None, :].astype(x.dtype, copy=False)  # (..., T, 1, R/2)
    sin = sin[..., None, :].astype(x.dtype, copy=False)
    return _turn(x, cos, sin), lambda dy: (_turn(dy, cos, -sin),)
