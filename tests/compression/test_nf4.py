"""Non-uniform 4-bit formats: levels, rounding to the nearest level, double quantization of the scales."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization import (
    double_quantize,
    float4_levels,
    integer4_levels,
    normal_float4_levels,
    quantize,
    quantize_to_levels,
)
from tinyslm.errors import ConfigError, DataError

LEVELS = {"normal": normal_float4_levels(), "float": float4_levels(), "integer": integer4_levels()}
PUBLISHED = [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0,
             0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1]  # fmt: skip


def test_normal_float_has_the_published_levels():
    """Dettmers et al. 2023, appendix E."""
    levels = normal_float4_levels()
    np.testing.assert_allclose(levels, PUBLISHED, atol=1e-7)
    assert levels[0] == -1 and levels[7] == 0 and levels[15] == 1
    assert np.max(np.diff(levels)) / 2 == pytest.approx(0.1519, abs=1e-4)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_levels_ascend_from_minus_one_to_one_with_zero_among_them(levels):
    assert np.all(np.diff(levels) > 0) and levels[0] == -1 and levels[-1] == 1 and 0 in levels
    assert 15 <= len(levels) <= 16


def test_float_levels_are_those_of_two_bits_of_exponent_and_one_of_mantissa():
    values = {(-1) ** s * (m / 2 if e == 0 else 2.0 ** (e - 1) * (1 + m / 2))
              for s in (0, 1) for e in range(4) for m in (0, 1)}  # fmt: skip
    np.testing.assert_allclose(float4_levels() * 6, sorted(values))


@given(generators(), st.sampled_from(sorted(LEVELS)), st.integers(1, 20), st.sampled_from([1e-3, 1.0, 1e3]))
def test_every_number_goes_to_the_nearest_level(rng, name, block, size):
    """Also in a last block that is shorter than the others, and in a block that is longer than a row."""
    x, levels = rng.standard_normal((3, 16)) * size, LEVELS[name]
    found = quantize_to_levels(x, levels, block)
    assert found.codes.shape == x.shape and found.absmax.shape == (3, -(-16 // block))
    starts = np.arange(16) // block * block
    largest = np.stack([np.max(np.abs(x[:, start : start + block]), axis=-1) for start in starts], axis=1)
    nearest = np.min(np.abs(x[..., None] - levels * largest[..., None]), axis=-1)
    error = np.abs(found.dequantize(levels) - x)
    np.testing.assert_allclose(error, nearest, rtol=1e-9, atol=1e-12 * size)
    assert np.all(error <= largest * np.max(np.diff(levels)) / 2 * (1 + 1e-12))
    exact = np.abs(x) == largest
    np.testing.assert_array_equal(found.dequantize(levels)[exact], x[exact])


@given(generators(), st.sampled_from(sorted(LEVELS)))
def test_codes_do_not_feel_the_size_and_scales_carry_it(rng, name):
    x, levels = rng.standard_normal((2, 8)), LEVELS[name]
    one, other = quantize_to_levels(x, levels, 4), quantize_to_levels(4.0 * x, levels, 4)
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_allclose(other.absmax, 4 * one.absmax)
    again = quantize_to_levels(one.dequantize(levels), levels, 4)
    np.testing.assert_array_equal(again.codes, one.codes)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_zeros_stay_zeros(levels):
    x = np.array([[0.0, 3.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    found = quantize_to_levels(x, levels, 4)
    assert not np.any(levels[found.codes[x == 0]]) and not np.any(found.dequantize(levels)[x == 0])


def test_normal_weights_lose_least_in_the_format_made_for_them():
    """Mean square error of normal numbers in blocks of 64: NormalFloat < E2M1 < integers."""
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((50, 256))
        errors = [
            np.mean(np.square(quantize_to_levels(x, LEVELS[name]).dequantize(LEVELS[name]) - x))
            for name in ("normal", "float", "integer")
        ]
        assert errors == sorted(errors)


@given(generators(), st.integers(1, 600))
def test_quantized_scales_are_within_half_a_step(rng, count):
    absmax = rng.uniform(0.5, 2, count)
    found = double_quantize(absmax)
    assert found.dequantize().shape == absmax.shape
    steps = np.repeat(found.differences.scale, 256)[:count]
    assert np.all(np.abs(found.dequantize() - absmax) <= steps / 2 * (1 + 1e-9))
    assert found.differences.codes.size == -(-count // 256) * 256


def test_scales_cost_an_eighth_of_a_bit_per_weight():
    absmax = np.ones((256, 64), np.float32)  # of 2^20 weights in blocks of 64
    found = double_quantize(absmax)
    bits = 8 * (found.differences.codes.nbytes + found.differences.scale.nbytes + found.mean.nbytes)
    assert bits / 2**20 == pytest.approx(0.127, abs=0.0005)
    np.testing.assert_array_equal(found.dequantize(), absmax)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    found = quantize_to_levels(np.linspace(-2, 3, 8, dtype=dtype), LEVELS["normal"], 4)
    assert found.codes.dtype == np.uint8 and found.absmax.dtype == found.dequantize(LEVELS["normal"]).dtype == dtype
    assert double_quantize(found.absmax).dequantize().dtype == dtype


def test_requests_that_cannot_be_honoured_are_refused():
    levels = LEVELS["normal"]
    with pytest.raises(ConfigError, match="block_size"):
        quantize_to_levels(np.ones((2, 6)), levels, 0)
    for wrong in (np.ones(3, int), np.array([np.inf, 1.0]), np.zeros((2, 0)), np.array(1.0)):
        with pytest.raises(DataError):
            quantize_to_levels(wrong, levels, 1)


@given(generators(), st.sampled_from([np.float32, np.float64]))
def test_of_two_levels_at_the_same_distance_the_upper_one_is_chosen(rng, dtype):
    """Levels and middles that are exact floats, at both signs of the absmax and in blocks of zeros."""
    levels = np.array([-1, -0.5, 0, 0.25, 1.0])
    middles = (levels[1:] + levels[:-1]) / 2
    size = dtype(2.0 ** rng.integers(-9, 9))
    x = np.concatenate([[-1], middles, [1], np.zeros(6)]).astype(dtype) * size  # two blocks of 6
    before = x.copy()
    found = quantize_to_levels(x, levels, 6)
    assert found.codes.tolist() == [0, 1, 2, 3, 4, 4, *[2] * 6] and found.codes.dtype == np.uint8
    np.testing.assert_array_equal(found.absmax, np.array([size, 0], dtype), strict=True)
    np.testing.assert_array_equal(found.dequantize(levels), np.append(levels[[0, 1, 2, 3, 4, 4]] * size, np.zeros(6)))
    np.testing.assert_array_equal(x, before)


GAP = np.array([-1.0, 0.0, 1.0])
WRONG_LEVELS = {
    "none": GAP[:0],
    "too many": np.linspace(-1, 1, 257),
    "equal neighbours": np.array([-1, 0, 0, 1.0]),
    "one descent": np.array([-1, 0.5, 0, 1.0]),
    "below -1": np.array([-1.01, 0, 1.0]),
    "above 1": np.array([-1, 0, 1.01]),
    "nan": np.array([-1, np.nan, 1.0]),
}


@pytest.mark.parametrize("levels", WRONG_LEVELS.values(), ids=WRONG_LEVELS)
def test_levels_that_do_not_ascend_from_minus_one_to_one_are_refused(levels):
    with pytest.raises(DataError, match="levels must be at most 256 ascending numbers from -1 to 1"):
        quantize_to_levels(np.ones((2, 6)), levels, 3)


def test_numbers_of_levels_and_block_sizes_at_both_ends():
    x = np.linspace(-1, 1, 256).reshape(1, 256)
    found = quantize_to_levels(x, x[0], 256)  # as many levels as a byte has values, one block per row
    assert found.codes.tolist() == [list(range(256))] and found.absmax.tolist() == [[1]]
    np.testing.assert_array_equal(quantize_to_levels(x, np.array([0.0]), 1).codes, 0)
    for size in (0, 2**31 + 1, 2.0):
        with pytest.raises(ConfigError, match="block_size must be a whole number from 1 to 2147483648"):
            quantize_to_levels(x, GAP, size)
    assert quantize_to_levels(x, GAP, 2**31).absmax.shape == (1, 1)
    with pytest.raises(DataError, match=r"x must have at least one axis, found shape \(\)"):
        quantize_to_levels(np.array(2.0), GAP, 1)


@given(generators(), st.integers(1, 7), st.integers(1, 20), st.sampled_from([np.float32, np.float64]))
def test_double_quantization_is_affine_quantization_of_the_distances_from_the_mean(rng, block, count, dtype):
    """In order, padded with zeros to whole blocks, with the mean in float64 rounded once."""
    absmax = (rng.standard_exponential((1, count)) ** 3).astype(dtype)
    found = double_quantize(absmax, block)
    mean = np.mean(absmax.astype(np.float64)).astype(dtype)
    assert found.mean == mean and found.mean.dtype == dtype and found.mean.shape == () and found.shape == (1, count)
    padded = np.pad(absmax[0] - mean, (0, -count % block))
    expected = quantize(padded, group_size=block)
    np.testing.assert_array_equal(found.differences.codes, expected.codes, strict=True)
    np.testing.assert_array_equal(found.differences.scale, expected.scale, strict=True)
    scales = np.maximum(expected.dequantize()[:count] + mean, 0).reshape(1, count)
    np.testing.assert_array_equal(found.dequantize(), scales, strict=True)


def test_a_scale_is_never_rounded_below_zero():
    absmax = np.append(np.zeros(10), 1000.0)
    found = double_quantize(absmax)
    assert np.min(found.differences.dequantize()[:11] + found.mean) < 0
    assert found.dequantize()[:10].tolist() == [0] * 10


def test_scales_that_cannot_be_quantized_are_refused():
    for bad, message in ((-1e-9, "negative"), (np.nan, "finite"), (np.inf, "finite")):
        with pytest.raises(DataError, match=f"absmax must .*{message}"):
            double_quantize(np.array([1.0, bad, 2.0]))
    with pytest.raises(DataError, match=r"absmax must have at least one entry, found shape \(2, 0\)"):
        double_quantize(np.zeros((2, 0)))
    for block in (0, 1.0, 2**31 + 1):
        with pytest.raises(ConfigError, match="block must be a whole number from 1"):
            double_quantize(np.ones(3), block)
    assert double_quantize(np.array(2.0), 1).dequantize() == 2 and double_quantize(np.ones(2), 1).mean == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_middles_between_levels_are_rounded_to_the_dtype_of_the_numbers(levels, dtype):
    """A number exactly at a rounded middle goes to the upper level, and the number just below it to the lower one."""
    middles = ((levels[1:] + levels[:-1]) / 2).astype(dtype)
    for x, shift in ((middles, 1), (np.nextafter(middles, dtype(-1)), 0)):
        found = quantize_to_levels(np.append(x, dtype(1)), levels, len(levels))
        assert found.codes[:-1].tolist() == (np.arange(len(levels) - 1) + shift).tolist()


def test_integer_levels_are_sevenths():
    np.testing.assert_array_equal(integer4_levels() * 7, np.arange(-7, 8))
    np.testing.assert_allclose(normal_float4_levels(), PUBLISHED, atol=1e-7)
