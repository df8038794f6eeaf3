"""Importance of neurons, heads and layers, and what slicing heads and channels computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators, seeds
from tinyslm import ops
from tinyslm.compression.pruning import (
    head_importance,
    layer_importance,
    minitron_importance,
    refit_down,
    slice_groups,
    slice_heads,
    slice_rms_norm,
    taylor_importance,
)
from tinyslm.compression.pruning.heads import group_importance, most_important_heads
from tinyslm.compression.pruning.importance import magnitude_importance, minitron_square, random_importance
from tinyslm.errors import ConfigError, DataError

UNITS, SHAPES = 5, ((5, 3), (5, 2, 4))


def arrays(rng):
    return [rng.standard_normal(shape) for shape in SHAPES]


@given(generators())
def test_taylor_importance_is_the_change_of_the_loss_without_the_unit(rng):
    """First order: exact for a linear loss. Second order: exact for a quadratic one with this diagonal curvature."""
    weights, slopes, curvatures = arrays(rng), arrays(rng), [np.square(each) for each in arrays(rng)]

    def loss(weights, curved):
        terms = zip(weights, slopes, curvatures, strict=True)
        return sum(np.sum(g * w + curved * c * np.square(w) / 2) for w, g, c in terms)

    for unit in range(UNITS):
        without = [weight.copy() for weight in weights]
        for weight in without:
            weight[unit] = 0
        change = abs(loss(without, 0) - loss(weights, 0))
        assert taylor_importance(weights, slopes)[unit] == pytest.approx(change, rel=1e-9)
        gradients = [g + c * w for w, g, c in zip(weights, slopes, curvatures, strict=True)]
        change = abs(loss(without, 1) - loss(weights, 1))
        second = taylor_importance(weights, gradients, curvatures, method="taylor_second")
        assert second[unit] == pytest.approx(change, rel=1e-9, abs=1e-12)


@given(generators())
def test_terms_of_the_element_importance_do_not_cancel(rng):
    weights, gradients = arrays(rng), arrays(rng)
    vector = taylor_importance(weights, gradients)
    element = taylor_importance(weights, gradients, method="taylor_element")
    assert np.all(vector <= element * (1 + 1e-12))
    products = [np.abs(w * g).reshape(UNITS, -1) for w, g in zip(weights, gradients, strict=True)]
    np.testing.assert_allclose(element, np.concatenate(products, axis=1).sum(axis=1), rtol=1e-12)
    same_sign = [np.abs(w) * np.sign(g) for w, g in zip(weights, gradients, strict=True)]
    np.testing.assert_allclose(
        taylor_importance(same_sign, gradients), taylor_importance(same_sign, gradients, method="taylor_element")
    )


@given(generators(), st.permutations(range(UNITS)))
def test_importance_is_permuted_with_the_units(rng, order):
    weights, gradients, fishers = arrays(rng), arrays(rng), [np.square(each) for each in arrays(rng)]
    permuted = [[each[order] for each in group] for group in (weights, gradients, fishers)]
    np.testing.assert_allclose(magnitude_importance(permuted[0]), magnitude_importance(weights)[order])
    for method in ("taylor_vector", "taylor_element", "taylor_second"):
        found = taylor_importance(*permuted, method=method)
        np.testing.assert_allclose(found, taylor_importance(weights, gradients, fishers, method=method)[order])


@given(generators(), st.floats(0.1, 10), st.permutations(range(4)), st.integers(1, 3))
def test_minitron_scores(rng, factor, order, first):
    """Homogeneous of degree 1, blind to the order of documents, additive in squares, and for equal documents the mean
    magnitude times the root of their number."""
    documents = [rng.standard_normal((length, 6)) for length in (3, 5, 2, 7)]
    scores = minitron_importance(documents)
    np.testing.assert_allclose(minitron_importance([-factor * each for each in documents]), factor * scores)
    np.testing.assert_allclose(minitron_importance([documents[i] for i in order]), scores)
    halves = [np.square(minitron_importance(part)) for part in (documents[:first], documents[first:])]
    np.testing.assert_allclose(np.sqrt(sum(halves)), scores)
    same = minitron_importance([documents[1]] * 4)
    np.testing.assert_allclose(same, np.mean(np.abs(documents[1]), axis=0) * 2)
    assert not np.any(minitron_square(np.zeros((0, 3))))


def test_random_importance_depends_on_the_seed_only():
    assert np.array_equal(random_importance(9, 3), random_importance(9, 3))
    assert not np.array_equal(random_importance(9, 3), random_importance(9, 4))
    assert len(set(random_importance(500, 0))) == 500


@given(generators(), st.floats(0.1, 10))
def test_block_influence_is_the_angular_change_of_the_hidden_state(rng, factor):
    x = rng.standard_normal((8, 5))
    assert layer_importance([x, factor * x, -factor * x]) == pytest.approx([0, 2], abs=1e-12)
    y = rng.standard_normal((8, 5))
    expected = 1 - np.mean([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(x, y, strict=True)])
    assert layer_importance([x, y])[0] == pytest.approx(expected, rel=1e-9)
    assert layer_importance([x, np.zeros_like(x)])[0] == 1


H, G, D, C = 6, 3, 4, 7


def attention(rng):
    """(query, key, value, output) weights, and a function from them to what the layer computes on fixed inputs."""
    weights = [rng.standard_normal(shape) for shape in ((H * D, C), (G * D, C), (G * D, C), (C, H * D))]
    x = rng.standard_normal((2, 5, C))

    def compute(query, key, value, output):
        heads = [(x @ weight.T).reshape(2, 5, -1, D) for weight in (query, key, value)]
        return ops.attention(*heads, scale=0.4).reshape(2, 5, -1) @ output.T

    return weights, compute


@given(generators(), st.integers(1, 2), seeds)
def test_slicing_query_heads_equals_zeroing_the_columns_of_output(rng, count, seed):
    (query, key, value, output), compute = attention(rng)
    keep = most_important_heads(np.random.default_rng(seed).random(H), G, count)
    assert np.array_equal(np.bincount(keep // (H // G), minlength=G), [count] * G)
    masked = output * np.repeat(np.isin(np.arange(H), keep), D)
    small_query, small_output = slice_heads(query, output, keep, groups=G, head_dim=D)
    np.testing.assert_allclose(
        compute(small_query, key, value, small_output), compute(query, key, value, masked), rtol=1e-10, atol=1e-12
    )


@given(generators(), st.sets(st.integers(0, G - 1), min_size=1))
def test_slicing_groups_equals_zeroing_the_columns_of_output(rng, kept):
    weights, compute = attention(rng)
    keep = np.array(sorted(kept))
    masked = weights[3] * np.repeat(np.isin(np.arange(G), keep), D * H // G)
    small = slice_groups(*weights, keep, head_dim=D)
    assert len(small[0]) // len(small[1]) == H // G
    np.testing.assert_allclose(compute(*small), compute(*weights[:3], masked), rtol=1e-10, atol=1e-12)


def test_uneven_heads_are_refused():
    query, output = np.zeros((H * D, C)), np.zeros((C, H * D))
    with pytest.raises(ConfigError, match="every key/value head must keep the same number"):
        slice_heads(query, output, np.array([0, 1, 2]), groups=G, head_dim=D)
    with pytest.raises(DataError, match="not a multiple of the head size"):
        head_importance(query, output, head_dim=5)


@given(generators())
def test_head_importances_are_their_formulas(rng):
    query, output = rng.standard_normal((H * D, C)), rng.standard_normal((C, H * D))
    mixed = [rng.standard_normal((length, H * D)) for length in (3, 4)]
    norms = [np.sqrt(np.square(each).reshape(len(each), H, D).sum(-1)) for each in mixed]
    expected = np.sqrt(sum(np.square(each.mean(0)) for each in norms))
    found = head_importance(query, output, head_dim=D, method="minitron", mixed=mixed)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(group_importance(found, G), found.reshape(G, -1).sum(1))
    magnitude = head_importance(query, output, head_dim=D)
    parts = np.square(query).reshape(H, -1).sum(1) + np.square(output.T).reshape(H, -1).sum(1)
    np.testing.assert_allclose(magnitude, np.sqrt(parts))


@given(generators(), st.sets(st.integers(0, 8), min_size=1), st.sampled_from([0.0, 1.0]))
def test_zero_channels_are_removed_without_loss_if_the_norm_is_corrected(rng, kept, offset):
    """Gain by sqrt(C / k), eps by C / k. Without that the outputs differ."""
    keep, gain, eps = np.array(sorted(kept)), rng.standard_normal(9), 0.01
    x = np.zeros((4, 9))
    x[:, keep] = rng.standard_normal((4, len(keep)))
    whole = ops.rms_norm(x, offset + gain, eps)[:, keep]
    small_gain, small_eps = slice_rms_norm(gain, eps, keep, offset=offset)
    np.testing.assert_allclose(ops.rms_norm(x[:, keep], offset + small_gain, small_eps), whole, rtol=1e-9, atol=1e-12)
    if len(keep) < 9:
        assert not np.allclose(ops.rms_norm(x[:, keep], offset + gain[keep], eps), whole, rtol=1e-3)


@given(generators(), st.integers(1, 5))
def test_refitted_columns_of_down_are_the_least_squares_answer(rng, count):
    hidden, down = rng.standard_normal((30, 6)), rng.standard_normal((4, 6))
    keep = np.sort(rng.choice(6, count, replace=False))
    refitted = refit_down(down, hidden.T @ hidden, keep)
    answer = np.linalg.lstsq(hidden[:, keep], hidden @ down.T, rcond=None)[0].T
    np.testing.assert_allclose(refitted, answer, rtol=1e-8, atol=1e-10)
    errors = [np.linalg.norm(hidden[:, keep] @ each.T - hidden @ down.T) for each in (refitted, down[:, keep])]
    assert errors[0] <= errors[1] * (1 + 1e-12)


@given(generators())
def test_an_orthogonal_rotation_commutes_with_a_norm_without_gain(rng):
    """RMSNorm(x Q) Q^T = RMSNorm(x); and LayerNorm is the RMS norm of what has its mean taken out."""
    x = rng.standard_normal((5, 6))
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    np.testing.assert_allclose(ops.rms_norm(x @ Q, np.ones(6), 1e-3) @ Q.T, ops.rms_norm(x, np.ones(6), 1e-3))
    gain, shift = rng.standard_normal((2, 6))
    centred = x @ (np.eye(6) - np.full((6, 6), 1 / 6))
    np.testing.assert_allclose(
        ops.layer_norm(x, gain, shift, 1e-3), ops.rms_norm(centred, gain, 1e-3) + shift, rtol=1e-9, atol=1e-12
    )
