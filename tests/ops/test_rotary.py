"""Rotary position embedding against complex numbers, with every scaling written out from its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.ops.formulas import expected_frequencies, rotated
from tests.strategies import generators, ropes
from tinyslm import ops
from tinyslm.ops import Rope
from tinyslm.ops.rotary import inverse_frequencies, longrope_attention_factor

some_ropes = st.sampled_from([4, 6, 8]).flatmap(ropes).filter(lambda rope: rope is not None)


@given(some_ropes, generators(), st.integers(3, 20), st.booleans())
def test_rotary(rope, rng, length, per_row):
    """Positions shared by the batch or per row; dimensions beyond R are unchanged; lengths on both sides of longrope's
    change."""
    B, T, H, D = 2, 5, 3, rope.dimension + 1
    positions = rng.integers(0, length, (B, T) if per_row else T)
    x = rng.standard_normal((B, T, H, D))
    cos, sin = ops.rotary_tables(rope, positions)
    assert cos.dtype == sin.dtype == np.float32
    y = ops.rotary(x, cos=cos, sin=sin)
    np.testing.assert_allclose(y, rotated(x, rope, positions), atol=2e-5)
    np.testing.assert_array_equal(y[..., rope.dimension :], x[..., rope.dimension :])


@given(some_ropes, generators())
def test_gradient(rope, rng):
    x = rng.standard_normal((2, 3, 2, rope.dimension + 1))
    cos, sin = ops.rotary_tables(rope, np.arange(3))
    check_operation(ops.rotary, x, cos=cos, sin=sin)


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        (Rope(10000.0, 64), 1),
        (Rope(10000.0, 64, "linear", factor=8.0), 1),
        (Rope(500000.0, 64, "llama3", 32.0, 1.0, 4.0, 8192), 1),  # Llama 3.2
        (Rope(10000.0, 8, "longrope", original_length=9, short_factors=(1, 2, 3, 4), long_factors=(5, 6, 7, 8)), 9),
        (Rope(10000.0, 8, "longrope", original_length=9, short_factors=(1, 2, 3, 4), long_factors=(5, 6, 7, 8)), 10),
    ],
)
def test_frequencies(rope, length):
    np.testing.assert_allclose(inverse_frequencies(rope, length), expected_frequencies(rope, length), rtol=2e-6)


def test_llama3_has_all_three_kinds_of_pairs():
    """High frequencies are unchanged, low ones divided by 32, some are between: the test above covers every case."""
    scaled = inverse_frequencies(Rope(500000.0, 64, "llama3", 32.0, 1.0, 4.0, 8192), 1)
    ratio = inverse_frequencies(Rope(500000.0, 64), 1) / scaled
    assert (ratio < 1.001).any()
    assert (ratio > 31.99).any()
    assert ((ratio > 1.1) & (ratio < 31)).any()


def test_longrope_attention_factor():
    """Phi-3-mini-128k: 131072 / 4096 = 32 gives the published 1.19; without extension the factor is 1."""
    assert longrope_attention_factor(32, 4096) == pytest.approx(1.1902380714238083, rel=1e-15)
    assert longrope_attention_factor(1, 4096) == longrope_attention_factor(0.5, 4096) == 1.0


@given(generators(), st.integers(0, 50))
def test_scores_depend_on_distance_only(rng, shift):
    """The reason for rotary positions: <R_m q, R_n k> is the same for all m, n with the same m - n."""
    q, k = rng.standard_normal((2, 1, 1, 1, 8))

    def score(m, n):
        tables = [ops.rotary_tables(Rope(10.0, 8), np.array([position])) for position in (m, n)]
        (cos_m, sin_m), (cos_n, sin_n) = tables
        return np.sum(ops.rotary(q, cos=cos_m, sin=sin_m) * ops.rotary(k, cos=cos_n, sin=sin_n))

    assert score(5 + shift, 2 + shift) == pytest.approx(score(5, 2), abs=1e-4)
