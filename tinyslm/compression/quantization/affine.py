"""Affine quantization: x ~ scale * (code - zero_point), with integer codes of 2 to 8 bits.

The zero point is itself a code, so that 0 is represented exactly (masked weights, padding). Rounding is half to even,
as in IEEE arithmetic.
Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv 1712.05877), eq. 1.
Applied to models: `tinyslm/recipes/quantization/affine.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_integer
from tinyslm.errors import ConfigError, DataError
from tinyslm.ops.argument_checks import FLOATING


@dataclass(frozen=True, eq=False)
class QuantizedArray:
    """Integer codes with their scales and zero points: the result of `quantize`.

    Parameters
    ----------
    codes : ndarray of int8
        One code per byte, also where bits < 8. The shape of the array that was quantized.
    scale : ndarray
        Shape () for one scale, (1, .., n, .., 1) for one per index of an axis, (..., K / group_size) for groups along
        the last axis of length K.
    zero_point : ndarray of int32, or None
        The shape of `scale`. int32, so that ``codes - zero_point`` cannot overflow. None if all zero points are 0.
    bits : int
        Bits per code, 2 to 8.
    group_size : int, optional
        Number of neighbouring entries of the last axis that share a scale.

    Examples
    --------
    >>> QuantizedArray(np.array([-2, 0, 3], np.int8), np.float32(0.5), np.int32(1)).dequantize()
    array([-1.5, -0.5,  1. ], dtype=float32)
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None = None
    bits: int = 8
    group_size: int | None = None

    def dequantize(self) -> np.ndarray:
        """Dequantized values scale * (codes - zero_point): the shape of codes, the dtype of scale."""
        require_floating("scale", self.scale)
        per_group = (..., None) if self.group_size is not None else ...  # index that adds an axis to the scales
        steps = split_groups(self.codes, self.group_size).astype(self.scale.dtype)
        if self.zero_point is not None and np.any(self.zero_point):
            steps -= self.zero_point[per_group].astype(self.scale.dtype)  # small integers, exact
        steps *= self.scale[per_group]
        return steps.reshape(self.codes.shape)


def quantize(
    x: np.ndarray, *, bits: int = 8, symmetric: bool = True, axis: int | None = None, group_size: int | None = None
) -> QuantizedArray:
    """Quantize an array to integer codes with scale and zero point, for the range from its smallest to largest entry.

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64, finite.
    bits : int
        Bits per code, 2 to 8.
    symmetric : bool
        Whether the zero point is 0 and the range is symmetric, see `code_range`.
    axis : int, optional
        One scale per index of this axis (0 for the output rows of a weight). None: one scale for the whole array.
    group_size : int, optional
        One scale per `group_size` neighbouring entries of the last axis, which it must divide.

    Returns
    -------
    QuantizedArray
        scale in the dtype of x. The error of each entry is at most half a step, scale / 2.

    Raises
    ------
    DataError
        If x is not float32 or float64, or holds nan, infinity or magnitudes above half of the largest float, or
        `group_size` does not divide its last axis.
    ConfigError
        If a setting is out of range, or both `axis` and `group_size` are given.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), eq. 1.

    Examples
    --------
    >>> q = quantize(np.array([[1.0, -2.0], [0.5, 0.25]]), bits=4, axis=0)
    >>> q.codes
    array([[ 4, -7],
           [ 7,  4]], dtype=int8)
    >>> q.scale.shape
    (2, 1)
    """
    x = np.asarray(x)
    _require_quantizable(x, axis, group_size)
    grouped = split_groups(x, group_size)
    reduced: tuple[int, ...] | None
    if group_size is not None:
        reduced = (-1,)
    elif axis is not None:
        reduced = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    else:
        reduced = None
    lowest = np.min(grouped, axis=reduced, keepdims=reduced is not None, initial=0)
    highest = np.max(grouped, axis=reduced, keepdims=reduced is not None, initial=0)
    scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
    codes = _encode(grouped, scale, zero_point, *code_range(bits, symmetric)).reshape(x.shape)
    if group_size is not None:
        scale, zero_point = scale[..., 0], zero_point[..., 0]
    return QuantizedArray(codes, scale, zero_point, bits, group_size)


