"""Integer-only requantization: within one step of exact rational arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization import affine_matmul, code_range, fixed_point, quantize, requantize
from tinyslm.compression.quantization.requantization import rounding_doubling_high_multiply, rounding_right_shift
from tinyslm.errors import ConfigError, DataError

int32s = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-300, 300), st.sampled_from([-(2**31), 2**31 - 1]))
factors = st.floats(1e-8, 1, exclude_max=True)


def nearest(fraction):
    """Rounded to an integer, half away from 0."""
    size = floor(abs(fraction) + Fraction(1, 2))
    return size if fraction >= 0 else -size


def int32(*values):
    return tuple(np.array(value, np.int32) for value in values)


@given(factors)
def test_a_factor_is_a_multiplier_and_a_shift(factor):
    multiplier, shift = fixed_point(factor)
    assert 2**30 <= multiplier < 2**31 and shift >= 0
    found = Fraction(int(multiplier), 2 ** (31 + int(shift)))
    assert abs(found - Fraction(factor)) <= Fraction(factor) / 2**30


def test_factors_at_the_borders():
    for factor in (0.5, np.nextafter(0.5, 0), np.nextafter(1, 0), 2.0**-40, 1 - 2.0**-33):
        multiplier, shift = fixed_point(factor)
        assert 2**30 <= multiplier < 2**31 and shift >= 0
        assert abs(int(multiplier) * 2.0 ** (-31 - int(shift)) / factor - 1) <= 2.0**-30
    for factor in (0.0, 1.0, -0.5, np.nan):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            fixed_point(factor)


def many(rng):
    """int32 of all sizes and signs, some with few set bits, whose products lie half way between two integers."""
    sizes = rng.integers(0, 32, 200)
    drawn = [int(rng.integers(-(2**size), 2**size)) for size in sizes]
    halves = [sign * odd * 2**power for sign in (1, -1) for odd in (1, 3, 5) for power in range(13, 18)]
    return [*drawn, *halves, -(2**31), 2**31 - 1, 0, 1, -1]


@given(generators())
def test_the_high_multiply_is_the_rounded_product(rng):
    """Halves are rounded upwards: 1.5 to 2, -1.5 to -1."""
    x, y = rng.permutation(many(rng)), rng.permutation(many(rng))
    exact = [
        min(floor(Fraction(int(a) * int(b), 2**31) + Fraction(1, 2)), 2**31 - 1) for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_array_equal(rounding_doubling_high_multiply(*int32(x, y)), exact)


def test_the_high_multiply_at_ties_and_at_the_corner():
    x, y = int32([2**15, -(2**15), 3 * 2**15, -3 * 2**15, -(2**31)], [2**15, 2**15, 2**15, 2**15, -(2**31)])
    assert rounding_doubling_high_multiply(x, y).tolist() == [1, 0, 2, -1, 2**31 - 1]


@given(generators())
def test_the_right_shift_rounds_half_away_from_zero(rng):
    x = many(rng)
    shift = rng.integers(0, 32, len(x))
    exact = [nearest(Fraction(a, 2 ** int(n))) for a, n in zip(x, shift, strict=True)]
    np.testing.assert_array_equal(rounding_right_shift(*int32(x, shift)), exact)


def test_the_right_shift_at_ties():
    x, shift = int32([1, -1, 3, -3, 6, -6], [1, 1, 1, 1, 2, 2])
    assert rounding_right_shift(x, shift).tolist() == [1, -1, 2, -2, 2, -2]


@given(int32s, factors, st.integers(-128, 127))
def test_codes_are_within_one_step_of_the_product_rounded_once(x, factor, zero_point):
    code = requantize(np.array([[x]], np.int32), *fixed_point(factor), zero_point)[0, 0]
    exact = min(max(nearest(Fraction(x) * Fraction(factor)) + zero_point, -128), 127)
    assert abs(int(code) - exact) <= 1
    unclipped = Fraction(x) * Fraction(factor) + zero_point
    if -127 < unclipped < 126:
        assert abs(int(code) - unclipped) <= Fraction(3, 4) + Fraction(abs(x), 2**31) + Fraction(1, 1000)


@given(st.lists(int32s, min_size=2, max_size=20), factors, st.integers(-128, 127))
def test_a_larger_accumulator_never_has_a_smaller_code(values, factor, zero_point):
    ascending = np.sort(np.array([values], np.int32))
    codes = requantize(ascending, *fixed_point(factor), zero_point)
    assert np.all(np.diff(codes.astype(int)) >= 0)


@given(generators())
def test_a_quantized_layer_in_integers_from_end_to_end(rng):
    """Codes of inputs and weights, accumulator, codes of outputs: against the product of the dequantized arrays."""
    x, w = rng.standard_normal((4, 9)), rng.standard_normal((3, 9))
    inputs, weights = quantize(x, symmetric=False), quantize(w, axis=0)
    outputs = quantize(x @ w.T, symmetric=False)
    accumulator = affine_matmul(inputs.codes, weights.codes, x_zero_point=inputs.zero_point)
    factor = inputs.scale * weights.scale.reshape(-1) / outputs.scale
    codes = requantize(accumulator, *fixed_point(factor), int(outputs.zero_point))
    exact = inputs.dequantize() @ weights.dequantize().T / outputs.scale + outputs.zero_point
    assert np.max(np.abs(codes - np.clip(exact, -128, 127))) <= 0.76
    one = requantize(accumulator[:, :1], *fixed_point(factor[0]), int(outputs.zero_point))
    np.testing.assert_array_equal(one, codes[:, :1])


def test_what_is_far_too_small_becomes_the_zero_point():
    accumulator = np.array([[2**31 - 1, -(2**31), 5, -5]], np.int32)
    for factor in (2.0**-33, 2.0**-40, 1e-15):
        np.testing.assert_array_equal(requantize(accumulator, *fixed_point(factor), 7), [[7, 7, 7, 7]])


def test_what_does_not_fit_is_refused():
    accumulator, (multiplier, shift) = np.zeros((2, 3), np.int32), fixed_point(np.full(3, 0.1))
    with pytest.raises(DataError, match="int32"):
        requantize(accumulator.astype(np.int64), multiplier, shift)
    with pytest.raises(DataError, match="one per output"):
        requantize(accumulator, multiplier[:2], shift[:2])
    with pytest.raises(DataError, match="shift"):
        requantize(accumulator, multiplier, shift[:2])
    with pytest.raises(ConfigError, match="zero_point"):
        requantize(accumulator, multiplier, shift, 300)


def in_whole_numbers(x, multiplier, shift, zero_point, low, high):
    """`requantize` of one accumulator in Python's integers: half upwards, then half away from 0."""
    product = min((x * multiplier + 2**30) >> 31, 2**31 - 1)
    return min(max(nearest(Fraction(product, 2**shift)) + zero_point, low), high)


