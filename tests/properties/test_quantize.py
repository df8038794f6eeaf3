"""Affine quantization: rounding bounds, exact zeros, ranges, invariances."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.strategies import generators, matrices
from tinyslm.coursework.implementation import (
    affine_parameters,
    code_range,
    encode,
    quantize,
)
from tinyslm.errors import ConfigError, DataError

every_bits = st.integers(2, 8)
granularities = st.sampled_from([{}, {"axis": 0}, {"axis": 1}, {"axis": -1}, {"group_size": 1}, {"group_size": "all"}])


def settings_for(x, granularity):
    """group_size "all" is the whole last axis: the only size besides 1 that divides every width."""
    return {"group_size": x.shape[-1]} if granularity.get("group_size") == "all" else granularity


def zero_points(q):
    """The zero points of a quantized array; None stands for zeros."""
    return np.zeros(np.shape(q.scale), np.int32) if q.zero_point is None else q.zero_point


def spread(parameter, x, granularity):
    """scale or zero point, repeated to the shape of x."""
    if "group_size" in granularity:
        return np.repeat(parameter, granularity["group_size"], axis=-1)
    return np.broadcast_to(parameter, x.shape)


@given(matrices(), every_bits, st.booleans(), granularities)
def test_the_error_is_at_most_half_a_step(x, bits, symmetric, granularity):
    granularity = settings_for(x, granularity)
    q = quantize(x, bits=bits, symmetric=symmetric, **granularity)
    step = spread(q.scale, x, granularity)
    low, high = code_range(bits, symmetric)
    assert q.codes.dtype == np.int8 and q.codes.min() >= low and q.codes.max() <= high
    assert np.all((zero_points(q) >= low) & (zero_points(q) <= high)) and zero_points(q).dtype == np.int32
    assert np.all(np.abs(q.dequantize() - x) <= step / 2 * (1 + 1e-9))


@given(matrices(np.float32), every_bits, st.booleans(), granularities)
def test_in_float32(x, bits, symmetric, granularity):
    granularity = settings_for(x, granularity)
    q = quantize(x, bits=bits, symmetric=symmetric, **granularity)
    assert q.scale.dtype == np.float32 and q.dequantize().dtype == np.float32
    slack = 256 * np.finfo(np.float32).eps  # x / scale has up to 255 units, each rounding is relative to that
    assert np.all(np.abs(q.dequantize() - x) <= spread(q.scale, x, granularity) * (0.5 + slack))


@given(matrices(), every_bits, granularities)
def test_the_whole_range_of_codes_is_used(x, bits, granularity):
    """A scale that is too large would also pass the bound of half a step."""
    granularity = settings_for(x, granularity)
    largest = np.abs(quantize(x, bits=bits, **granularity).codes.astype(int)).max()
    assert largest == (code_range(bits, True)[1] if np.any(x) else 0)
    if np.any(x):
        codes = quantize(np.append(x, 0), bits=bits, symmetric=False).codes.astype(int)
        assert np.ptp(codes) >= 2**bits - 2  # rounding the zero point can cost one code


@given(st.floats(-100, 100), st.floats(0, 100), every_bits)
def test_a_range_is_widened_until_it_contains_zero(lowest, width, bits):
    """Zero has a code of its own, also for ranges on one side of it."""
    low, high = np.float64(lowest), np.float64(lowest + width)
    scale, zero_point = affine_parameters(low, high, bits=bits, symmetric=False)
    low_code, high_code = code_range(bits, False)
    assert low_code <= zero_point <= high_code and zero_point.dtype == np.int32
    codes = encode(np.array([0.0, low, high]), scale, zero_point, bits=bits, symmetric=False)
    assert codes[0] == zero_point
    np.testing.assert_allclose(scale * (codes.astype(float) - zero_point)[1:], [low, high], rtol=0, atol=scale)


@given(matrices(), every_bits, granularities)
def test_zero_is_exact_and_symmetric_codes_are_odd(x, bits, granularity):
    granularity = settings_for(x, granularity)
    x = np.where(np.arange(x.size).reshape(x.shape) % 3 == 0, 0.0, x)
    for symmetric in (True, False):
        q = quantize(x, bits=bits, symmetric=symmetric, **granularity)
        assert not np.any(q.dequantize()[x == 0])
    q = quantize(x, bits=bits, **granularity)
    np.testing.assert_array_equal(quantize(-x, bits=bits, **granularity).codes, -q.codes)
    assert not np.any(q.zero_point)


@given(matrices(), every_bits, st.booleans(), granularities)
def test_quantizing_twice_is_quantizing_once(x, bits, symmetric, granularity):
    granularity = settings_for(x, granularity)
    q = quantize(x, bits=bits, symmetric=symmetric, **granularity)
    rounded = q.dequantize()
    if "group_size" not in granularity:
        again = encode(rounded, q.scale, zero_points(q), bits=bits, symmetric=symmetric)
        np.testing.assert_array_equal(again, q.codes)
    renewed = quantize(rounded, bits=bits, symmetric=symmetric, **granularity).dequantize()
    if symmetric:
        np.testing.assert_allclose(renewed, rounded, rtol=1e-12, atol=1e-12 * np.max(np.abs(x), initial=0))
    assert np.all(np.abs(renewed - rounded) <= spread(q.scale, x, granularity) / 2 * (1 + 1e-9))


@given(matrices(), every_bits, st.booleans())
def test_monotone_and_every_code_stands_for_itself(x, bits, symmetric):
    q = quantize(x, bits=bits, symmetric=symmetric)
    order = np.argsort(x, axis=None)
    assert np.all(np.diff(q.codes.reshape(-1)[order].astype(int)) >= 0)
    low, high = code_range(bits, symmetric)
    codes = np.arange(low, high + 1)
    values = q.scale * (codes - zero_points(q))
    np.testing.assert_array_equal(encode(values, q.scale, zero_points(q), bits=bits, symmetric=symmetric), codes)


@given(generators(), every_bits, st.booleans())
def test_finer_scales_are_never_larger(rng, bits, symmetric):
    x = rng.standard_normal((5, 12)) * np.exp(rng.standard_normal((5, 1)))
    tensor, channel, group = (
        quantize(x, bits=bits, symmetric=symmetric, **g).scale for g in ({}, {"axis": 0}, {"group_size": 4})
    )
    assert tensor.shape == () and channel.shape == (5, 1) and group.shape == (5, 3)
    assert np.all(group <= channel) and np.all(channel <= tensor)
    expected = np.abs(x).max(axis=1, keepdims=True) / code_range(bits, True)[1]
    assert not symmetric or np.array_equal(channel, expected)


@pytest.mark.parametrize("symmetric", [True, False])
def test_each_bit_quarters_the_squared_error(symmetric):
    x = np.random.default_rng(0).uniform(-1, 1, 200_000)
    errors = []
    for bits in range(4, 9):
        q = quantize(x, bits=bits, symmetric=symmetric)
        errors.append(np.mean((q.dequantize() - x) ** 2))
        assert errors[-1] == pytest.approx(q.scale**2 / 12, rel=0.05)
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.all((ratios > 3.4) & (ratios < 4.8))


@given(matrices(), every_bits, st.booleans(), st.integers(-20, 20))
def test_scaling_the_array_scales_the_step(x, bits, symmetric, power):
    assume(np.any(x))
    q = quantize(x, bits=bits, symmetric=symmetric)
    scaled = quantize(x * 2.0**power, bits=bits, symmetric=symmetric)
    assert scaled.scale == q.scale * 2.0**power and zero_points(scaled) == zero_points(q)
    np.testing.assert_array_equal(scaled.codes, q.codes)


@given(generators(), st.booleans())
def test_rows_are_quantized_independently(rng, symmetric):
    x = rng.standard_normal((5, 8))
    order, factors = rng.permutation(5), 2.0 ** rng.integers(-9, 9, (5, 1))
    q = quantize(x, axis=0, symmetric=symmetric)
    moved = quantize((x * factors)[order], axis=0, symmetric=symmetric)
    np.testing.assert_array_equal(moved.codes, q.codes[order])
    np.testing.assert_array_equal(moved.scale, (q.scale * factors)[order])


def test_axes_are_those_named():
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for axis, shape in ((0, (2, 1, 1)), (1, (1, 3, 1)), (-1, (1, 1, 4))):
        q = quantize(x, axis=axis)
        others = tuple(i for i in range(3) if i != axis % 3)
        assert q.scale.shape == shape and zero_points(q).shape == shape
        np.testing.assert_array_equal(np.abs(q.codes).max(axis=others), 127)
    assert quantize(x, group_size=2).scale.shape == (2, 3, 2)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=0, max_dims=3),
        elements=st.floats(-(2.0**126), 2.0**126, width=32),
    ),
    every_bits,
    st.booleans(),
)
def test_no_array_gives_nan_or_infinity(x, bits, symmetric):
    """Constant, subnormal, single-element arrays and huge ranges."""
    granularities = [{}] + [{"axis": i} for i in range(x.ndim)]
    for granularity in granularities:
        q = quantize(x, bits=bits, symmetric=symmetric, **granularity)
        assert q.codes.shape == x.shape and np.all(np.isfinite(q.scale)) and np.all(q.scale > 0)
        assert np.all(np.isfinite(q.dequantize()))
        assert np.all(np.abs(q.dequantize() - x) <= q.scale * np.float32(0.5001))


@pytest.mark.ungraded
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_an_array_without_entries_has_no_codes(shape, symmetric):
    for granularity in [{}] + [{"axis": i} for i in range(len(shape))]:
        q = quantize(np.zeros(shape, np.float32), symmetric=symmetric, **granularity)
        assert q.codes.shape == shape and np.all(np.isfinite(q.scale)) and np.all(q.scale > 0)
        assert q.dequantize().shape == shape


@pytest.mark.ungraded
def test_symmetric_zero_points_are_arrays_of_zeros():
    q = quantize(np.ones((2, 3)), axis=0)
    np.testing.assert_array_equal(q.zero_point, np.zeros((2, 1), np.int32), strict=True)


@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_and_constant_arrays(symmetric):
    zero = quantize(np.zeros((2, 3)), symmetric=symmetric)
    assert zero.scale == 1 and not np.any(zero.dequantize())
    for value in (5.0, -5.0):
        constant = quantize(np.full((2, 3), value), symmetric=symmetric)
        np.testing.assert_allclose(constant.dequantize(), value, rtol=1e-12)


def test_ranges_next_to_the_smallest_float_keep_half_a_step():
    smallest = np.float32(2.0**-149)
    for units in (1, 71, 190, 1000):  # 190 / 127 is one unit when rounded, and 190 units would be clipped to 127
        x = np.array([units, -units / 2], np.float32) * smallest
        for symmetric in (True, False):
            q = quantize(x, symmetric=symmetric)
            assert np.all(np.abs(q.dequantize() - x) <= q.scale / 2)


@pytest.mark.ungraded
def test_ranges_of_codes():
    assert code_range(8, True) == (-127, 127) and code_range(8, False) == (-128, 127)
    assert code_range(2, True) == (-1, 1) and code_range(2, False) == (-2, 1)


def test_bytes():
    q = quantize(np.ones((64, 32), np.float32), axis=0)
    assert q.codes.nbytes == 64 * 32 and q.scale.nbytes == 4 * 64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.ungraded
def test_arrays_that_cannot_be_quantized_are_refused(bad):
    for settings in ({}, {"axis": 0}, {"symmetric": False}, {"group_size": 2}):
        with pytest.raises(DataError, match="quantize"):
            quantize(np.array([[1, bad]], np.float32), **settings)
    with pytest.raises(DataError, match="int64"):
        quantize(np.arange(4))


BOTH = {"axis": 0, "group_size": 2}


@pytest.mark.parametrize(
    "settings",
    [{"bits": 1}, {"bits": 9}, {"bits": 4.0}, {"axis": 2}, {"axis": -3}, {"group_size": 0}, BOTH],
)
@pytest.mark.ungraded
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        quantize(np.ones((2, 4)), **settings)


@pytest.mark.ungraded
@given(generators(), every_bits, st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_codes_scales_and_zero_points_are_those_of_the_formulas(rng, bits, symmetric, dtype):
    """To the last bit: one scale per matrix, per index of each axis, and per group, of an array with three axes."""
    x = (rng.standard_normal((2, 3, 8)) + rng.choice([-3, 0, 3])).astype(dtype)
    low, high = code_range(bits, symmetric)
    parts = {
        None: (x.reshape(1, -1), {}, ()),
        0: (x.reshape(2, -1), {"axis": 0}, (2, 1, 1)),
        1: (x.swapaxes(0, 1).reshape(3, -1), {"axis": 1}, (1, 3, 1)),
        -1: (x.reshape(-1, 8).T, {"axis": -1}, (1, 1, 8)),
        "groups": (x.reshape(12, 4), {"group_size": 4}, (2, 3, 2)),
    }
    for rows, settings, shape in parts.values():
        lowest, highest = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
        levels = dtype(high - low)
        scale = np.maximum(highest, -lowest) / dtype(high) if symmetric else highest / levels - lowest / levels
        zero = np.zeros(len(rows)) if symmetric else np.clip(np.round(low - lowest / scale), low, high)
        q = quantize(x, bits=bits, symmetric=symmetric, **settings)
        assert (q.bits, q.group_size) == (bits, settings.get("group_size"))
        np.testing.assert_array_equal(q.scale, scale.reshape(shape), strict=True)
        np.testing.assert_array_equal(q.zero_point, zero.astype(np.int32).reshape(shape), strict=True)
        part = quantize(rows, bits=bits, symmetric=symmetric, axis=0)
        expected = np.clip(np.round(rows / scale[:, None]) + zero[:, None], low, high).astype(np.int8)
        np.testing.assert_array_equal(part.codes, expected, strict=True)
        values = scale[:, None] * (expected.astype(dtype) - zero[:, None].astype(dtype))
        np.testing.assert_array_equal(part.dequantize(), values, strict=True)
        np.testing.assert_array_equal(np.sort(q.dequantize(), axis=None), np.sort(values, axis=None), strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.ungraded
def test_magnitudes_up_to_half_of_the_largest_float_are_accepted(dtype, symmetric):
    """Both ends; one entry above it, or nan, among good ones is refused."""
    limit = np.finfo(dtype).max / 2
    beyond = np.nextafter(limit, np.finfo(dtype).max)
    for end in (limit, -limit):
        q = quantize(np.array([1, end], dtype), symmetric=symmetric)
        assert np.isfinite(q.dequantize()).all() and q.dequantize()[1] == pytest.approx(end)
    for lowest, highest in ((0, beyond), (-beyond, 0), (np.nan, 1), (-1, np.nan), (-1, np.inf), (-np.inf, 1)):
        with pytest.raises(DataError, match="cannot quantize nan, infinity or magnitudes above"):
            affine_parameters(np.array([0, lowest], dtype), np.array([0, highest], dtype), symmetric=symmetric)


@pytest.mark.ungraded
def test_ends_of_ranges_and_arrays_must_be_float32_or_float64():
    one = np.array(1.0)
    for wrong in (np.array(1), np.array(1, np.float16), np.array(True)):
        with pytest.raises(DataError, match="must be float32 or float64"):
            affine_parameters(-one, wrong)
        with pytest.raises(DataError, match="must be float32 or float64"):
            affine_parameters(wrong, one)
        with pytest.raises(DataError, match="must be float32 or float64"):
            quantize(wrong.reshape(1, 1))
        with pytest.raises(DataError, match="must be float32 or float64"):
            encode(wrong, one, one)


@pytest.mark.ungraded
def test_a_range_without_width_has_scale_one_and_a_tiny_one_the_smallest_normal_float():
    tiny = np.finfo(np.float32).tiny
    for symmetric in (True, False):
        ends = np.array([0, -tiny], np.float32), np.array([0, tiny], np.float32)
        scale, zero_point = affine_parameters(*ends, symmetric=symmetric)
        np.testing.assert_array_equal(scale, np.array([1, tiny], np.float32), strict=True)
        assert zero_point[0] == (0 if symmetric else -128)


@pytest.mark.ungraded
@given(every_bits, st.booleans())
def test_quotients_that_overflow_have_the_first_or_the_last_code(bits, symmetric):
    low, high = code_range(bits, symmetric)
    for scale, x in ((np.array(1e-308), 1e300), (np.array(1e-3), 1e308)):
        codes = encode(np.array([-x, 0.0, x]), scale, np.array(0), bits=bits, symmetric=symmetric)
        assert codes.tolist() == [low, 0, high] and codes.dtype == np.int8


@pytest.mark.ungraded
def test_one_bad_number_among_good_ones_is_not_encoded():
    x, scale, zero = np.ones((2, 3)), np.ones((2, 1)), np.zeros((2, 1))
    assert encode(x, scale, zero).tolist() == [[1] * 3] * 2
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="cannot quantize nan or infinity"):
            encode(np.where(np.eye(2, 3), bad, x), scale, zero)
        with pytest.raises(DataError, match="zero_point must be finite"):
            encode(x, scale, np.array([[0], [bad]]))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="scale must be finite and above 0"):
            encode(x, np.array([[1.0], [bad]]), zero)
    for bits in (1, 9, 3.0):
        with pytest.raises(ConfigError, match="bits must be a whole number from 2 to 8"):
            encode(x, scale, zero, bits=bits)


@pytest.mark.ungraded
def test_axes_and_groups_at_both_ends_of_what_is_possible():
    x = np.arange(24.0).reshape(2, 3, 4)
    for axis in (-3, -2, -1, 0, 1, 2):
        assert quantize(x, axis=axis).scale.size == x.shape[axis]
    for axis in (-4, 3, 1.0):
        with pytest.raises(ConfigError, match="axis must be a whole number from -3 to 2"):
            quantize(x, axis=axis)
    for size in (1, 2, 4):
        assert quantize(x, group_size=size).scale.shape == (2, 3, 4 // size)
    for size in (0, 2.0):
        with pytest.raises(ConfigError, match="group_size must be a whole number"):
            quantize(x, group_size=size)
    for size in (3, 5):
        with pytest.raises(DataError, match="group_size must divide the last axis"):
            quantize(x, group_size=size)
    with pytest.raises(DataError, match=r"group_size must divide the last axis of shape \(\), found 1"):
        quantize(np.array(1.0), group_size=1)
    empty = quantize(np.zeros((2, 0)), group_size=1)
    assert empty.codes.shape == empty.scale.shape == (2, 0)
    with pytest.raises(ConfigError, match="axis or group_size, not both"):
        quantize(x, axis=0, group_size=4)


@pytest.mark.ungraded
def test_lists_and_numbers_are_accepted_and_whole_numbers_named():
    q = quantize([[1.0, -2.0], [0.5, 0.25]], bits=4, axis=0)
    assert q.codes.tolist() == [[4, -7], [7, 4]]
    for ends in ((-1.0, 1.0), (np.array(-1.0), 1.0), (-1.0, np.array(1.0))):
        scale, zero_point = affine_parameters(*ends, bits=4)
        assert scale == 1 / 7 and zero_point == 0 and scale.dtype == np.float64
    with pytest.raises(DataError, match=r"to quantize,? x,? .*float32 or float64, found int64"):
        quantize([[1, 2]])


@pytest.mark.ungraded
def test_codes_beyond_the_range_of_floats_come_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = encode(np.array([1e308, -1e308], np.float64), np.array(1e-3), np.array(0))
        assert codes.tolist() == [127, -127]
        assert encode(np.array([3e38], np.float32), np.array(1e-3, np.float32), np.array(0)).tolist() == [127]
