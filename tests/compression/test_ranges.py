"""Calibration of ranges: each method against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization import choose_range, ranges
from tinyslm.compression.quantization.affine import affine_parameters, encode
from tinyslm.compression.quantization.ranges import BINS, CLIP_RATIOS, METHODS, entropy_threshold, join_ranges
from tinyslm.errors import ConfigError, DataError

methods = st.sampled_from(METHODS)
floats = st.sampled_from([np.float32, np.float64])


def heavy_tailed(rng, size=300):
    return rng.standard_normal(size) * np.exp(rng.standard_normal(size))


def error(x, chosen, bits, symmetric):
    """Mean square error of x after rounding to codes that cover this range."""
    scale, zero_point = affine_parameters(*map(np.asarray, chosen), bits=bits, symmetric=symmetric)
    codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    return np.mean(np.square(x - scale * (codes.astype(float) - zero_point)))


@settings(max_examples=30)
@given(generators(), methods, st.booleans(), st.sampled_from([3, 4, 8]), st.sampled_from([0.25, 8.0]))
def test_every_range_holds_zero_grows_with_the_values_and_is_no_wider_than_they_are(
    rng, method, symmetric, bits, factor
):
    x = heavy_tailed(rng) + rng.choice([0, 3])
    lowest, highest = choose_range(x, method, bits=bits, symmetric=symmetric)
    assert lowest <= 0 <= highest and highest > lowest
    full_low, full_high = choose_range(x, symmetric=symmetric)
    assert full_low <= lowest and highest <= full_high
    if symmetric:
        assert lowest == -highest
    scaled = choose_range(factor * x, method, bits=bits, symmetric=symmetric)
    np.testing.assert_allclose(scaled, (factor * lowest, factor * highest), rtol=1e-12)


@given(generators(), methods, st.booleans(), st.integers(2, 8))
def test_numbers_beyond_a_range_are_off_by_their_distance_from_it_and_half_a_step(rng, method, symmetric, bits):
    x = heavy_tailed(rng) + rng.choice([0, 3])
    lowest, highest = choose_range(x, method, bits=bits, symmetric=symmetric)
    scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
    other = np.concatenate([x, 10 * rng.standard_normal(50), [lowest, highest]])
    codes = encode(other, scale, zero_point, bits=bits, symmetric=symmetric)
    error = np.abs(scale * (codes.astype(float) - zero_point) - other)
    distance = np.maximum(np.maximum(other - highest, lowest - other), 0)
    assert np.all(error <= (distance + scale / 2) * (1 + 1e-9))


@given(st.floats(1e-6, 1e6), st.integers(2, 8))
def test_a_range_that_is_as_wide_below_zero_as_above_has_its_zero_on_a_code(end, bits):
    """Half way between two codes: rounding may choose either, but the zero point is a whole number."""
    x = np.array([-end, 0.0, end])
    scale, zero_point = affine_parameters(x[0], x[2], bits=bits, symmetric=False)
    assert zero_point.dtype == np.int32 and zero_point in (-1, 0)
    found = scale * (encode(x, scale, zero_point, bits=bits, symmetric=False).astype(float) - zero_point)
    assert found[1] == 0 and np.all(np.abs(found - x) <= scale / 2 * (1 + 1e-9))


@given(generators(), st.booleans())
def test_all_percent_are_everything(rng, symmetric):
    x = heavy_tailed(rng)
    np.testing.assert_allclose(choose_range(x, "percentile", percentile=100, symmetric=symmetric),
                               choose_range(x, symmetric=symmetric), rtol=1e-14)  # fmt: skip


@given(generators(), st.floats(60, 99), st.booleans())
def test_a_percentile_leaves_out_that_share(rng, percentile, symmetric):
    x = rng.standard_normal(1000)
    lowest, highest = choose_range(x, "percentile", percentile=percentile, symmetric=symmetric)
    outside = np.mean((x < lowest) | (x > highest))
    assert outside == pytest.approx((1 if symmetric else 2) * (1 - percentile / 100), abs=0.003)


@settings(max_examples=30)
@given(generators(), st.booleans(), st.sampled_from([2, 3, 4, 8]))
def test_no_clip_ratio_has_a_smaller_error_than_the_chosen_one(rng, symmetric, bits):
    x = heavy_tailed(rng)
    best = error(x, choose_range(x, "mean_square_error", bits=bits, symmetric=symmetric), bits, symmetric)
    low, high = choose_range(x, symmetric=symmetric)
    for ratio in np.linspace(0.02, 1, 50):
        assert best <= error(x, (ratio * low, ratio * high), bits, symmetric) * (1 + 1e-9)


@given(generators())
def test_ranges_of_batches_join_to_that_of_all(rng):
    x, y = heavy_tailed(rng), heavy_tailed(rng)
    both = np.concatenate([x, y])
    for symmetric in (True, False):
        joined = join_ranges(choose_range(x, symmetric=symmetric), choose_range(y, symmetric=symmetric))
        assert joined == choose_range(both, symmetric=symmetric)


def plain_divergence(counts, i, levels):
    """The definition, bin by bin."""
    p = list(counts[:i])
    p[-1] += sum(counts[i:])
    q = [0.0] * i
    for level in range(levels):
        bins = range(level * i // levels, (level + 1) * i // levels)
        filled = [b for b in bins if counts[b] > 0]
        for b in filled:
            q[b] = sum(counts[b] for b in bins) / len(filled)
    total_p, total_q = sum(p), sum(q)
    divergence = 0.0
    for one, other in zip(p, q, strict=True):
        if one > 0 and other == 0:
            return math.inf
        if one > 0:
            divergence += one / total_p * math.log((one / total_p) / (other / total_q))
    return divergence


@settings(max_examples=5)
@given(generators(), st.sampled_from([4, 8]), st.sampled_from([1.0, 30.0]))
def test_no_threshold_changes_the_distribution_less_than_the_chosen_one(rng, bits, tail):
    x = rng.standard_normal(4000)
    x[:10] *= tail
    threshold = entropy_threshold(x, bits)
    counts, levels = np.histogram(np.abs(x) / np.max(np.abs(x)), BINS, (0, 1))[0].tolist(), 2 ** (bits - 1)
    chosen = round(threshold / np.max(np.abs(x)) * BINS)
    best = plain_divergence(counts, chosen, levels)
    for i in [*rng.integers(levels, BINS, 25), levels, BINS]:
        assert best <= plain_divergence(counts, int(i), levels) + 1e-12


def one_sided(rng, size):
    return np.abs(rng.standard_normal(size))


def relu(rng, size):
    return np.maximum(rng.standard_normal(2 * size), 0)


def sparse(rng, size):
    return np.where(rng.random(10 * size) < 0.9, 0, rng.standard_normal(10 * size))


def uniform(rng, size):
    return rng.uniform(-1, 1, size)


@settings(max_examples=12)
@given(generators(), st.sampled_from([one_sided, relu, sparse, uniform]), st.integers(2 * BINS, 10 * BINS), floats)
def test_entropy_has_at_most_eight_times_the_error_of_the_whole_range(rng, distribution, size, dtype):
    """Also if most values are exactly 0. `size` is about the number of the others."""
    x = distribution(rng, size).astype(dtype)
    assert error(x, choose_range(x, "entropy"), 8, True) <= 8 * error(x, choose_range(x), 8, True)


@settings(max_examples=10)
@given(generators(), st.integers(0, 5000), st.integers(2, 8))
def test_exact_zeros_do_not_change_the_threshold(rng, zeros, bits):
    x = heavy_tailed(rng, 400)
    assert entropy_threshold(np.append(x, np.zeros(zeros)), bits) == entropy_threshold(x, bits)


def test_entropy_clips_what_is_far_away_and_nothing_else():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200_000)
    x[0] = 60.0
    assert 2.5 < entropy_threshold(x) < 10
    assert entropy_threshold(rng.uniform(-1, 1, 200_000)) > 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "x", [np.zeros(5), np.array([3.0]), np.array(-2.0), np.full(7, 1e-30), np.array([1e30, 1e-30])]
)
def test_odd_arrays_have_ranges_too(method, x):
    for symmetric in (True, False):
        lowest, highest = choose_range(x, method, symmetric=symmetric)
        assert np.isfinite([lowest, highest]).all() and lowest <= 0 <= highest
        assert np.isfinite(error(np.atleast_1d(x), (lowest, highest), 8, symmetric))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_the_dtype_stays(method, dtype):
    lowest, highest = choose_range(np.arange(-3, 9, dtype=dtype), method, symmetric=False)
    assert lowest.dtype == highest.dtype == dtype


def test_requests_that_cannot_be_honoured_are_refused():
    x = np.ones(3)
    with pytest.raises(ConfigError, match="method is 'maximum', expected one of min_max"):
        choose_range(x, "maximum")
    with pytest.raises(ConfigError, match="percentile must be"):
        choose_range(x, "percentile", percentile=40)
    for wrong in (np.ones(3, int), np.zeros(0), np.array([np.nan])):
        with pytest.raises(DataError):
            choose_range(wrong)


@given(generators(), floats, st.booleans(), st.sampled_from([-4, 0, 4]))
def test_min_max_is_the_whole_range_with_zero(rng, dtype, symmetric, shift):
    x = (rng.standard_normal((2, 5)) + shift).astype(dtype)
    lowest, highest = min(x.min(), 0), max(x.max(), 0)
    expected = (-max(highest, -lowest), max(highest, -lowest)) if symmetric else (lowest, highest)
    found = choose_range(x, symmetric=symmetric)
    assert found == expected and all(type(end) is dtype for end in found)


@given(generators(), st.sampled_from([50.01, 75, 99.9, 100]), st.sampled_from([-4, 0, 4]))
def test_percentiles_are_those_of_the_magnitudes_or_of_the_values(rng, percentile, shift):
    x = rng.standard_normal((4, 25)) + shift
    end = np.percentile(np.abs(x), percentile)
    assert choose_range(x, "percentile", percentile=percentile) == (-end, end)
    ends = min(np.percentile(x, 100 - percentile), 0), max(np.percentile(x, percentile), 0)
    assert choose_range(x, "percentile", percentile=percentile, symmetric=False) == ends


@pytest.mark.parametrize("percentile", [50, 100.01, -1, np.nan, np.inf])
@pytest.mark.parametrize("symmetric", [True, False])
def test_percentiles_that_leave_out_half_or_more_or_exceed_all_are_refused(percentile, symmetric):
    with pytest.raises(ConfigError, match="percentile must be above 50 and up to 100"):
        choose_range(np.ones(3), "percentile", percentile=percentile, symmetric=symmetric)


@settings(max_examples=20)
@given(generators(), st.integers(2, 8), st.booleans(), floats, st.sampled_from([0, 2]))
def test_the_mean_square_error_is_minimal_over_the_stated_ratios(rng, bits, symmetric, dtype, shift):
    """In float64, for a range in the dtype of x; of ratios with the same error the largest."""
    x = (heavy_tailed(rng, 40) + shift).astype(dtype)
    low, high = choose_range(x, symmetric=symmetric)
    ratios, errors = CLIP_RATIOS.astype(dtype), []
    for ratio in ratios:
        q = affine_parameters(ratio * low, ratio * high, bits=bits, symmetric=symmetric)
        codes = encode(x, *q, bits=bits, symmetric=symmetric).astype(dtype)
        rounded = q[0] * (codes - q[1].astype(dtype))
        errors.append(np.mean(np.square((x - rounded).astype(np.float64))))
    best = ratios[max(i for i in range(50) if errors[i] == min(errors))]
    found = choose_range(x, "mean_square_error", bits=bits, symmetric=symmetric)
    assert found == (best * low, best * high) and found[0].dtype == found[1].dtype == dtype


def test_of_clip_ratios_with_the_same_error_the_largest_is_chosen():
    """The steps of ratio 1 and of ratio 1/2 have the same error here, and all others a larger one."""
    np.testing.assert_allclose(CLIP_RATIOS, np.arange(1, 51) / 50, rtol=1e-14)
    assert CLIP_RATIOS[24] == 0.5 and CLIP_RATIOS[49] == 1
    x = np.array([-6, 3, *[1.5] * 5, *[-3] * 1000])
    errors = [error(x, (-6 * ratio, 3 * ratio), 2, False) for ratio in CLIP_RATIOS]
    assert np.flatnonzero(errors == np.min(errors)).tolist() == [24, 49]
    assert choose_range(x, "mean_square_error", bits=2, symmetric=False) == (-6, 3)


@given(generators(), st.sampled_from([2, 3, 4, 5, 8]), st.sampled_from([24, 7]), st.integers(1, 60))
def test_entropy_chooses_the_best_of_all_thresholds_and_of_equals_the_largest(rng, bits, bins, size):
    """With few bins, so that the definition can be computed for all; also with fewer bins than levels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BINS", bins)
        x = rng.choice([-1, 1], size) * rng.exponential(size=size)
        found = entropy_threshold(x, bits)
    largest, levels = np.max(np.abs(x)), 2 ** (bits - 1)
    counts = np.histogram(np.abs(x) / largest, bins, (0, 1))[0].tolist()
    divergences = {i: max(plain_divergence(counts, i, levels), 0) for i in range(min(levels, bins), bins + 1)}
    least = min(divergences.values())
    best = max(i for i, value in divergences.items() if value <= least + 1e-12)
    assert type(found) is float
    if math.isfinite(least):
        assert divergences[round(found / largest * bins)] == pytest.approx(least, abs=1e-12)
    if least == 0:
        assert found == largest * best / bins


