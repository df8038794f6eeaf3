"""Relative position bias: the buckets in exact integer arithmetic, their published properties, the gradient."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.ops.formulas import exact_buckets
from tests.strategies import seeds
from tinyslm import ops
from tinyslm.errors import ConfigError, DataError

DISTANCES = np.arange(-500, 501)


@st.composite
def settings(draw):
    """Any table: an even or odd number of buckets, farther or nearer distances."""
    buckets = draw(st.integers(4, 40))
    return {"buckets": buckets, "max_distance": draw(st.integers(buckets // 2 + 1, 300))}


@given(settings(), st.booleans())
def test_buckets_equal_exact_arithmetic(table, bidirectional):
    found = ops.relative_position_buckets(DISTANCES, bidirectional=bidirectional, **table)
    n = table["buckets"] // 2 if bidirectional else table["buckets"]
    for distance, bucket in zip(DISTANCES.tolist(), found.tolist(), strict=True):
        first = n if bidirectional and distance > 0 else 0
        length = abs(distance) if bidirectional else max(-distance, 0)
        low, high = exact_buckets(length, n, table["max_distance"])
        assert low <= bucket - first <= high, distance


@given(settings())
def test_published_properties(table):
    """Raffel et al., section 2.1: a bucket of its own for near offsets, logarithmically more in the others, and one for
    everything beyond max_distance."""
    n, exact = table["buckets"], table["buckets"] // 2
    before = ops.relative_position_buckets(-np.arange(1000), bidirectional=False, **table)
    np.testing.assert_array_equal(before[:exact], np.arange(exact))
    assert (np.diff(before) >= 0).all()
    assert (before[exact:] >= exact).all()
    assert (before[table["max_distance"] :] == n - 1).all()
    after = ops.relative_position_buckets(np.arange(1000), bidirectional=False, **table)
    np.testing.assert_array_equal(after, 0)


@given(settings())
def test_two_directions_are_two_tables_of_half_the_size(table):
    half = table["buckets"] // 2
    both = ops.relative_position_buckets(DISTANCES, bidirectional=True, **table)
    one = ops.relative_position_buckets(-np.abs(DISTANCES), bidirectional=False, **table | {"buckets": half})
    np.testing.assert_array_equal(both, one + half * (DISTANCES > 0))


def test_the_buckets_of_t5():
    """32 buckets up to 128 tokens: the first distance of each bucket, as transformers 5 has them."""
    table = {"buckets": 32, "max_distance": 128}
    before = ops.relative_position_buckets(-np.arange(200), bidirectional=False, **table)
    starts = [*range(16), 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]
    np.testing.assert_array_equal(np.unique(before, return_index=True)[1], starts)
    either = ops.relative_position_buckets(-np.arange(200), bidirectional=True, **table)
    np.testing.assert_array_equal(np.unique(either, return_index=True)[1], [*range(8), 8, 12, 16, 23, 32, 46, 64, 91])


@given(seeds, st.booleans())
def test_the_bias_and_its_gradient(seed, bidirectional):
    """One number per head and bucket; a bucket used several times receives a sum."""
    rng = np.random.default_rng(seed)
    T, S, H, n = 3, 7, 2, 5
    buckets = rng.integers(0, n, (T, S))
    table = rng.standard_normal((n, H))
    bias = ops.relative_position_bias(buckets, table)
    for h, t, s in np.ndindex(H, T, S):
        assert bias[h, t, s] == table[buckets[t, s], h]
    check_operation(ops.relative_position_bias, buckets, table)


def test_buckets_keep_the_shape():
    found = ops.relative_position_buckets(np.arange(6).reshape(2, 3), buckets=8, max_distance=9, bidirectional=True)
    assert found.shape == (2, 3) and np.issubdtype(found.dtype, np.integer)


def float32_bucket(length, n, max_distance):
    """The published formula for a distance of at least n // 2, each step rounded to float32."""
    exact = n // 2
    logarithm = np.log(np.float32(length) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    return min(exact + int(logarithm * np.float32(n - exact)), n - 1)


def test_the_logarithm_is_computed_in_float32():
    """At the border of two buckets the rounding decides; transformers rounds to float32. Some buckets differ."""
    differences = 0
    for n, max_distance in ((9, 128), (10, 160), (19, 288), (20, 320), (32, 128), (36, 98), (51, 81)):
        lengths = range(n // 2, max_distance + 2)
        settings = {"buckets": n, "max_distance": max_distance, "bidirectional": False}
        found = ops.relative_position_buckets(-np.array(lengths), **settings)
        assert found.tolist() == [float32_bucket(length, n, max_distance) for length in lengths]
        exact = n // 2
        wide = exact + np.log(np.array(lengths) / exact) / math.log(max_distance / exact) * (n - exact)
        differences += np.count_nonzero(found != np.minimum(wide.astype(int), n - 1))
    assert differences > 0


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_smallest_and_the_largest_table(bidirectional):
    """Two buckets for a direction, or half of them just below max_distance."""
    sides = 2 if bidirectional else 1

    def find(n, max_distance, distances):
        buckets = n * sides
        return ops.relative_position_buckets(
            distances, buckets=buckets, max_distance=max_distance, bidirectional=bidirectional
        ).tolist()

    assert find(2, 2, [0, -1, -2, -9]) == [0, 1, 1, 1]
    assert find(5, 3, [0, -1, -2, -3, -4]) == [0, 1, 2, 4, 4]
    for n, max_distance in ((1, 9), (0, 9), (-2, 9), (6, 3), (7, 3)):
        with pytest.raises(ConfigError, match=f"a direction must have at least 2 buckets.* found {n}"):
            find(n, max_distance, [0])
    with pytest.raises(DataError, match="distance has dtype float64, expected integers"):
        find(4, 9, [0.0, 1.0])
