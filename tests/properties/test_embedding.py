"""Looking up rows of a table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_float32, check_gradients
from tests.strategies import distinct_sizes, generators
from tinyslm.coursework.implementation import embedding


@given(distinct_sizes(4, 2, 7), generators(), st.sampled_from([1, 2]))
def test_embedding(sizes, rng, axes):
    """Rows are looked up; the gradient of a token that occurs several times is a sum, as with np.add.at."""
    B, T, V, C = sizes
    token_ids = rng.integers(0, V, (B, T)[-axes:])
    token_ids.flat[0] = token_ids.flat[-1]  # at least one token occurs twice
    table = rng.standard_normal((V, C))
    y, vjp = embedding.with_vjp(token_ids, table)
    np.testing.assert_array_equal(y, table[token_ids])
    dy = rng.standard_normal(y.shape)
    expected = np.zeros_like(table)
    np.add.at(expected, token_ids, dy)
    nothing, dtable = vjp(dy)
    assert nothing is None
    assert isinstance(dtable, np.ndarray)
    np.testing.assert_allclose(dtable, expected, atol=1e-12)
    check_gradients(embedding, token_ids, table)


@given(distinct_sizes(4, 2, 7), generators())
def test_embedding_keeps_float32(sizes, rng):
    B, T, V, C = sizes
    check_float32(embedding, rng.integers(0, V, (B, T)), rng.standard_normal((V, C)))
