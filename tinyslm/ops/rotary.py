"""Rotary position embedding (RoPE): rotations of pairs of query and key dimensions.

The angle of a rotation is proportional to the position of the token. The score of a query at position m with a key at
position n then depends on m - n only.
Source: Su et al. 2021 (RoFormer), section 3.2.2; pairs are (i, i + R/2) as in Llama ("rotate half"), not (2i, 2i+1).
"""

import math
from dataclasses import dataclass

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.ops.argument_checks import FLOATING, require_floating, require_integers
from tinyslm.tree import Array


@dataclass(frozen=True)
class Rope:
    """Frequencies of the rotation.

    Parameters
    ----------
    theta
        Base of the frequencies: pair i rotates by theta^(-2 i / R) radians per position.
    dimension
        Number R of rotated dimensions of a head. The others have no position (partial rotary embedding).
    scaling
        Change of the frequencies for sequences longer than `original_length`, the length of training. "default": none.
        "linear": all divided by `factor`. "llama3": low frequencies divided by `factor`, high frequencies unchanged,
        frequencies between them interpolated. "longrope": divided by one factor per pair, from `long_factors` for
        sequences longer than `original_length`, otherwise from `short_factors`. "dynamic": for a sequence of L tokens,
        longer than `original_length`, a base of theta * (factor * L / original_length - factor + 1)^(R / (R - 2)).
        "yarn": pairs of low frequency divided by `factor`, of high frequency unchanged, interpolated between them; the
        borders are pairs that rotate `beta_slow` and `beta_fast` times within `original_length`.
    factor
        Divisor of the frequencies ("linear", "llama3" and "yarn"), growth of the base ("dynamic").
    low_frequency_factor, high_frequency_factor
        Low frequencies: wavelengths above original_length / low_frequency_factor. High frequencies: wavelengths below
        original_length / high_frequency_factor ("llama3").
    original_length
        Number of tokens of the training sequences ("llama3", "longrope", "dynamic" and "yarn").
    short_factors, long_factors
        One divisor per pair of dimensions ("longrope").
    attention_factor
        Factor of cos and sin, so of both queries and keys ("longrope" and "yarn"); 1 otherwise.
    beta_fast, beta_slow
        Rotations within `original_length` of the first interpolated pair and of the last one ("yarn").
    truncate
        Whether these two pairs are rounded outwards to whole indices ("yarn").
    query_scale_beta
        Growth of the queries with their position, see `query_scales` (Ministral 3); 0: none.

    References
    ----------
    Su et al. 2021, "RoFormer" (arXiv 2104.09864), section 3.2.2; Llama 3.1 release 2024 ("llama3"); Ding et al. 2024,
    "LongRoPE" (arXiv 2402.13753); Peng et al. 2023, "YaRN" (arXiv 2309.00071), section 3.2 ("yarn") and section 3.3
    (dynamic NTK), with the base of Hugging Face transformers ("dynamic").

    Examples
    --------
    >>> inverse_frequencies(Rope(theta=100.0, dimension=4), length=1)
    array([1. , 0.1], dtype=float32)
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
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    query_scale_beta: float = 0.0


def inverse_frequencies(rope: Rope, length: int) -> Array:
    """Radians per position of each pair: (R/2,) float32. length: tokens of the longest sequence (longrope, dynamic)."""
    theta = _dynamic_base(rope, length) if rope.scaling == "dynamic" else rope.theta
    exponent = np.arange(0, rope.dimension, 2, dtype=np.float32) / np.float32(rope.dimension)
    inverse = (1 / np.float32(theta) ** exponent).astype(np.float32)  # (R/2,)
    if rope.scaling == "linear":
        return inverse / np.float32(rope.factor)
    if rope.scaling == "llama3":
        return _llama3_frequencies(rope, inverse)
    if rope.scaling == "longrope":
        factors = rope.long_factors if length > rope.original_length else rope.short_factors
        return inverse / np.array(factors, np.float32)
    if rope.scaling == "yarn":
        return _yarn_frequencies(rope, inverse)
    return inverse


def _dynamic_base(rope, length):
    """The base of the frequencies for a sequence of `length` tokens; theta up to the original length."""
    extension = max(length / rope.original_length, 1)
    base = rope.theta * (rope.factor * extension - rope.factor + 1) ** (rope.dimension / (rope.dimension - 2))
    return min(base, float(np.finfo(np.float32).max))


def _llama3_frequencies(rope, inverse):
    """Low frequencies divided by the factor, high ones unchanged, others interpolated (Llama 3.1 release, 2024)."""
    wavelength = 2 * np.pi / inverse  # (R/2,) positions
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = (rope.original_length / wavelength - low) / (high - low)
    kept = np.clip(kept, 0, 1).astype(np.float32)  # 1: unchanged, 0: divided by the factor
    return (1 - kept) * inverse / np.float32(rope.factor) + kept * inverse


def _yarn_frequencies(rope, inverse):
    """Frequencies unchanged up to pair `low`, divided by the factor from pair `high` on (Peng et al. 2023, 3.2).

    Between the two pairs, the share of the divided frequency grows linearly with the index of the pair, as in the
    published code and in Hugging Face transformers.
    """

    def pair_with(rotations):  # the index, with a fraction, of the pair that rotates so often in original_length
        wavelengths = rope.original_length / (2 * math.pi * rotations)
        return rope.dimension * math.log(wavelengths) / (2 * math.log(rope.theta))

    low, high = pair_with(rope.beta_fast), pair_with(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dimension - 1)
    width = 0.001 if low == high else high - low
    divided = (np.arange(rope.dimension // 2, dtype=np.float32) - np.float32(low)) / np.float32(width)
    divided = np.clip(divided, 0, 1)  # (R/2,) 1: divided by the factor, 0: unchanged
    return divided * (inverse / np.float32(rope.factor)) + (1 - divided) * inverse


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """Factor of cos and sin, 0.1 ln(factor) + 1 (Peng et al. 2023, section 3.4, there as its square).

    With both scales: (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1), of DeepSeek's published code.
    """
    growth = 0.1 * math.log(factor) if factor > 1 else 0.0
    if mscale and mscale_all_dim:
        return (mscale * growth + 1) / (mscale_all_dim * growth + 1)
    return growth + 1


def longrope_attention_factor(extension: float, original_length: int) -> float:
    """Factor of cos and sin, sqrt(1 + ln(extension) / ln(original_length)) (Phi-3's published code)."""
    return 1.0 if extension <= 1 else math.sqrt(1 + math.log(extension) / math.log(original_length))


def rotary_tables(rope: Rope, positions: Array, length: int | None = None) -> tuple[Array, Array]:
    """Cosine and sine of the angle of every position and pair, times the attention factor.

    Parameters
    ----------
    rope
        Frequencies.
    positions : ndarray of integers, shape (T,) or (B, T)
    length
        Tokens of the longest sequence, if there are more than the positions up to the last one (longrope, dynamic).

    Returns
    -------
    cos, sin : ndarray of float32, shape (..., T, R/2)

    Raises
    ------
    DataError
        If `positions` does not hold integers.

    Examples
    --------
    >>> cos, sin = rotary_tables(Rope(theta=100.0, dimension=4), np.arange(2))
    >>> sin.round(4)
    array([[0.    , 0.    ],
           [0.8415, 0.0998]], dtype=float32)
    """
    require_integers("positions", positions)
    inverse = inverse_frequencies(rope, max(int(positions.max(initial=0)) + 1, length or 0))
    angle = positions[..., None].astype(np.float32) * inverse  # (..., T, R/2)
    factor = np.float32(rope.attention_factor)
    return np.cos(angle) * factor, np.sin(angle) * factor


def query_scales(rope: Rope, positions: Array) -> Array:
    """Factors of the queries at each position, 1 + beta ln(1 + floor(position / original_length)).

    The scores of queries far behind the length of training grow with their position, because the softmax over more keys
    is flatter.

    Parameters
    ----------
    rope
        With `query_scale_beta` and `original_length`.
    positions : ndarray of integers, shape (T,) or (B, T)

    Returns
    -------
    ndarray of float32, shape (T, 1, 1) or (B, T, 1, 1)
        Factors for queries (B, T, H, D).

    Raises
    ------
    DataError
        If `positions` does not hold integers.

    References
    ----------
    Llama 4 release 2025 (temperature tuning); Mistral AI 2026, "Ministral 3" (arXiv 2601.08584).

    Examples
    --------
    >>> rope = Rope(theta=100.0, dimension=4, original_length=8, query_scale_beta=0.1)
    >>> query_scales(rope, np.array([7, 8])).ravel()
    array([1.       , 1.0693147], dtype=float32)
    """
    require_integers("positions", positions)
    lengths = (positions // rope.original_length).astype(np.float32)  # whole training lengths before each position
    return (1 + np.float32(rope.query_scale_beta) * np.log1p(lengths))[..., None, None]


def _rotate(x, cos, sin):
    """(first, second) -> (first cos - second sin, second cos + first sin) for the halves of the rotated dimensions.

    Computed as (second, first) * (-sin, sin) + x * (cos, cos). x: (..., H, D);  cos, sin: (..., 1, R/2).
    """
    half = cos.shape[-1]
    R = 2 * half  # the other dimensions have no position (partial rotary)
    output = np.concatenate([x[..., half:R], x[..., :half], x[..., R:]], axis=-1)
    rotated = output[..., :R]
    rotated *= np.concatenate([-sin, sin], axis=-1)
    rotated += x[..., :R] * np.concatenate([cos, cos], axis=-1)
    return output


@differentiable
def rotary(x: Array, *, cos: Array, sin: Array) -> Array:
    """Rotate the first R dimensions of every head by the angles of its position.

    The vjp is the inverse rotation, which is the transpose.

    Parameters
    ----------
    x : ndarray, shape (B, T, H, D)
        Queries or keys.
    cos, sin : ndarray, shape (T, R/2) or (B, T, R/2)
        From `rotary_tables`.

    Returns
    -------
    ndarray, shape (B, T, H, D)

    Raises
    ------
    DataError
        If an array is not float32 or float64.

    References
    ----------
    Su et al. 2021, "RoFormer" (arXiv 2104.09864), eq. 34.

    Examples
    --------
    >>> cos, sin = np.array([[0.0]]), np.array([[1.0]])  # a quarter turn
    >>> rotary(np.array([[[[3.0, 4.0]]]]), cos=cos, sin=sin)
    array([[[[-4.,  3.]]]])
    """
    if x.dtype not in FLOATING or cos.dtype not in FLOATING or sin.dtype not in FLOATING:
        require_floating(x=x, cos=cos, sin=sin)
    cos = cos[..., None, :].astype(x.dtype, copy=False)  # (..., T, 1, R/2)
    sin = sin[..., None, :].astype(x.dtype, copy=False)
    return _rotate(x, cos, sin), lambda dy: (_rotate(dy, cos, -sin),)
