"""From an int32 accumulator back to 8 bits with integers only: what a chip without floating point does.

The factor between the scales, M = S_x S_w / S_y, is itself written as integers: M = multiplier * 2^(-31 - shift).
Source: Jacob et al. 2018, section 2.2; the roundings are those of gemmlowp (fixedpoint.h).
"""

import math

import numpy as np

from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.quantization.affine import code_range
from tinyslm.errors import ConfigError, DataError

LARGEST_INT32 = 2**31 - 1


def fixed_point(factor):
    """(multiplier, shift) with factor = multiplier * 2^(-31 - shift) to 31 bits: of each factor, (...) -> (...), (...).

    factor: above 0 and below 1, as factors between scales are;  multiplier: int32 from 2^30 to 2^31 - 1, which stands
    for a number from 1/2 to 1;  shift: int32 from 0 on. The relative error is at most 2^-31.
    """
    factor = np.asarray(factor, np.float64)
    if not np.all((factor > 0) & (factor < 1)):
        raise ConfigError(f"a factor between scales must be above 0 and below 1, found {factor!r}")
    fraction, exponent = np.frexp(factor)  # fraction from 1/2 to 1, exponent at most 0
    multiplier = np.round(fraction * 2**31).astype(np.int64)
    carried = multiplier == 2**31  # rounded up to 1
    multiplier, shift = np.where(carried, 2**30, multiplier), np.where(carried, -exponent - 1, -exponent)
    nearly_one = shift < 0  # there is no next power of two below 1
    multiplier, shift = np.where(nearly_one, LARGEST_INT32, multiplier), np.maximum(shift, 0)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def rounding_doubling_high_multiply(x, multiplier):
    """round(x * multiplier / 2^31), half upwards, of two int32 arrays: the upper half of twice the product.

    The one product that does not fit, of -2^31 with itself, saturates at 2^31 - 1.
    """
    product = x.astype(np.int64) * multiplier.astype(np.int64)
    product += np.where(product >= 0, 2**30, 1 - 2**30)
    quotient = np.where(product >= 0, product >> 31, -(-product >> 31))  # towards 0
    return np.minimum(quotient, LARGEST_INT32).astype(np.int32)


def rounding_right_shift(x, shift):
    """round(x / 2^shift), half away from 0, of an int32 array. shift: from 0 on, broadcasts with x."""
    mask = (np.int64(1) << shift.astype(np.int64)) - 1
    remainder = x & mask
    return ((x >> shift) + (remainder > (mask >> 1) + (x < 0))).astype(np.int32)


def requantize(accumulator, multiplier, shift, zero_point=0, *, bits=8, symmetric=False):
    """Codes clip(zero_point + accumulator * multiplier * 2^(-31 - shift)) from integers alone.

    accumulator: (n, m) int32, what `affine_matmul` returns;  multiplier, shift: of `fixed_point`, () or one per output
    (m,);  zero_point: of the result, a code;  returns int8 (n, m). It rounds twice: the result is within one step of
    the exact product rounded once. A larger accumulator never gives a smaller code.
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