def code_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest code.

    Parameters
    ----------
    bits : int
        Bits per code, 2 to 8.
    symmetric : bool
        Whether to leave out the lowest code, so that x and -x have opposite codes and the zero point is 0.

    Returns
    -------
    tuple of int
        (-127, 127) for 8 bits symmetric, (-128, 127) for 8 bits asymmetric.

    Raises
    ------
    ConfigError
        If `bits` is not a whole number from 2 to 8.

    Examples
    --------
    >>> code_range(4, symmetric=True), code_range(4, symmetric=False)
    ((-7, 7), (-8, 7))
    """
    require_integer("bits", bits, 2, 8)
    highest = 2 ** (bits - 1) - 1
    return (-highest if symmetric else -highest - 1), highest


def affine_parameters(
    lowest: np.ndarray, highest: np.ndarray, *, bits: int = 8, symmetric: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point for the range from lowest to highest, extended to include 0.

    Parameters
    ----------
    lowest, highest : ndarray
        Ends of the ranges, of one shape and dtype.
    bits : int
        Bits per code, 2 to 8.
    symmetric : bool
        Whether the zero point is 0. Otherwise it is rounded to an integer code, so that values at one end of the
        range can be clipped by half a step.

    Returns
    -------
    scale : ndarray
        Shape and dtype of the ends. 1 for an empty range (all entries 0).
    zero_point : ndarray of int32
        Same shape.

    Raises
    ------
    DataError
        If an end is not float32 or float64, nan, infinite, or above half of the largest float.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 3.

    Examples
    --------
    >>> scale, zero_point = affine_parameters(np.array(-1.0), np.array(4.1), symmetric=False)
    >>> round(float(scale), 6), int(zero_point)
    (0.02, -78)
    """
    low_code, high_code = code_range(bits, symmetric)
    lowest, highest = np.asarray(lowest), np.asarray(highest)
    require_floating("the ends of a range", lowest)
    require_floating("the ends of a range", highest)
    limit = np.finfo(highest.dtype).max / 2
    if not np.all((np.abs(lowest) <= limit) & (np.abs(highest) <= limit)):  # nan fails too
        raise DataError(f"cannot quantize nan, infinity or magnitudes above {limit:.3g}")
    lowest, highest = np.minimum(lowest, 0), np.maximum(highest, 0)
    if symmetric:
        step = np.maximum(highest, -lowest) / high_code
    else:
        step = highest / (high_code - low_code) - lowest / (high_code - low_code)  # the difference could overflow
    smallest = np.finfo(step.dtype).tiny  # a subnormal step would lose its own precision
    scale = np.asarray(np.where(highest > lowest, np.maximum(step, smallest), 1), step.dtype)
    if symmetric:
        return scale, np.zeros(scale.shape, np.int32)
    zero_point = np.clip(np.round(low_code - lowest / scale), low_code, high_code)
    return scale, np.asarray(zero_point, np.int32)


def encode(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, *, bits: int = 8, symmetric: bool = True
) -> np.ndarray:
    """Codes of x for given parameters: clip(round(x / scale) + zero_point).

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64, finite.
    scale, zero_point : ndarray
        Broadcast with x. Scales are above 0.
    bits, symmetric
        Range of the codes, see `code_range`.

    Returns
    -------
    ndarray of int8
        The shape of x. Values beyond the range get its first or last code.

    Raises
    ------
    DataError
        If x or scale is not float32 or float64, an array is not finite, or a scale is not above 0.
    ConfigError
        If `bits` is not a whole number from 2 to 8.

    Examples
    --------
    >>> encode(np.array([0.25, -1.0, 99.0]), np.array(0.5), np.array(0), bits=4)
    array([ 0, -2,  7], dtype=int8)
    """
    low_code, high_code = code_range(bits, symmetric)
    require_floating("x", x)
    require_floating("scale", scale)
    if not np.all(np.isfinite(x)):
        raise DataError("cannot quantize nan or infinity")
    require_scales("scale", scale)
    require_finite("zero_point", zero_point)
    with np.errstate(over="ignore"):  # a quotient that overflows is beyond the range
        return _encode(x, scale, zero_point, low_code, high_code)


def _encode(x, scale, zero_point, low_code, high_code):
    """`encode` without checks of the arrays."""
    steps = np.asarray(x / scale)
    np.round(steps, out=steps)
    steps += zero_point.astype(steps.dtype)
    return np.clip(steps, low_code, high_code, out=steps).astype(np.int8)


def require_scales(name, scale):
    """Raise DataError unless every scale is a finite number above 0."""
    if not np.all((scale > 0) & (scale < np.inf)):
        raise DataError(f"{name} must be finite and above 0, found {np.min(scale)} to {np.max(scale)}")


def split_groups(array, group_size):
    """Split the last axis into groups: (..., K) -> (..., K / group_size, group_size); unchanged for None."""
    if group_size is None:
        return array
    return array.reshape(*array.shape[:-1], array.shape[-1] // group_size, group_size)


def require_floating(name, x):
    """Raise DataError unless the array is float32 or float64."""
    if x.dtype not in FLOATING:
        raise DataError(f"to quantize, {name} must be float32 or float64, found {x.dtype}")


def finite_floats(name, value, sizes):
    """Check for `checked`: an array of float32 or float64, finite, with at least one entry."""
    value = np.asarray(value)
    require_floating(name, value)
    require_finite(name, value)
    if value.size == 0:
        raise DataError(f"{name} must have at least one entry, found shape {value.shape}")
    return value


def require_groups(group_size, shape):
    """Raise DataError unless groups of this size divide the last axis of the shape, ConfigError for no whole number."""
    require_integer("group_size", group_size, 1, 2**31)
    if not shape or shape[-1] % group_size:
        raise DataError(f"group_size must divide the last axis of shape {shape}, found {group_size}")


def _require_quantizable(x, axis, group_size):
    require_floating("x", x)
    if axis is not None and group_size is not None:
        raise ConfigError("give axis or group_size, not both: groups already have a scale per row")
    if axis is not None:
        require_integer("axis", axis, -x.ndim, x.ndim - 1)
    if group_size is not None:
        require_groups(group_size, x.shape)
