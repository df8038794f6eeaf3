"""NormalFloat-4 (NF4) and other 4-bit formats with non-uniform levels.

A block of neighbouring numbers is divided by its largest magnitude (its "absmax"), and each quotient is rounded to the
nearest of a format's levels, which range from -1 to 1. The last block of a row is shorter if the size of the blocks
does not divide the length of the row.
Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314), section 3. The layer:
`tinyslm/compression/quantization/codebook_linear.py`. Applied to models: `tinyslm/recipes/quantization/nf4.py`. Lesson:
`lessons/09_quantization.py`.
"""

from typing import NamedTuple

import numpy as np
import scipy

from tinyslm.compression.argument_checks import array, checked, integer, require_integer
from tinyslm.compression.quantization.affine import QuantizedArray, finite_floats, quantize, split_groups
from tinyslm.errors import DataError
from tinyslm.tree import Array

OFFSET = 1 - (1 / 30 + 1 / 32) / 2  # the outermost quantile of NormalFloat-4


def normal_float4_levels() -> Array:
    """Levels of NormalFloat-4: quantiles of the normal distribution, scaled to end at -1 and 1.

    Eight levels above 0, seven below, and 0 itself, so that zeros are exact. Not symmetric.

    Returns
    -------
    ndarray of float64, shape (16,)
        Ascending.

    References
    ----------
    Dettmers et al. 2023 (arXiv 2305.14314), section 3 and appendix E; the offset is from the authors' code.

    Examples
    --------
    >>> normal_float4_levels()[[0, 6, 7, 8, 15]].round(4)
    array([-1.    , -0.091 ,  0.    ,  0.0796,  1.    ])
    """
    positive = scipy.special.ndtri(np.linspace(OFFSET, 0.5, 9)[:-1])  # (8,)
    negative = -scipy.special.ndtri(np.linspace(OFFSET, 0.5, 8)[:-1])  # (7,)
    levels = np.sort(np.concatenate([positive, [0.0], negative]))
    return levels / np.max(levels)


def float4_levels() -> Array:
    """Levels of FP4, a float with 2 bits of exponent and 1 bit of mantissa (E2M1), scaled to end at -1 and 1.

    0, 0.5, 1, 1.5, 2, 3, 4 and 6 with either sign, divided by 6.

    Returns
    -------
    ndarray of float64, shape (15,)
        Ascending.

    References
    ----------
    OCP Microscaling Formats (MX) Specification, version 1.0.

    Examples
    --------
    >>> float4_levels()[7:].round(3)
    array([0.   , 0.083, 0.167, 0.25 , 0.333, 0.5  , 0.667, 1.   ])
    """
    positive = np.array([0.5, 1, 1.5, 2, 3, 4, 6]) / 6
    return np.concatenate([-positive[::-1], [0.0], positive])


def integer4_levels() -> Array:
    """Levels of symmetric 4-bit integers, scaled to end at -1 and 1: evenly spaced, for comparison.

    Returns
    -------
    ndarray of float64, shape (15,)
        Ascending.

    Examples
    --------
    >>> integer4_levels()[7:10].round(3)
    array([0.   , 0.143, 0.286])
    """
    return np.arange(-7, 8) / 7


class BlockCodes(NamedTuple):
    """Quantized blocks. codes: uint8 indices of levels, (..., K);  absmax: per block, (..., ceil(K / block_size))."""

    codes: Array
    absmax: Array
    block_size: int

    def dequantize(self, levels: Array) -> Array:
        """Dequantized values, levels[code] times the absmax of the block: the shape of codes, the dtype of absmax."""
        scales = np.repeat(self.absmax, self.block_size, axis=-1)[..., : self.codes.shape[-1]]  # (..., K)
        return levels.astype(scales.dtype)[self.codes] * scales


