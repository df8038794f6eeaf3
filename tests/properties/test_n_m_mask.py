"""N:M masks: exact counts along the inputs, the best choice in each group, and a lossless packed form."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.coursework.implementation import magnitude_mask, n_m_mask, pack_n_m, parse_pattern
from tinyslm.errors import ConfigError, DataError


@st.composite
def grouped(draw, ties=True):
    """(scores (out, in), n, m), with many equal scores in half of the draws."""
    m = draw(st.integers(2, 6))
    n, rows, groups = draw(st.integers(0, m)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = draw(generators())
    scores = rng.standard_normal((rows, groups * m))
    if ties and draw(st.booleans()):
        scores = np.round(scores)
    return scores, n, m


@given(grouped())
def test_every_group_keeps_exactly_its_n_largest_scores_and_of_equal_ones_the_last(case):
    scores, n, m = case
    mask = n_m_mask(scores, n, m)
    assert mask.dtype == bool and mask.shape == scores.shape
    for row, kept in zip(scores, mask, strict=True):
        for start in range(0, len(row), m):
            order = sorted(range(start, start + m), key=lambda i: (row[i], i))  # in order of removal
            np.testing.assert_array_equal(np.flatnonzero(kept[start : start + m]) + start, sorted(order[m - n :]))


@given(grouped())
def test_no_other_choice_in_the_groups_keeps_a_larger_sum(case):
    scores, n, m = case
    mask, groups = n_m_mask(scores, n, m), scores.reshape(-1, m)
    best = sum(max(group[list(kept)].sum() for kept in itertools.combinations(range(m), n)) for group in groups)
    assert np.sum(scores[mask]) == pytest.approx(best, abs=1e-12)


@given(grouped())
def test_a_mask_without_groups_has_no_larger_error(case):
    weight, n, m = case
    grouped_mask, free = n_m_mask(np.abs(weight), n, m), magnitude_mask(weight, 1 - n / m)
    assert np.count_nonzero(grouped_mask) == np.count_nonzero(free) == weight.size * n // m
    error, smallest = (np.sum(np.square(weight[~mask])) for mask in (grouped_mask, free))
    assert smallest <= error * (1 + 1e-12)


@given(grouped())
def test_larger_groups_have_no_larger_error(case):
    """4:8 chooses among all that 2:4 can."""
    weight, n, m = case
    weight = np.concatenate([weight, weight[:, ::-1] * 0.7], axis=1)
    small, large = (np.sum(np.square(weight[~n_m_mask(np.abs(weight), k * n, k * m)])) for k in (1, 2))
    assert large <= small * (1 + 1e-12)


@given(grouped(), generators(), st.sampled_from([np.float32, np.float16, np.int8]))
def test_packing_is_lossless_and_takes_the_stated_number_of_bits(case, rng, dtype):
    scores, n, m = case
    weight, mask = (rng.standard_normal(scores.shape) * 50).astype(dtype), n_m_mask(scores, n, m)
    packed = pack_n_m(weight, mask, n, m)
    dense = packed.unpack()
    assert dense.dtype == dtype
    np.testing.assert_array_equal(dense, np.where(mask, weight, 0))
    kept = np.count_nonzero(mask)
    bits_of_a_place = int(np.ceil(np.log2(m)))
    assert packed.values.nbytes == kept * np.dtype(dtype).itemsize
    assert packed.places.nbytes == -(-kept * bits_of_a_place // 8)


@pytest.mark.parametrize(("dtype", "share"), [(np.float16, 36 / 64), (np.int8, 20 / 32), (np.float32, 68 / 128)])
def test_two_of_four_takes_the_published_fraction_of_the_bytes(dtype, share):
    weight = np.arange(1, 129).reshape(4, 32).astype(dtype)
    packed = pack_n_m(weight, n_m_mask(weight, 2, 4), 2, 4)
    assert packed.values.nbytes + packed.places.nbytes == share * weight.nbytes


def test_groups_lie_along_the_inputs():
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [40.0, 30.0, 20.0, 10.0]])
    np.testing.assert_array_equal(n_m_mask(scores, 2, 4), [[True, True, False, False]] * 2)
    np.testing.assert_array_equal(n_m_mask(scores.T, 1, 2), [[False, True]] * 4)


def test_invalid_arguments_are_refused():
    with pytest.raises(DataError, match="divisible by 4, found 6"):
        n_m_mask(np.ones((4, 6)), 2, 4)
    for n, m in ((5, 4), (-1, 4), (2.0, 4), (2, 0), (True, 4)):
        with pytest.raises(ConfigError):
            n_m_mask(np.ones((4, 8)), n, m)
    with pytest.raises(DataError, match="finite"):
        n_m_mask(np.full((2, 4), np.nan), 2, 4)
    with pytest.raises(DataError, match=r"must keep 2 of every .* weights, found a group with 3"):
        pack_n_m(np.ones((1, 4)), np.array([[True, True, True, False]]), 2, 4)
    for pattern in ("2", "4:2", "2:2", "0:4", "a:b", "2:4:8", "", "-1:4", 24):
        with pytest.raises(ConfigError, match="pattern"):
            parse_pattern(pattern)
    assert parse_pattern("4:8") == (4, 8)


def test_invalid_packed_indices_are_refused():
    packed = pack_n_m(np.arange(1.0, 7.0)[None], np.array([[True, False, False] * 2]), 1, 3)
    with pytest.raises(DataError, match="indices in a group must be 0 to 2, found 3"):
        packed._replace(places=np.array([255], np.uint8)).unpack()
    with pytest.raises(DataError, match="do not fit"):
        packed._replace(places=np.zeros(2, np.uint8)).unpack()