@given(generators(), st.integers(2, 8), st.booleans(), st.booleans(), st.data())
def test_codes_are_those_of_whole_numbers(rng, bits, symmetric, one_factor, data):
    """Bit for bit, for one factor and for one per output, with clipping at both ends."""
    low, high = code_range(bits, symmetric)
    x = rng.choice(many(rng), (4, 3)).astype(np.int32)
    factor = 2.0 ** rng.uniform(-32, 0, () if one_factor else 3)
    zero_point = data.draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high)))
    multiplier, shift = fixed_point(factor)
    codes = requantize(x, multiplier, shift, zero_point, bits=bits, symmetric=symmetric)
    assert codes.dtype == np.int8
    for (i, j), code in np.ndenumerate(codes):
        numbers = (int(np.broadcast_to(each, 3)[j]) for each in (multiplier, shift))
        assert code == in_whole_numbers(int(x[i, j]), *numbers, zero_point, low, high)


def test_multipliers_and_shifts_of_factors_next_to_powers_of_two():
    """Rounded up to 1, the fraction becomes 1/2 with a shift less; 1 itself cannot be represented."""
    factor = np.array([[0.5, 0.25, 0.75], [0.5 - 2.0**-40, 0.25 - 2.0**-40, 1 - 2.0**-40]])
    multiplier, shift = fixed_point(factor)
    assert multiplier.dtype == shift.dtype == np.int32
    assert multiplier.tolist() == [[2**30, 2**30, 3 * 2**29], [2**30, 2**30, 2**31 - 1]]
    assert shift.tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("bad", [0.0, -0.25, 1.0, 1.5, np.nan, np.inf])
