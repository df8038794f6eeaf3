"""What each query looks at: against a softmax over the allowed keys alone, query by query."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.attention_cases import attention_cases, plain_attention
from tinyslm.coursework.implementation import allowed_keys, attention_probabilities


@given(
    st.integers(1, 12),
    st.integers(0, 6),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 6)),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_a_query_may_see_itself_and_its_neighbours_within_the_window(T, past, causal, window, lookahead):
    S = T + past
    allowed = allowed_keys(np.arange(past, S), np.arange(S), causal, window, lookahead)
    assert allowed.shape == (T, S) and allowed.dtype == bool
    for t, s in np.ndindex(T, S):
        distance = past + t - s
        before = window is None or distance < window
        after = (distance >= 0 or not causal) and (lookahead is None or -distance <= lookahead)
        assert allowed[t, s] == (before and after)


@given(attention_cases())
def test_probabilities_are_a_softmax_over_the_allowed_keys(case):
    (query, key, value, *bias), options = case
    _, expected = plain_attention(query, key, value, *bias, **options)
    np.testing.assert_allclose(attention_probabilities(query, key, *bias, **options), expected, atol=1e-12)


@given(attention_cases())
def test_rows_add_up_to_one_and_the_dtype_is_kept(case):
    (query, key, _, *bias), options = case
    narrow = [array.astype(np.float32) for array in (query, key, *bias)]
    probabilities = attention_probabilities(*narrow, **options)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_query_head_h_reads_key_head_h_over_r():
    """np.repeat, not np.tile: heads 0 and 1 read key head 0, heads 2 and 3 read key head 1."""
    query, key = np.ones((1, 2, 4, 1)), np.zeros((1, 2, 2, 1))
    key[0, 0, 1] = 50.0  # key head 1 is all about the first token
    last = attention_probabilities(query, key, scale=1.0)[0, :, 1]  # (H, S)
    np.testing.assert_allclose(last, [[0.5, 0.5], [0.5, 0.5], [1, 0], [1, 0]], atol=1e-12)


def test_a_window_of_w_sees_w_tokens_itself_included():
    """Equal scores: every probability is 1 / (number of allowed keys)."""
    query = np.zeros((1, 6, 1, 2))
    p = attention_probabilities(query, query, scale=1.0, window=3)[0, 0]
    assert [np.count_nonzero(row) for row in p] == [1, 2, 3, 3, 3, 3]
    np.testing.assert_allclose(p[5], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_a_window_on_both_sides_sees_w_minus_1_tokens_on_each_side():
    query = np.zeros((1, 6, 1, 2))
    p = attention_probabilities(query, query, scale=1.0, causal=False, window=3, lookahead=2)[0, 0]
    assert [np.count_nonzero(row) for row in p] == [3, 4, 5, 5, 4, 3]
    np.testing.assert_array_equal(p != 0, (p != 0).T)


def test_huge_scores_do_not_overflow():
    """The softmax subtracts the largest score first."""
    query = np.full((1, 3, 1, 4), 1e4, np.float32)
    with np.errstate(over="raise", invalid="raise"):
        p = attention_probabilities(query, query, scale=1.0)
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-6)
