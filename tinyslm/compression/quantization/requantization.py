"""Requantization: from an int32 accumulator to 8-bit codes in integer arithmetic, for hardware without floating point.

The factor between the scales, M = S_x S_w / S_y, is itself written as integers: M = multiplier * 2^(-31 - shift).
Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.2; rounding as in gemmlowp (fixedpoint.h). Lesson:
`lessons/09_quantization.py`.
"""

import math

import numpy as np

from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.quantization.affine import code_range
from tinyslm.errors import ConfigError, DataError

LARGEST_INT32 = 2**31 - 1


def fixed_point(factor: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Multiplier and shift of a factor: factor = multiplier * 2^(-31 - shift), to 31 bits.

    Parameters
    ----------
    factor : float or ndarray, any shape
        Above 0 and below 1, as factors between scales are.

    Returns
    -------
    multiplier : ndarray of int32, the shape of factor
        From 2^30 to 2^31 - 1: it represents a number from 1/2 to 1.
    shift : ndarray of int32, the shape of factor
        At least 0. The relative error of the factor is at most 2^-31.

    Raises
    ------
    ConfigError
        If a factor is not above 0 and below 1.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), eq. 6.

    Examples
    --------
    >>> multiplier, shift = fixed_point(0.125)
    >>> int(multiplier) == 2**30, int(shift)
    (True, 2)
    """
    factor = np.asarray(factor, np.float64)
    if not np.all((factor > 0) & (factor < 1)):
        raise ConfigError(f"a factor between scales must be above 0 and below 1, found {factor!r}")
    fraction, exponent = np.frexp(factor)  # fraction from 1/2 to 1, exponent at most 0
    multiplier = np.round(fraction * 2**31).astype(np.int64)
    carried = multiplier == 2**31  # rounded up to 1
    multiplier, shift = np.where(carried, 2**30, multiplier), np.where(carried, -exponent - 1, -exponent)
    nearly_one = shift < 0  # 2^0 = 1 itself cannot be represented
    multiplier, shift = np.where(nearly_one, LARGEST_INT32, multiplier), np.maximum(shift, 0)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def rounding_doubling_high_multiply(x, multiplier):
    """Fixed-point product round(x * multiplier / 2^31), half upwards: the upper 32 bits of twice the int32 product.

    The one product that exceeds int32, of -2^31 with itself, saturates at 2^31 - 1.
    """
    product = x.astype(np.int64) * multiplier.astype(np.int64)
    product += np.where(product >= 0, 2**30, 1 - 2**30)
    quotient = np.where(product >= 0, product >> 31, -(-product >> 31))  # towards 0
    return np.minimum(quotient, LARGEST_INT32).astype(np.int32)


def rounding_right_shift(x, shift):
    """Rounding shift round(x / 2^shift), half away from 0, of an int32 array. shift: at least 0, broadcasts with x."""
    mask = (np.int64(1) << shift.astype(np.int64)) - 1
    remainder = x & mask
    return ((x >> shift) + (remainder > (mask >> 1) + (x < 0))).astype(np.int32)


def requantize(
    accumulator: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
    zero_point: int = 0,
    *,
    bits: int = 8,
    symmetric: bool = False,
) -> np.ndarray:
    """Codes clip(zero_point + accumulator * multiplier * 2^(-31 - shift)), in integer arithmetic.

    It rounds twice: the result differs by at most 1 from the exact product rounded once. A larger accumulator never has
    a smaller code.

    Parameters
    ----------
    accumulator : ndarray of int32, shape (n, m)
        Result of `affine_matmul`.
    multiplier, shift : ndarray of int32, shape () or (m,)
        Result of `fixed_point`: one for all outputs, or one per output.
    zero_point : int
        Of the result, a code.
    bits, symmetric
        Range of the codes, see `code_range`.

    Returns
    -------
    ndarray of int8, shape (n, m)

    Raises
    ------
    DataError
        If an array is not int32, or shapes do not match.
    ConfigError
        If `zero_point` is not a code.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 2.2 and 2.4.

    Examples
    --------
    >>> requantize(np.array([[1000, -1000]], np.int32), *fixed_point(0.05), zero_point=3)
    array([[ 53, -47]], dtype=int8)
    """
    accumulator, multiplier, shift = np.asarray(accumulator), np.asarray(multiplier), np.asarray(shift)
    if any(array.dtype != np.int32 for array in (accumulator, multiplier, shift)):
        raise DataError(f"integers must be int32, found {accumulator.dtype}, {multiplier.dtype} and {shift.dtype}")
    require_same_shape("shift", shift, multiplier.shape)
    if multiplier.shape not in ((), accumulator.shape[-1:]):
        raise DataError(f"multiplier must be () or one per output {accumulator.shape[-1:]}, found {multiplier.shape}")
    low_code, high_code = code_range(bits, symmetric)
    if not low_code <= zero_point <= high_code or zero_point != math.floor(zero_point):
        raise ConfigError(f"zero_point must be a code from {low_code} to {high_code}, found {zero_point!r}")
    product = rounding_doubling_high_multiply(accumulator, multiplier)
    scaled = rounding_right_shift(product, shift)
    return np.clip(scaled.astype(np.int64) + int(zero_point), low_code, high_code).astype(np.int8)