@settings(max_examples=20)
@given(generators(), floats, st.booleans(), st.integers(2, 8))
def test_entropy_clips_either_side_at_its_threshold(rng, dtype, symmetric, bits):
    x = np.append(rng.uniform(-1, 3, 500), 40).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "BINS", 160)
        threshold = dtype(entropy_threshold(x, bits))
        found = choose_range(x, "entropy", bits=bits, symmetric=symmetric)
    lowest, highest = choose_range(x, symmetric=symmetric)
    assert found == (max(lowest, -threshold), min(highest, threshold))
    assert found[0].dtype == found[1].dtype == dtype


@pytest.mark.parametrize(
    ("levels", "counts"), [(4, [3, 0, 0, 5, 1, 1, 0, 2, 9]), (2, [1, 0, 0, 0, 4]), (3, [0, 0, 7, 1])]
)
def test_the_divergence_of_clipping_is_the_definition(levels, counts):
    """For every number of bins that are kept, infinite ones too: a clipped count in a bin that is empty itself."""
    found = [ranges._divergence_of_clipping(np.array(counts, float), i, levels) for i in range(levels, len(counts) + 1)]
    expected = [max(plain_divergence(counts, i, levels), 0) for i in range(levels, len(counts) + 1)]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    before = np.array(counts, float)
    ranges._divergence_of_clipping(before, levels, levels)
    assert before.tolist() == counts


