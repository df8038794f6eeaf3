"""Sampling: what is kept, what is excluded, and that the draws have the stated probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from tests.properties.sampling_cases import logit_rows, temperatures
from tests.strategies import seeds
from tinyslm.coursework.implementation import next_token_probabilities, sample
from tinyslm.errors import ConfigError


@given(logit_rows(), temperatures)
def test_without_restriction_it_is_softmax(logits, temperature):
    np.testing.assert_allclose(
        next_token_probabilities(logits, temperature), special.softmax(logits / temperature, axis=-1), atol=1e-14
    )


@given(logit_rows(), temperatures, st.integers(1, 12))
def test_top_k_keeps_exactly_the_k_largest_in_proportion(logits, temperature, k):
    """Never more than k, even with ties; what is kept is the full softmax divided by its sum."""
    full = next_token_probabilities(logits, temperature)
    kept = next_token_probabilities(logits, temperature, top_k=k)
    for all_p, p, row in zip(full, kept, logits, strict=True):
        assert np.count_nonzero(p) == min(k, row.size)
        excluded = row[p == 0]
        assert excluded.size == 0 or excluded.max() <= row[p > 0].min()
        np.testing.assert_allclose(p[p > 0], all_p[p > 0] / all_p[p > 0].sum(), rtol=1e-12)


@given(logit_rows(), temperatures, st.floats(0.01, 1))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, temperature, top_p):
    """The kept tokens have at least p together; without the least of them they would have less."""
    full = next_token_probabilities(logits, temperature)
    kept = next_token_probabilities(logits, temperature, top_p=top_p)
    for all_p, p in zip(full, kept, strict=True):
        mass = all_p[p > 0]
        assert mass.sum() >= top_p - 1e-12
        assert mass.size == 1 or mass.sum() - mass.min() < top_p + 1e-12
        assert mass.min() >= all_p[p == 0].max(initial=0)
        np.testing.assert_allclose(p[p > 0], mass / mass.sum(), rtol=1e-12)


@given(logit_rows(), temperatures, st.one_of(st.none(), st.integers(1, 12)), st.one_of(st.none(), st.floats(0.01, 1)))
def test_probabilities_sum_to_one(logits, temperature, top_k, top_p):
    probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-12)


def test_the_order_is_temperature_then_top_k_then_top_p():
    """An example worked by hand, where every other order gives another answer.

    Temperature 1/2 squares the weights 4, 3, 2, 1 to 16, 9, 4, 1. The top 3 of them have shares 16/29, 9/29, 4/29, and
    p = 0.86 is reached by the first two (25/29 = 0.862). Top-p first would keep three (25/30 = 0.833).
    """
    logits = np.log([[1.0, 4.0, 3.0, 2.0]])
    kept = next_token_probabilities(logits, 0.5, top_k=3, top_p=0.86)
    np.testing.assert_allclose(kept, [[0, 16 / 25, 9 / 25, 0]], atol=1e-15)


@given(logit_rows(), temperatures, seeds)
def test_one_choice_left_is_greedy(logits, temperature, seed):
    """Temperature 0, top_k = 1 and a tiny top_p all take the largest logit, the lowest id of several."""
    greedy = np.argmax(logits, axis=-1)
    for settings in ({"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}):
        options = {"temperature": temperature} | settings
        np.testing.assert_array_equal(sample(logits, np.random.default_rng(seed), **options), greedy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_many_equal_logits_the_lowest_ids_are_kept(dtype):
    """In a vocabulary so large that only a stable sort keeps their order."""
    logits = np.zeros((2, 1000), dtype)
    logits[1, 700:] = 1
    for row, first in enumerate((0, 700)):
        kept = next_token_probabilities(logits, 1.0, top_k=50)[row]
        assert kept.dtype == np.float64
        np.testing.assert_array_equal(np.flatnonzero(kept), np.arange(first, first + 50))


def test_top_p_keeps_no_token_after_p_is_reached_exactly():
    """Four equal tokens: each has a quarter, and two of them are exactly a half."""
    for count, top_p in enumerate((0.25, 0.5, 0.75, 1.0), 1):
        kept = next_token_probabilities(np.zeros((1, 4)), 1.0, top_p=top_p)
        np.testing.assert_array_equal(kept[0], np.where(np.arange(4) < count, 1 / count, 0))


@given(logit_rows(), temperatures, seeds)
def test_rows_do_not_meet_and_logits_stay(logits, temperature, seed):
    """Any number of leading axes: each row is treated alone."""
    before, options = logits.copy(), {"top_k": 4, "top_p": 0.8}
    together = next_token_probabilities(logits, temperature, **options)
    for row, found in zip(logits, together, strict=True):
        np.testing.assert_allclose(next_token_probabilities(row, temperature, **options), found, rtol=1e-12)
    deep = next_token_probabilities(logits[None, :, None], temperature, **options)
    np.testing.assert_allclose(deep[0, :, 0], together, rtol=1e-12)
    tokens = sample(logits, np.random.default_rng(seed), temperature, **options)
    assert tokens.shape == (len(logits),) and tokens.dtype.kind == "i"
    assert np.all(together[np.arange(len(logits)), tokens] > 0)
    np.testing.assert_array_equal(logits, before)


def test_a_tiny_temperature_neither_overflows_nor_warns():
    with np.errstate(all="raise", under="ignore"):
        for dtype in (np.float32, np.float64):
            logits = np.array([[1e4, -1e4, 1e4 - 1]], dtype)
            np.testing.assert_array_equal(next_token_probabilities(logits, 1e-200), [[1, 0, 0]])
            np.testing.assert_array_equal(next_token_probabilities(logits[:, ::2], 1e-306), [[1, 0]])


def test_frequencies_are_the_probabilities():
    """Chi-square of 20,000 draws, and nothing excluded is ever drawn."""
    logits = np.array([0.3, -1.0, 1.2, 0.0, 0.9, -0.4])
    settings = {"temperature": 1.3, "top_k": 5, "top_p": 0.92}
    tokens = sample(np.tile(logits, (20_000, 1)), np.random.default_rng(0), **settings)
    probabilities = next_token_probabilities(logits, **settings)
    counts = np.bincount(tokens, minlength=6)
    assert 1 < np.count_nonzero(probabilities) < 6
    assert counts[probabilities == 0].sum() == 0
    kept = probabilities > 0
    assert stats.chisquare(counts[kept], probabilities[kept] * 20_000).pvalue > 0.01


def test_zero_temperature_has_no_distribution():
    with pytest.raises(ConfigError, match="temperature is 0"):
        next_token_probabilities(np.zeros((1, 3)), 0.0)
