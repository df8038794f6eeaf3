"""Rotary position embedding against complex numbers, with every scaling written out from its definition."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.ops.formulas import expected_frequencies, rotated
from tests.strategies import generators, ropes
from tinyslm import ops
from tinyslm.errors import DataError
from tinyslm.ops import Rope
from tinyslm.ops.rotary import inverse_frequencies, longrope_attention_factor, yarn_attention_factor

SCALINGS = ("default", "linear", "llama3", "longrope", "yarn", "dynamic")
some_ropes = st.sampled_from([6, 8, 10]).flatmap(lambda size: ropes(size, scalings=SCALINGS))


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
        (Rope(1e6, 128, "yarn", 16.0, original_length=16384), 1),  # Ministral 3
        (Rope(1e6, 128, "yarn", 4.0, original_length=32768, truncate=False), 1),
        (Rope(1e4, 64, "yarn", 4.0, original_length=8, truncate=False), 1),  # even the first pair is not kept whole
        (
            Rope(10.0, 8, "yarn", 4.0, original_length=4096, beta_fast=1e3, beta_slow=1e-3),
            1,
        ),  # no pair is divided whole
        (Rope(1e4, 8, "yarn", 4.0, original_length=8, beta_fast=1.0, beta_slow=1.0, truncate=False), 1),
        (Rope(1e4, 64, "dynamic", 4.0, original_length=8), 8),
        (Rope(1e4, 64, "dynamic", 4.0, original_length=8), 30),
    ],
)
def test_frequencies(rope, length):
    np.testing.assert_allclose(inverse_frequencies(rope, length), expected_frequencies(rope, length), rtol=2e-6)


@given(st.sampled_from([4, 6, 64]), st.integers(2, 50), st.integers(1, 200), st.floats(0.5, 8))
def test_dynamic_frequencies(dimension, original, length, factor):
    """The plain ones up to the original length; beyond it the base grows with the length, as in transformers."""
    rope, plain = Rope(1e4, dimension, "dynamic", factor, original_length=original), Rope(1e4, dimension)
    found = inverse_frequencies(rope, length)
    if length <= original:
        np.testing.assert_array_equal(found, inverse_frequencies(plain, length))
    else:
        base = 1e4 * ((factor * length / original) - (factor - 1)) ** (dimension / (dimension - 2))
        np.testing.assert_allclose(found, base ** -(np.arange(0, dimension, 2) / dimension), rtol=1e-5)
        assert found[0] == 1 and found[-1] < inverse_frequencies(plain, length)[-1]
    assert found.dtype == np.float32


def test_llama3_has_all_three_kinds_of_pairs():
    """High frequencies are unchanged, low ones divided by 32, some are between: the test above covers every case."""
    scaled = inverse_frequencies(Rope(500000.0, 64, "llama3", 32.0, 1.0, 4.0, 8192), 1)
    ratio = inverse_frequencies(Rope(500000.0, 64), 1) / scaled
    assert (ratio < 1.001).any()
    assert (ratio > 31.99).any()
    assert ((ratio > 1.1) & (ratio < 31)).any()


def test_yarn_has_all_three_kinds_of_pairs():
    for truncate in (True, False):
        rope = Rope(1e4, 64, "yarn", 8.0, original_length=4096, truncate=truncate)
        ratio = inverse_frequencies(Rope(1e4, 64), 1) / inverse_frequencies(rope, 1)
        assert (ratio < 1.0001).any() and (ratio > 7.999).any() and ((ratio > 1.1) & (ratio < 7.9)).any()
        assert inverse_frequencies(rope, 1).dtype == np.float32


def test_yarn_attention_factor():
    """As in the paper; DeepSeek's two scales, which are 1 in Ministral 3; without extension the factor is 1."""
    assert yarn_attention_factor(16.0) == pytest.approx(0.1 * np.log(16) + 1, rel=1e-15)
    assert yarn_attention_factor(1.0) == yarn_attention_factor(0.5) == yarn_attention_factor(16.0, 1.0, 1.0) == 1.0
    wanted = (0.1 * 0.7 * np.log(40) + 1) / (0.1 * 1.3 * np.log(40) + 1)
    assert yarn_attention_factor(40.0, 0.7, 1.3) == pytest.approx(wanted, rel=1e-15)
    for missing in ((None, 1.3), (0.7, None)):
        assert yarn_attention_factor(40.0, *missing) == yarn_attention_factor(40.0)