def test_ranges_join_to_the_smaller_lowest_and_the_larger_highest_end():
    assert join_ranges((-1.0, 2.0), (-3.0, 1.0)) == (-3.0, 2.0) == join_ranges((-3.0, 1.0), (-1.0, 2.0))
    for bad in (np.nan, np.inf, -np.inf):
        for name, wrong in (("one", ((bad, 1.0), (0.0, 1.0))), ("other", ((0.0, 1.0), (0.0, bad)))):
            with pytest.raises(DataError, match=f"{name} must be finite"):
                join_ranges(*wrong)


@pytest.mark.parametrize("function", [choose_range, entropy_threshold])
def test_arrays_without_a_range_are_refused(function):
    for wrong, message in (
        (np.zeros((2, 0)), r"x must have at least one entry, found shape \(2, 0\)"),
        (np.array([1.0, np.nan, 2.0]), "x must be finite"),
        (np.array([1.0, -np.inf]), "x must be finite"),
        (np.ones(3, np.float16), "must be float32 or float64"),
    ):
        with pytest.raises(DataError, match=message):
            function(wrong)
    for bits in (1, 9, 4.0):
        with pytest.raises(ConfigError, match="bits must be a whole number from 2 to 8"):
            entropy_threshold(np.ones(3), bits)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_thresholds_of_many_draws_are_the_best(bits, monkeypatch):
    monkeypatch.setattr(ranges, "BINS", 40)
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(200) ** 3
        largest, levels = np.max(np.abs(x)), 2 ** (bits - 1)
        counts = np.histogram(np.abs(x) / largest, 40, (0, 1))[0].tolist()
        divergences = {i: plain_divergence(counts, i, levels) for i in range(levels, 41)}
        chosen = round(entropy_threshold(x, bits) / largest * 40)
        assert divergences[chosen] == pytest.approx(min(divergences.values()), rel=1e-9)


