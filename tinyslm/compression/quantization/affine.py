"""Affine quantization: a real number is a scale times the distance of an integer code from the zero point.

x ~ scale * (code - zero_point), where zero_point is itself a code, so that 0 is represented exactly (masked weights,
padding). Source: Jacob et al. 2018, eq. 1. Rounding is half to even, as everywhere in IEEE arithmetic.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class QuantizedArray:
    """What `quantize` returns.

    codes: int8, the shape of x, also where bits < 8 (one code per byte);  scale: the dtype of x;  zero_point: int32 (so
    that codes - zero_point cannot wrap around), both of one shape: () for the whole array, (1, .., n, .., 1) for one
    per index of an axis, (..., K / group_size) for groups along the last axis.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int = 8
    group_size: int | None = None

    def dequantize(self):
        """scale * (codes - zero_point): the shape of codes, the dtype of scale."""
        scale, zero_point = self.scale, self.zero_point
        codes = _grouped(self.codes, self.group_size)
        if self.group_size is not None:
            scale, zero_point = scale[..., None], zero_point[..., None]  # (..., K / group_size, 1)
        steps = codes.astype(scale.dtype)
        if np.any(zero_point):
            steps -= zero_point.astype(scale.dtype)  # small integers, exact
        steps *= scale
        return steps.reshape(self.codes.shape)


def quantize(x, *, bits=8, symmetric=True, axis=None, group_size=None):
    """Codes, scale and zero point of an array, with ranges from its smallest and largest entry.

    x: any shape, float32 or float64, finite;  bits: 2 to 8;  symmetric: see `code_range`;  axis: one scale per index of
    this axis (0 for the output rows of a weight), None for a single one;  group_size: one scale per so many
    neighbouring entries of the last axis. Within the range the error is at most half a step (scale / 2).
    """
    x = np.asarray(x)
    _require_quantizable(x, axis, group_size)
    grouped = _grouped(x, group_size)
    if group_size is not None:
        reduced = (-1,)
    elif axis is not None:
        reduced = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    else:
        reduced = None
    lowest = np.min(grouped, axis=reduced, keepdims=reduced is not None, initial=0)
    highest = np.max(grouped, axis=reduced, keepdims=reduced is not None, initial=0)
    scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
    codes = encode(grouped, scale, zero_point, bits=bits, symmetric=symmetric).reshape(x.shape)
    if group_size is not None:
        scale, zero_point = scale[..., 0], zero_point[..., 0]
    return QuantizedArray(codes, scale, zero_point, bits, group_size)


def code_range(bits, symmetric):
    """Smallest and largest code: (-127, 127) for 8 bits symmetric, (-128, 127) asymmetric.

    The symmetric range leaves out its lowest code, so that x and -x get opposite codes and the zero point is 0.
    """
    require_integer("bits", bits, 2, 8)
    highest = 2 ** (bits - 1) - 1
    return (-highest if symmetric else -highest - 1), highest


def affine_parameters(lowest, highest, *, bits=8, symmetric=True):
    """(scale, zero_point) that cover the range from lowest to highest, extended to include 0.

    lowest, highest: arrays of one shape;  returns two arrays of that shape, the second int32. Asymmetric: the zero
    point is rounded to an integer code, which can cost values at one end of the range half a step.
    An empty range (all entries 0) has scale 1.
    """
    low_code, high_code = code_range(bits, symmetric)
    lowest, highest = np.minimum(lowest, 0), np.maximum(highest, 0)
    limit = np.finfo(highest.dtype).max / 2
    if not np.all((highest <= limit) & (-lowest <= limit)):  # nan fails too
        raise DataError(f"cannot quantize nan, infinity or magnitudes above {limit:.3g}")
    if symmetric:
        step = np.maximum(highest, -lowest) / high_code
    else:
        step = highest / (high_code - low_code) - lowest / (high_code - low_code)  # the difference could overflow
    smallest = np.finfo(step.dtype).tiny  # below it a step would lose its own precision
    scale = np.asarray(np.where(highest > lowest, np.maximum(step, smallest), 1), step.dtype)
    if symmetric:
        return scale, np.zeros(scale.shape, np.int32)
    zero_point = np.clip(np.round(low_code - lowest / scale), low_code, high_code)
    return scale, np.asarray(zero_point, np.int32)


def encode(x, scale, zero_point, *, bits=8, symmetric=True):
    """int8 codes of x for given parameters: clip(round(x / scale) + zero_point). The parameters broadcast with x."""
    low_code, high_code = code_range(bits, symmetric)
    steps = np.asarray(x / scale)
    np.round(steps, out=steps)
    steps += zero_point.astype(steps.dtype)
    return np.clip(steps, low_code, high_code, out=steps).astype(np.int8)


def _grouped(array, group_size):
    """(..., K) as (..., K / group_size, group_size); unchanged without groups."""
    if group_size is None:
        return array
    return array.reshape(*array.shape[:-1], array.shape[-1] // group_size, group_size)


def _require_quantizable(x, axis, group_size):
    if x.dtype not in (np.float32, np.float64):
        raise DataError(f"only float32 and float64 arrays are quantized, found {x.dtype}")
    if axis is not None and group_size is not None:
        raise ConfigError("give axis or group_size, not both: groups already have a scale per row")
    if axis is not None:
        require_integer("axis", axis, -x.ndim, x.ndim - 1)
    if group_size is not None:
        last = x.shape[-1] if x.ndim else 0
        require_integer("group_size", group_size, 1, max(last, 1))
        if x.ndim == 0 or last % group_size:
            raise ConfigError(f"group_size must divide the last axis of shape {x.shape}, found {group_size}")
