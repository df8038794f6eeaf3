"""Sixteen numbers for every weight: 4-bit formats whose levels do not lie evenly.

A block of neighbouring numbers is divided by its largest magnitude, its "absmax", and each of them goes to the nearest
of a format's levels, which reach from -1 to 1.
"""

from typing import NamedTuple

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_integer
from tinyslm.compression.quantization.affine import QuantizedArray, quantize
from tinyslm.errors import DataError
from tinyslm.tree import Array

OFFSET = 1 - (1 / 30 + 1 / 32) / 2  # the outermost quantile of NormalFloat-4


def normal_float4_levels():
    """The 16 levels of NormalFloat-4, ascending, float64: quantiles of the normal distribution, scaled to -1 and 1.

    Eight above 0, seven below, and 0 itself, so that zeros stay zeros; each side reaches its end exactly. Not
    symmetric. Source: Dettmers et al. 2023 (QLoRA), section 3 and appendix E; the offset is that of their code.
    """
    positive = scipy.special.ndtri(np.linspace(OFFSET, 0.5, 9)[:-1])  # (8,)
    negative = -scipy.special.ndtri(np.linspace(OFFSET, 0.5, 8)[:-1])  # (7,)
    levels = np.sort(np.concatenate([positive, [0.0], negative]))
    return levels / np.max(levels)


def float4_levels():
    """The 15 different values of a 4-bit float with 2 bits of exponent and 1 of mantissa (E2M1), scaled to -1 and 1.

    0, 0.5, 1, 1.5, 2, 3, 4 and 6 with either sign, through 6. Source: the OCP microscaling formats, version 1.0.
    """
    positive = np.array([0.5, 1, 1.5, 2, 3, 4, 6]) / 6
    return np.concatenate([-positive[::-1], [0.0], positive])


def integer4_levels():
    """The 15 levels of symmetric 4-bit integers, scaled to -1 and 1: evenly spaced, for comparison."""
    return np.arange(-7, 8) / 7


class BlockCodes(NamedTuple):
    """codes: uint8, the shape of x, indices of levels;  absmax: (..., K / block_size), the dtype of x."""

    codes: Array
    absmax: Array

    def dequantize(self, levels):
        """levels[code] times the absmax of its block: the shape of codes, the dtype of absmax."""
        blocks = self.codes.reshape(*self.absmax.shape, -1)  # (..., K / block_size, block_size)
        return (levels.astype(self.absmax.dtype)[blocks] * self.absmax[..., None]).reshape(self.codes.shape)


def quantize_to_levels(x, levels, block_size=64) -> BlockCodes:
    """The index of the nearest level for every number, in blocks of the last axis.

    x: (..., K), float32 or float64, finite, K a multiple of block_size;  levels: ascending from -1 to 1, at most 256,
    with 0 among them. The error is at most half of the widest gap between levels times the block's absmax: 0.152 of it
    for NormalFloat-4. The largest magnitude of a block is exact, and so is 0. Of two levels as near, the upper one.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64) or x.ndim == 0 or x.size == 0:
        raise DataError(f"only arrays of float32 or float64 have blocks, found {x.dtype}{x.shape}")
    require_finite("x", x)
    require_integer("block_size", block_size, 1, x.shape[-1])
    if x.shape[-1] % block_size:
        raise DataError(f"block_size must divide the last axis of shape {x.shape}, found {block_size}")
    blocks = x.reshape(*x.shape[:-1], -1, block_size)  # (..., K / block_size, block_size)
    absmax = np.max(np.abs(blocks), axis=-1)  # (..., K / block_size)
    scaled = blocks / np.where(absmax > 0, absmax, 1)[..., None]
    middles = ((levels[1:] + levels[:-1]) / 2).astype(x.dtype)
    codes = np.searchsorted(middles, scaled, side="right").astype(np.uint8)
    return BlockCodes(codes.reshape(x.shape), absmax)


class DoubleQuantized(NamedTuple):
    """Scales in 8 bits. differences: from the mean, one step size per `block`;  mean: ();  shape: of the scales."""

    differences: QuantizedArray
    mean: Array
    shape: tuple[int, ...]

    def dequantize(self):
        """The scales: of their shape, at least 0."""
        count = int(np.prod(self.shape))
        return np.maximum(self.differences.dequantize()[:count] + self.mean, 0).reshape(self.shape)


def double_quantize(absmax, block=256) -> DoubleQuantized:
    """The scales of blocks as 8-bit integers around their mean, with one step size for every `block` of them.

    absmax: any shape. With blocks of 64 weights, scales cost 8 / 64 + 32 / (64 * 256) = 0.127 bits per weight in place
    of 0.5. Source: Dettmers et al. 2023 (QLoRA), section 3, there with 8-bit floats in place of integers.
    """
    absmax = np.asarray(absmax)
    mean = np.asarray(np.mean(absmax, dtype=np.float64), absmax.dtype)
    flat = absmax.reshape(-1) - mean  # (n,)
    padded = np.concatenate([flat, np.zeros(-flat.size % block, absmax.dtype)])  # (a multiple of block,)
    return DoubleQuantized(quantize(padded, group_size=block), mean, absmax.shape)
