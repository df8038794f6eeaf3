"""GPTQ: the identity and the bound of its output error, and a plain loop as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tests.strategies import generators
from tinyslm.compression.quantization import encode, gptq, quantize
from tinyslm.errors import ConfigError, DataError

every_bits = st.integers(2, 8)
OUT, IN = 5, 12


def draw(rng, tokens=40):
    """A weight and X^T X of correlated inputs of different sizes."""
    mixing = rng.standard_normal((IN, IN)) * np.exp(rng.standard_normal(IN))
    x = rng.standard_normal((tokens, IN)) @ mixing
    return rng.standard_normal((OUT, IN)), x.T @ x


def damped(hessian, damping=0.01):
    return hessian + damping * np.mean(np.diag(hessian)) * np.eye(len(hessian))


def by_elimination(weight, hessian, scale, zero_point, rounding):
    """The definition: after each column the optimal update of the remaining ones, from their own inverse Hessian.

    scale, zero_point: (out, in). Optimal brain surgeon: dw = -(w_q - q) / [H^-1]_qq * [H^-1]_q.
    """
    current, codes = weight.copy(), np.empty(weight.shape, np.int8)
    for j in range(IN):
        inverse = np.linalg.inv(hessian[j:, j:])
        codes[:, j] = encode(current[:, j], scale[:, j], zero_point[:, j], **rounding)
        error = current[:, j] - scale[:, j] * (codes[:, j] - zero_point[:, j])
        current[:, j:] -= np.outer(error, inverse[0] / inverse[0, 0])
    return codes


def spread(parameter, group_size):
    return np.repeat(parameter, group_size or IN, axis=1)


def output_error(weight, quantized, hessian):
    difference = weight - quantized.dequantize()
    return np.einsum("ij,jk,ik->", difference, hessian, difference)


@given(generators(), every_bits, st.booleans(), st.sampled_from([None, 3, 6]), st.sampled_from([1, 5, 128]))
def test_every_column_is_followed_by_the_best_move_of_the_others(rng, bits, symmetric, group_size, block_size):
    weight, hessian = draw(rng)
    rounding = {"bits": bits, "symmetric": symmetric}
    q = gptq(weight, hessian, group_size=group_size, block_size=block_size, static_groups=True, **rounding)
    plain = quantize(weight, axis=None if group_size else 0, group_size=group_size, **rounding)
    np.testing.assert_array_equal(q.scale, plain.scale)
    np.testing.assert_array_equal(q.zero_point, plain.zero_point)
    parameters = spread(q.scale, group_size), spread(q.zero_point, group_size)
    expected = by_elimination(weight, damped(hessian), *parameters, rounding)
    np.testing.assert_array_equal(q.codes, expected)


@given(generators(), every_bits, st.booleans(), st.sampled_from([3, 6]), st.sampled_from([1, 4, 7, 128]))
def test_a_group_has_the_range_of_its_columns_when_their_turn_comes(rng, bits, symmetric, group_size, block_size):
    """For each group: its columns after the updates for the errors E = (W - Q) R of earlier columns, with H = R R^T."""
    weight, hessian = draw(rng)
    q = gptq(weight, hessian, bits=bits, symmetric=symmetric, group_size=group_size, block_size=block_size)
    root = linalg.cholesky(damped(hessian)[::-1, ::-1], lower=True)[::-1, ::-1]
    upper = np.linalg.inv(root)
    errors = (weight - q.dequantize()) @ root  # (out, in)
    for start in range(0, IN, group_size):
        moved = weight - errors[:, :start] @ upper[:start]  # (out, in)
        group = quantize(moved[:, start : start + group_size], bits=bits, symmetric=symmetric, axis=0)
        np.testing.assert_allclose(q.scale[:, start // group_size, None], group.scale, rtol=1e-7)


@given(generators(), every_bits, st.booleans(), st.sampled_from([None, 4]), st.booleans())
def test_with_any_diagonal_hessian_it_is_plain_rounding(rng, bits, symmetric, group_size, act_order):
    weight = rng.standard_normal((OUT, IN))
    hessian = np.diag(np.exp(3 * rng.standard_normal(IN)))
    settings = {"bits": bits, "symmetric": symmetric, "group_size": group_size}
    q = gptq(weight, hessian, act_order=act_order, static_groups=act_order, **settings)
    plain = quantize(weight, axis=None if group_size else 0, **settings)
    np.testing.assert_array_equal(q.codes, plain.codes)
    np.testing.assert_array_equal(q.scale, plain.scale)


@given(generators(), every_bits, st.integers(-30, 30))
def test_the_unit_of_the_hessian_does_not_matter(rng, bits, power):
    weight, hessian = draw(rng)
    np.testing.assert_array_equal(
        gptq(weight, hessian * 2.0**power, bits=bits).codes, gptq(weight, hessian, bits=bits).codes
    )


@given(generators(), every_bits, st.booleans())
def test_the_last_column_is_plain_rounding_of_what_has_become_of_it(rng, bits, symmetric):
    weight, hessian = draw(rng)
    q = gptq(weight, hessian, bits=bits, symmetric=symmetric)
    h, difference = damped(hessian), weight - q.dequantize()
    # the best last column for the others as they are: the gradient of the error with respect to it is 0
    compensated = weight[:, -1] + difference[:, :-1] @ h[:-1, -1] / h[-1, -1]
    expected = encode(compensated[:, None], q.scale, q.zero_point, bits=bits, symmetric=symmetric)
    np.testing.assert_array_equal(q.codes[:, -1:], expected)


@given(generators(), every_bits, st.sampled_from([None, 3]))
def test_and_q10c_the_error_is_that_of_its_columns_and_bounded_before_rounding(rng, bits, group_size):
    """tr(E H E^T) = |errors|^2, and where no code was clipped an error is at most half a step over U_jj."""
    weight, hessian = draw(rng)
    q = gptq(weight, hessian, bits=bits, group_size=group_size)
    root = linalg.cholesky(damped(hessian)[::-1, ::-1], lower=True)[::-1, ::-1]  # H = R R^T, U = R^-1
    errors = (weight - q.dequantize()) @ root
    total = output_error(weight, q, damped(hessian))
    assert total == pytest.approx(np.sum(errors**2), rel=1e-9)
    limit = spread(q.scale, group_size) / 2 * np.diag(root)  # 1 / U_jj = R_jj
    highest = 2 ** (bits - 1) - 1
    unclipped = np.abs(q.codes) < highest
    assert np.all((np.abs(errors) <= limit * (1 + 1e-7))[unclipped])
    if unclipped.all():
        assert total <= np.sum(limit**2) * (1 + 1e-7)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_beats_plain_rounding(bits):
    """For all draws here, and by more than half in the median. No theorem guarantees it for all inputs."""
    ratios = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((100, 8)) @ rng.standard_normal((8, 32)) + 0.3 * rng.standard_normal((100, 32))
        weight, hessian = rng.standard_normal((16, 32)), x.T @ x
        plain = output_error(weight, quantize(weight, bits=bits, axis=0), damped(hessian))
        ratios.append(output_error(weight, gptq(weight, hessian, bits=bits), damped(hessian)) / plain)
    assert np.all(np.array(ratios) < 1) and np.median(ratios) < 0.5


@given(generators(), st.sampled_from([None, 4]))
def test_act_order_is_the_same_loop_over_columns_in_another_order(rng, group_size):
    weight, hessian = draw(rng)
    order = np.argsort(-np.diag(hessian))
    q = gptq(weight, hessian, group_size=group_size, act_order=True, static_groups=True)
    plain = quantize(weight, bits=4, axis=None if group_size else 0, group_size=group_size)
    scale = spread(plain.scale, group_size)[:, order]
    codes = by_elimination(
        weight[:, order], damped(hessian)[np.ix_(order, order)], scale, np.zeros_like(scale, np.int32), {"bits": 4}
    )
    np.testing.assert_array_equal(q.codes[:, order], codes)


@given(generators())
def test_inputs_that_are_always_zero_get_weight_zero_and_change_nothing_else(rng):
    weight, hessian = draw(rng)
    hessian[3] = hessian[:, 3] = 0
    for symmetric in (True, False):
        found = gptq(weight, hessian, symmetric=symmetric)
        assert not np.any(found.dequantize()[:, 3])
        without = gptq(np.where(np.arange(IN) == 3, 0, weight), hessian, symmetric=symmetric)
        np.testing.assert_array_equal(found.codes, without.codes)


def test_fewer_tokens_than_inputs_need_damping():
    weight, hessian = draw(np.random.default_rng(0), tokens=3)
    assert np.all(np.isfinite(gptq(weight, hessian, damping=0.01).dequantize()))
    with pytest.raises(DataError, match="not positive definite"):
        gptq(weight, hessian - 1e-6 * np.eye(IN) * np.trace(hessian), damping=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_comes_back(dtype):
    weight, hessian = draw(np.random.default_rng(1))
    q = gptq(weight.astype(dtype), hessian, bits=3, group_size=4, symmetric=False)
    assert q.codes.dtype == np.int8 and q.codes.shape == (OUT, IN) and (q.bits, q.group_size) == (3, 4)
    assert q.codes.min() >= -4 and q.codes.max() <= 3
    assert q.scale.shape == q.zero_point.shape == (OUT, 3)
    assert q.scale.dtype == q.dequantize().dtype == dtype and q.zero_point.dtype == np.int32
    assert gptq(weight, hessian).scale.shape == (OUT, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 1}, "bits"),
        ({"group_size": 0}, "group_size"),
        ({"block_size": 0}, "block_size"),
        ({"damping": -1}, "damping"),
        ({"act_order": True, "group_size": 4}, "static_groups"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        gptq(*draw(np.random.default_rng(2)), **settings)


def test_impossible_arrays():
    weight, hessian = draw(np.random.default_rng(3))
    with pytest.raises(DataError, match="hessian must have shape"):
        gptq(weight, hessian[:-1])
    with pytest.raises(DataError, match="hessian must be finite"):
        gptq(weight, hessian * np.nan)
    with pytest.raises(DataError, match="weight must be a matrix"):
        gptq(weight[0], hessian)


@given(generators(), st.sampled_from([3, 4, 12]), st.sampled_from([1, 2, 5, 7, 11]), st.booleans())
def test_groups_may_begin_and_end_within_a_block(rng, group_size, block_size, symmetric):
    """Their ranges are then those of one large block: the columns of a later block are compensated for them too."""
    weight, hessian = draw(rng)
    settings = {"group_size": group_size, "symmetric": symmetric}
    found, expected = (gptq(weight, hessian, block_size=size, **settings) for size in (block_size, 128))
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.zero_point, expected.zero_point)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-9)


@given(generators(), st.booleans(), st.sampled_from([None, 4]))
def test_float32_weights_are_compensated_in_float32(rng, symmetric, group_size):
    """The errors are those of the dequantized values in the same dtype: the codes of float64 but for ties."""
    weight, hessian = draw(rng)
    weight = weight.astype(np.float32)
    settings = {"group_size": group_size, "symmetric": symmetric}
    single, double = (gptq(each, hessian, **settings) for each in (weight, weight.astype(np.float64)))
    assert np.mean(single.codes != double.codes) <= 0.1
    np.testing.assert_allclose(single.scale[:, :1], double.scale[:, :1], rtol=1e-6)


def test_columns_of_equal_diagonal_keep_their_order():
    """The off-diagonal entries make the codes depend on the order."""
    hessian = np.diag([1.0, 3, 2, 3, 1, 2, 3, 1, 1, 2, 2, 3]) + 0.1
    weight = np.random.default_rng(5).standard_normal((OUT, IN))
    order = [1, 3, 6, 11, 2, 5, 9, 10, 0, 4, 7, 8]
    q = gptq(weight, hessian, act_order=True)
    scale = np.repeat(quantize(weight, bits=4, axis=0).scale, IN, axis=1)
    permuted = hessian[np.ix_(order, order)]
    expected = by_elimination(weight[:, order], damped(permuted), scale, np.zeros_like(scale, np.int32), {"bits": 4})
    np.testing.assert_array_equal(q.codes[:, order], expected)


def test_act_order_needs_static_groups_only_if_there_are_groups():
    weight, hessian = draw(np.random.default_rng(6))
    for settings in ({}, {"static_groups": True}, {"group_size": 4, "static_groups": True}):
        assert gptq(weight, hessian, act_order=True, **settings).codes.shape == (OUT, IN)
    with pytest.raises(ConfigError, match="act_order with group_size needs static_groups=True"):
        gptq(weight, hessian, act_order=True, group_size=12)


@given(generators(), st.booleans())
def test_static_ranges_take_dead_columns_as_zeros(rng, act_order):
    """The largest weight of a row does not count if its input never occurs."""
    weight, hessian = draw(rng)
    weight[:, 5] = 100
    hessian[5] = hessian[:, 5] = 0
    expected = quantize(np.where(np.arange(IN) == 5, 0, weight), bits=4, group_size=4)
    found = gptq(weight, hessian, group_size=4, static_groups=True, act_order=act_order)
    np.testing.assert_array_equal(found.scale, expected.scale, strict=True)
    assert not np.any(found.codes[:, 5]) and np.all(weight[:, 5] == 100)


def test_sizes_of_groups_and_blocks_at_both_ends():
    weight, hessian = draw(np.random.default_rng(7))
    for group_size in (1, 12):
        assert gptq(weight, hessian, group_size=group_size).scale.shape == (OUT, 12 // group_size)
    for group_size in (5, 13):
        with pytest.raises(
            DataError, match=rf"group_size must divide the last axis of shape \(\d+, 12\), found {group_size}"
        ):
            gptq(weight, hessian, group_size=group_size)
    for group_size in (0, 3.0):
        with pytest.raises(ConfigError, match="group_size must be a whole number from 1"):
            gptq(weight, hessian, group_size=group_size)
    for block_size in (0, 2**31 + 1, 3.0):
        with pytest.raises(ConfigError, match="block_size must be a whole number from 1 to 2147483648"):
            gptq(weight, hessian, block_size=block_size)
    np.testing.assert_array_equal(gptq(weight, hessian, block_size=2**31).codes, gptq(weight, hessian).codes)
    single = gptq(np.array([[0.7]]), np.array([[2.0]]))
    assert single.codes.tolist() == [[7]]
    for bad in (np.nan, np.inf):
        hessian[3, 4] = bad
        with pytest.raises(DataError, match="hessian must be finite"):
            gptq(weight, hessian)


@given(generators(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_equal_diagonals_keep_the_order_of_many_columns(rng, dtype, symmetric):
    """More columns than an insertion sort handles; ranges and codes are in the dtype of the weight."""
    inputs = rng.standard_normal((90, 40))
    hessian = inputs.T @ inputs
    hessian /= np.sqrt(np.outer(np.diag(hessian), np.diag(hessian)))
    np.fill_diagonal(hessian, 1)
    weight = rng.standard_normal((3, 40)).astype(dtype)
    first, second = (gptq(weight, hessian, symmetric=symmetric, act_order=order) for order in (True, False))
    np.testing.assert_array_equal(first.codes, second.codes, strict=True)
    plain = quantize(weight, bits=4, axis=0, symmetric=symmetric)
    for found in (first, second):
        np.testing.assert_array_equal(found.scale, plain.scale, strict=True)
        np.testing.assert_array_equal(found.zero_point, plain.zero_point, strict=True)
    moving = gptq(weight, hessian, symmetric=symmetric, group_size=8)
    assert moving.scale.dtype == dtype and moving.scale.shape == (3, 5)


def test_lists_are_accepted_and_a_larger_hessian_or_no_block_is_not():
    weight, hessian = draw(np.random.default_rng(8))
    expected = gptq(weight, hessian)
    for arguments in ((weight.tolist(), hessian), (weight, hessian.tolist())):
        np.testing.assert_array_equal(gptq(*arguments).codes, expected.codes)
    larger = np.eye(IN + 1)
    with pytest.raises(DataError, match=r"hessian must have shape \(12, 12\), found \(13, 13\)"):
        gptq(weight, larger)
    for block_size in (0, -3, 3.0):
        with pytest.raises(ConfigError, match="block_size must be a whole number"):
            gptq(weight, hessian, group_size=3, block_size=block_size)