def test_thresholds_of_zeros_and_of_one_number():
    for zeros in (np.zeros(3), np.zeros(1, np.float32)):
        threshold = entropy_threshold(zeros)
        assert threshold == 0 and type(threshold) is float
    for size in (1.0, 2.0, 1e-30):
        assert entropy_threshold(np.array([0.0, -size, size])) == size
        assert choose_range(np.array([size, size]), "entropy", symmetric=False) == (0, size)


@given(generators(), floats, st.booleans(), st.integers(2, 8))
def test_errors_of_rounding_are_those_of_numbers_in_the_dtype_of_the_array(rng, dtype, symmetric, bits):
    """Squared and averaged in float64."""
    x = (rng.standard_normal(50) + 1).astype(dtype)
    lowest, highest = dtype(-0.5), dtype(1.5)
    found = ranges._rounding_error(x, lowest, highest, bits, symmetric)
    scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
    codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    rounded = scale * (codes.astype(dtype) - dtype(zero_point))
    assert found == np.mean((x - rounded).astype(np.float64) ** 2) and found.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranges_are_tried_in_the_dtype_of_the_array(dtype, monkeypatch):
    found = []
    plain = ranges._rounding_error
    monkeypatch.setattr(ranges, "_rounding_error", lambda *all: (found.append(all[1:]), plain(*all))[1])
    choose_range(np.array([-1, 0.3, 2], dtype), "mean_square_error", bits=3, symmetric=False)
    assert len(found) == 50 and {end.dtype for ends in found for end in ends[:2]} == {np.dtype(dtype)}
    assert {ends[2:] for ends in found} == {(3, False)}
    np.testing.assert_array_equal([ends[0] for ends in found], -CLIP_RATIOS.astype(dtype))
    np.testing.assert_array_equal([ends[1] for ends in found], 2 * CLIP_RATIOS.astype(dtype))


@pytest.mark.parametrize("wrong", [(1.0,), (), (0.0, 1.0, 2.0)])
def test_a_range_has_two_ends(wrong):
    for ends in ((wrong, (0.0, 1.0)), ((0.0, 1.0), wrong)):
        with pytest.raises(DataError):
            join_ranges(*ends)


def test_thresholds_are_edges_of_2048_bins():
    x = np.append(np.random.default_rng(0).standard_normal(2000), 40.0)
    edge = entropy_threshold(x) / 40 * 2048
    assert edge < 1024 and edge == round(edge) and BINS == 2048