def test_one_bad_factor_among_good_ones_is_refused(bad):
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        fixed_point(np.array([0.5, bad, 0.25]))


@pytest.mark.parametrize(("bits", "symmetric"), [(8, False), (8, True), (4, False), (2, True)])
def test_a_zero_point_is_any_code_and_nothing_else(bits, symmetric):
    accumulator, factor = np.zeros((1, 2), np.int32), fixed_point(0.5)
    low, high = code_range(bits, symmetric)
    for zero_point in (low, high, float(high)):
        codes = requantize(accumulator, *factor, zero_point, bits=bits, symmetric=symmetric)
        assert codes.tolist() == [[zero_point, zero_point]]
    for zero_point in (low - 1, high + 1, high - 0.5, np.nan):
        with pytest.raises(ConfigError, match="zero_point must be a code"):
            requantize(accumulator, *factor, zero_point, bits=bits, symmetric=symmetric)


def test_each_array_must_be_int32_of_a_fitting_shape():
    accumulator, (multiplier, shift) = np.zeros((2, 3), np.int32), fixed_point(np.full(3, 0.1))
    for wrong in ((accumulator * 1.0, multiplier, shift), (accumulator, multiplier.astype(np.int64), shift)):
        with pytest.raises(DataError, match="integers must be int32"):
            requantize(*wrong)
    with pytest.raises(DataError, match="integers must be int32"):
        requantize(accumulator, multiplier, shift.astype(np.uint32))
    with pytest.raises(DataError, match="one per output"):
        requantize(accumulator, multiplier[:, None], shift[:, None])
    for bits in (1, 9):
        with pytest.raises(ConfigError, match="bits"):
            requantize(accumulator, multiplier, shift, bits=bits)


def test_products_next_to_a_half():
    """The quotient of a product by 2^31, one below, at and one above every half, for both signs."""
    x = [sign * (2**30 + distance) for sign in (1, -1) for distance in (-2, -1, 0, 1, 2)]
    for multiplier in (1, -1):
        exact = [floor(Fraction(each * multiplier, 2**31) + Fraction(1, 2)) for each in x]
        found = rounding_doubling_high_multiply(*int32(x, [multiplier] * len(x)))
        assert found.tolist() == exact and found.dtype == np.int32


def test_numbers_that_are_no_arrays_of_int32_are_refused():
    accumulator, multiplier, shift = int32([[4, 8]], 2**30, 0)
    assert requantize(accumulator, multiplier, shift).tolist() == [[2, 4]]
    for wrong in ([[[4, 8]], multiplier, shift], [accumulator, 2**30, shift], [accumulator, multiplier, 0]):
        with pytest.raises(DataError, match=r"integers must be int32, found .*int64"):
            requantize(*wrong)


def test_the_largest_accumulators_do_not_overflow_at_the_zero_point():
    """The scaled number is next to 2^31, and the zero point is added in 64 bits."""
    accumulator = np.array([[2**31 - 1, -(2**31)]], np.int32)
    for zero_point in (-128, 0, 127):
        assert requantize(accumulator, *fixed_point(1 - 2.0**-40), zero_point).tolist() == [[127, -128]]