@checked(x=finite_floats)
def quantize_to_levels(x: Array, levels: Array, block_size: int = 64) -> BlockCodes:
    """Index of the nearest level for every number, in blocks of the last axis.

    Parameters
    ----------
    x : ndarray, shape (..., K)
        float32 or float64, finite.
    levels : ndarray
        Ascending from -1 to 1, at most 256, with 0 among them.
    block_size : int
        Number of neighbouring entries that share a scale. The last block is shorter if it does not divide K.

    Returns
    -------
    BlockCodes
        codes of the shape of x, and absmax (..., ceil(K / block_size)). The largest magnitude of a block is exact, and
        so is 0. The error is at most half of the widest gap between levels times the absmax: 0.152 of it for
        NormalFloat-4. Of two levels at the same distance the upper one is chosen.

    Raises
    ------
    DataError
        If x is not finite float32 or float64, has no axis, or the levels are not ascending from -1 to 1.
    ConfigError
        If `block_size` is not a whole number of at least 1.

    References
    ----------
    Dettmers et al. 2023 (arXiv 2305.14314), section 2 and 3.

    Examples
    --------
    >>> found = quantize_to_levels(np.array([[0.1, -4.0, 2.1, 0.0]]), integer4_levels(), block_size=4)
    >>> found.codes, found.absmax
    (array([[ 7,  0, 11,  7]], dtype=uint8), array([[4.]]))
    """
    require_integer("block_size", block_size, 1, 2**31)
    if x.ndim == 0:
        raise DataError("x must have at least one axis, found shape ()")
    if not 0 < levels.size <= 256 or not (np.all(np.diff(levels) > 0) and levels[0] >= -1 and levels[-1] <= 1):
        raise DataError(f"levels must be at most 256 ascending numbers from -1 to 1, found {levels!r}")
    block_size = min(block_size, x.shape[-1])
    missing = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % block_size)]
    blocks = split_groups(np.pad(x, missing), block_size)  # (..., ceil(K / block_size), block_size)
    absmax = np.max(np.abs(blocks), axis=-1)  # (..., ceil(K / block_size))
    scaled = blocks / np.where(absmax > 0, absmax, 1)[..., None]
    middles = ((levels[1:] + levels[:-1]) / 2).astype(x.dtype)
    codes = np.searchsorted(middles, scaled, side="right").astype(np.uint8)
    codes = codes.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]  # (..., K)
    return BlockCodes(codes, absmax, block_size)


class DoubleQuantized(NamedTuple):
    """Scales in 8 bits. differences: from the mean, one step size per `block`;  mean: ();  shape: of the scales."""

    differences: QuantizedArray
    mean: Array
    shape: tuple[int, ...]

    def dequantize(self) -> Array:
        """The scales, at least 0."""
        count = int(np.prod(self.shape))
        return np.maximum(self.differences.dequantize()[:count] + self.mean, 0).reshape(self.shape)


@checked(absmax=array(..., nonnegative=True), block=integer(1, 2**31))
def double_quantize(absmax: Array, block: int = 256) -> DoubleQuantized:
    """Scales of blocks as 8-bit integers around their mean ("double quantization").

    With blocks of 64 weights, scales need 8 / 64 + 32 / (64 * 256) = 0.127 bits per weight instead of 32 / 64 = 0.5.

    Parameters
    ----------
    absmax : ndarray, any shape
        Scales of blocks, not negative.
    block : int
        Number of scales that share one step size.

    Returns
    -------
    DoubleQuantized
        With `dequantize()`, which returns the rounded scales.

    Raises
    ------
    DataError
        If there is no scale, or a scale is negative or not finite.
    ConfigError
        If `block` is not a whole number of at least 1.

    References
    ----------
    Dettmers et al. 2023 (arXiv 2305.14314), section 3, with 8-bit integers instead of 8-bit floats.

    Examples
    --------
    >>> double_quantize(np.array([1.0, 2.0, 3.0])).dequantize()
    array([1., 2., 3.])
    """
    if absmax.size == 0:
        raise DataError(f"absmax must have at least one entry, found shape {absmax.shape}")
    mean = np.asarray(np.mean(absmax, dtype=np.float64), absmax.dtype)
    flat = absmax.reshape(-1) - mean  # (n,)
    padded = np.concatenate([flat, np.zeros(-flat.size % block, absmax.dtype)])  # (a multiple of block,)
    return DoubleQuantized(quantize(padded, group_size=block), mean, absmax.shape)