@given(st.floats(0.1, 2), st.integers(2, 20), generators(), st.booleans())
def test_query_scales(beta, original, rng, per_row):
    """One step for each whole training length before the position."""
    positions = rng.integers(0, 100, (2, 5) if per_row else 5)
    found = ops.query_scales(Rope(10.0, 4, original_length=original, query_scale_beta=beta), positions)
    wanted = [1 + beta * math.log(1 + position // original) for position in positions.ravel().tolist()]
    assert found.dtype == np.float32 and found.shape == (*positions.shape, 1, 1)
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-6)


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


def test_frequencies_are_computed_in_float32():
    """To the last bit, as Hugging Face transformers computes them: theta^(-2i/R) in float32."""
    exponent = np.arange(0, 64, 2).astype(np.float32) / np.float32(64)
    plain = np.float32(1) / np.float32(10000.0) ** exponent
    found = inverse_frequencies(Rope(10000.0, 64), 1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(inverse_frequencies(Rope(1e4, 64, "linear", factor=3.0), 1), plain / np.float32(3))
    factors = tuple(1 + i / 7 for i in range(32))
    rope = Rope(1e4, 64, "longrope", original_length=5, short_factors=factors, long_factors=factors[::-1])
    for length, chosen in ((5, factors), (6, factors[::-1])):
        np.testing.assert_array_equal(inverse_frequencies(rope, length), plain / np.array(chosen, np.float32))
    assert inverse_frequencies(Rope(1e4, 64, "llama3", 8.0, original_length=100), 1).dtype == np.float32


def test_tables_are_computed_in_float32():
    positions = np.array([[0, 1, 1000], [5, 77, 12345]])
    rope = Rope(10000.0, 16, "longrope", 1.0, original_length=9, short_factors=(1,) * 8, long_factors=(3,) * 8)
    angle = positions[..., None].astype(np.float32) * inverse_frequencies(rope, 12346)
    for table, function in zip(ops.rotary_tables(rope, positions), (np.cos, np.sin), strict=True):
        np.testing.assert_array_equal(table, function(angle))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_the_length_is_the_largest_position_plus_1(dtype):
    """It decides between the factors of longrope; also without positions, and at the largest number of a dtype."""

    def sine(positions, original_length):
        rope = Rope(1.0, 2, "longrope", original_length=original_length, short_factors=(1,), long_factors=(2,))
        return ops.rotary_tables(rope, np.array(positions, dtype))[1][:, 0].tolist()

    half, one = np.sin(np.float32(0.5)), np.sin(np.float32(1))
    assert sine([0, 1], 2) == [0, one] and sine([0, 1], 1) == [0, half]
    assert sine([0], 1) == [0] and sine([], 1) == []
    largest = int(min(np.iinfo(dtype).max, 1000))
    assert sine([1, largest], largest)[0] == half and sine([1, largest], largest + 1)[0] == one


def test_positions_are_integers():
    for operation in (ops.rotary_tables, ops.query_scales):
        with pytest.raises(DataError, match="positions has dtype float64, expected integers"):
            operation(Rope(10.0, 4, original_length=2), np.array([0.0, 1.0]))


def test_the_length_of_a_single_position_is_1():
    """Position 0 alone is a sequence of one token: not longer than an original length of 1."""
    rope = Rope(1.0, 2, "longrope", original_length=1, short_factors=(1,), long_factors=(2,), attention_factor=3.0)
    with mock.patch("tinyslm.ops.rotary.inverse_frequencies", wraps=inverse_frequencies) as called:
        for positions in ([0], [], [4, 2]):
            ops.rotary_tables(rope, np.array(positions, int))
    assert [call.args[1] for call in called.call_args_list] == [1, 1, 5]


def test_tables_of_another_dtype_are_converted_first():
    """A rotation of float32 numbers by float64 tables is that by the same tables in float32, to the last bit."""
    rng = np.random.default_rng(0)
    x, angle = rng.standard_normal((2, 5, 3, 8)).astype(np.float32), rng.standard_normal((5, 4))
    tables = {"cos": np.cos(angle), "sin": np.sin(angle)}
    narrow = {name: table.astype(np.float32) for name, table in tables.items()}
    expected, expected_vjp = ops.rotary.with_vjp(x, **narrow)
    for name in tables:
        y, vjp = ops.rotary.with_vjp(x, **narrow | {name: tables[name]})
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(vjp(x)[0], expected_vjp(x)[0])
    wide = x.astype(np.float64)
    assert ops.rotary(wide, **narrow).dtype == np.float64


def test_the_attention_factor_begins_above_an_extension_of_1():
    assert longrope_attention_factor(1, 1) == longrope_attention_factor(1.0, 0) == 1.0
    assert longrope_attention_factor(1.5, 100) == pytest.approx(np.sqrt(1 + np.log(1.5) / np.log(100)), rel=1e-15)
