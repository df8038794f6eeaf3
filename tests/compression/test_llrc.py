"""Masks over components: their gradients, what they cost, and how they become ranks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from tests.strategies import generators, generic_matrices, seeds
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.factorization import (
    MaskedRankLinear,
    compression_loss,
    first_components,
    logistic_noise,
    masked_parameters,
    masks_within,
    rank_mask,
    svd_components,
    total_variation_loss,
)
from tinyslm.errors import ConfigError, DataError
from tinyslm.tree import named_parameters

masks = st.lists(st.booleans(), min_size=1, max_size=12).map(np.array)


@given(generators(), st.integers(1, 9), st.floats(0.05, 3), st.sampled_from([np.float32, np.float64]))
def test_the_mask_is_a_step_with_the_gradient_of_a_sigmoid(rng, size, temperature, dtype):
    logits, noise = (3 * rng.standard_normal(size).astype(dtype) for _ in range(2))
    mask, vjp = rank_mask.with_vjp(logits, noise, temperature)
    np.testing.assert_array_equal(mask, [float(w + g > 0) for w, g in zip(logits, noise, strict=True)])
    assert mask.dtype == dtype
    dmask = rng.standard_normal(size).astype(dtype)
    dlogits, dnoise, dtemperature = vjp(dmask)
    y = special.expit((logits.astype(float) + noise) / temperature)
    np.testing.assert_allclose(dlogits, dmask * y * (1 - y) / temperature, rtol=1e-4, atol=1e-6)
    assert dlogits.dtype == dtype and dnoise is None and dtemperature is None
    up, down = (special.expit((logits.astype(float) + noise + h) / temperature) for h in (1e-6, -1e-6))
    np.testing.assert_allclose(dlogits, dmask * (up - down) / 2e-6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [-1.0, 0.0, 1.5])
def test_noise_keeps_a_component_with_the_probability_of_its_logit(logit):
    """sigmoid(w), which is 1/2 where the mask without noise decides; one Gumbel sample would give 1 - exp(-e^w)."""
    noise = logistic_noise(np.random.default_rng(7), 40_000)
    kept = np.mean(rank_mask(np.full(40_000, logit), noise, 0.5))
    assert kept == pytest.approx(special.expit(logit), abs=4 * 0.5 / np.sqrt(40_000))
    assert abs(kept - (1 - np.exp(-np.exp(logit)))) > 0.02
    assert stats.kstest(noise, stats.logistic.cdf).pvalue > 1e-3


@given(generators())
def test_noise_is_finite_and_follows_from_the_seed(rng):
    class Edge:
        def uniform(self, low, high, shape):
            return np.array([low, np.nextafter(high, 0)])

    assert np.all(np.isfinite(logistic_noise(Edge(), 2)))
    noise = logistic_noise(rng, (3, 4))
    assert noise.shape == (3, 4) and np.all(np.isfinite(noise))
    np.testing.assert_array_equal(*(logistic_noise(np.random.default_rng(5), 6) for _ in range(2)))


@given(generators(), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_the_compression_loss_is_the_mean_of_means_with_a_constant_gradient(rng, sizes):
    logits = [rng.standard_normal(size) for size in sizes]
    assert compression_loss(*logits) == pytest.approx(sum(map(np.mean, logits)) / len(sizes))
    assert check_gradient(compression_loss, *logits) < 1e-7
    gradients = compression_loss.with_vjp(*logits)[1](2.0)
    for gradient, size in zip(gradients, sizes, strict=True):
        np.testing.assert_allclose(gradient, 2 / (len(sizes) * size))
    assert compression_loss(np.ones(3, np.float32)).dtype == np.float32


@given(masks)
def test_total_variation_counts_changes(mask):
    variation = total_variation_loss(mask.astype(float))
    assert variation == sum(one != other for one, other in itertools.pairwise(mask.tolist()))
    prefix_or_suffix = np.array_equal(mask, np.sort(mask)) or np.array_equal(mask, np.sort(mask)[::-1])
    assert (variation == 0) == (len(set(mask.tolist())) == 1)
    assert (variation <= 1) == prefix_or_suffix


@given(generators(), st.integers(1, 9))
def test_total_variation_has_the_gradient_of_its_slopes(rng, size):
    assert check_gradient(total_variation_loss, rng.standard_normal(size)) < 1e-7
    np.testing.assert_array_equal(total_variation_loss.with_vjp(np.ones(size))[1](1.0)[0], np.zeros(size))


def masked_layer(rng, weight, logits, noise, bias=True):
    left, right, _ = svd_components(weight)
    bias = rng.standard_normal(len(weight)) if bias else None
    return MaskedRankLinear(logits, left, right, noise, 0.7, bias)


@given(generic_matrices(low=3), generators())
def test_a_masked_layer_computes_with_what_its_mask_keeps_and_learns_only_logits(weight, rng):
    size = min(weight.shape)
    logits, noise = rng.standard_normal(size), rng.standard_normal(size)
    layer = masked_layer(rng, weight, logits, noise)
    x = rng.standard_normal((2, 3, weight.shape[1]))
    mask = logits + noise > 0
    two_steps = ((x @ layer.right.T) * mask) @ layer.left.T + layer.bias
    np.testing.assert_allclose(layer(x), two_steps, rtol=0, atol=1e-9 * np.linalg.norm(weight) * 10)
    np.testing.assert_allclose(layer.dense_weight(), (layer.left * mask) @ layer.right, atol=1e-12)
    everything = layer.replace(logits=np.full(size, 50.0))
    np.testing.assert_allclose(everything.dense_weight(), weight, rtol=0, atol=1e-10 * np.linalg.norm(weight))
    assert list(named_parameters(layer)) == ["logits"]
    assert (layer.out_features, layer.in_features) == weight.shape


@given(generic_matrices(low=3), generators())
def test_the_gradient_of_a_mask_entry_is_its_component_seen_by_the_gradient_of_the_weight(weight, rng):
    """dL/dm_i = s_i u_i^T G v_i with G = dL/dW: no singular value decomposition is differentiated."""
    size = min(weight.shape)
    logits, noise = rng.standard_normal(size), rng.standard_normal(size)
    layer = masked_layer(rng, weight, logits, noise)
    x, target = rng.standard_normal((5, weight.shape[1])), rng.standard_normal((5, len(weight)))
    dlogits = value_and_grad(lambda layer: hidden_state_loss(layer(x), target))(layer)[1].logits
    G = (layer(x) - target).T @ x * 2 / target.size
    U, S, Vt = np.linalg.svd(weight, full_matrices=False)
    dmask = np.array([S[i] * U[:, i] @ G @ Vt[i] for i in range(size)])
    y = special.expit((logits + noise) / 0.7)
    scale = np.max(np.abs(dmask)) + 1e-300
    np.testing.assert_allclose(dlogits, dmask * y * (1 - y) / 0.7, rtol=1e-6, atol=1e-8 * scale)


@given(generic_matrices(low=3, high=6), generators())
def test_errors_of_dropped_components_add_and_the_first_are_the_best_in_their_norm(weight, rng):
    left, right, s = svd_components(weight)
    size = len(s)
    for kept in itertools.product([False, True], repeat=size):
        kept = np.array(kept)
        error = np.sum((weight - left[:, kept] @ right[kept]) ** 2)
        assert error == pytest.approx(np.sum(s[~kept] ** 2), abs=1e-9 * np.sum(s**2))
        first = first_components(kept)
        assert np.count_nonzero(first) == np.count_nonzero(kept) and np.all(np.diff(first.astype(int)) <= 0)
        assert np.sum((weight - left[:, first] @ right[first]) ** 2) <= error + 1e-9 * np.sum(s**2)


@st.composite
def layers_and_logits(draw, count=3):
    rng = np.random.default_rng(draw(seeds))
    shapes = {f"layer {i}": (draw(st.integers(2, 7)), draw(st.integers(2, 7))) for i in range(count)}
    spread = draw(st.sampled_from([1.0, 0.0]))  # equal logits, too
    return {layer: spread * rng.standard_normal(min(shape)) for layer, shape in shapes.items()}, shapes


@given(layers_and_logits(), st.data())
def test_the_budget_counts_the_smaller_form_and_grows_with_the_masks(case, data):
    logits, shapes = case
    drawn = {layer: np.array(data.draw(st.lists(st.booleans(), min_size=len(w), max_size=len(w))))
             for layer, w in logits.items()}  # fmt: skip
    counted = masked_parameters(drawn, shapes)
    assert counted == sum(min(drawn[layer].sum() * (m + n), m * n) for layer, (m, n) in shapes.items())
    more = {layer: mask | (logits[layer] > 0) for layer, mask in drawn.items()}
    assert masked_parameters(more, shapes) >= counted
    assert masked_parameters({layer: np.ones_like(mask) for layer, mask in drawn.items()}, shapes) == sum(
        math.prod(shape) for shape in shapes.values()
    )


@given(layers_and_logits(), st.floats(0, 1))
def test_masks_fill_the_budget_with_the_largest_logits(case, share):
    logits, shapes = case
    least = sum(min(m + n, m * n) for m, n in shapes.values())
    dense = sum(m * n for m, n in shapes.values())
    budget = int(least + share * (dense - least))
    found = masks_within(logits, shapes, budget)
    assert masked_parameters(found, shapes) <= budget
    for layer, (m, n) in shapes.items():
        mask, w = found[layer], logits[layer]
        assert mask.dtype == bool and mask[np.argmax(w)]
        if mask.sum() * (m + n) >= m * n:
            assert mask.all()  # dense, and then with everything
        elif not mask.all():
            left_over = budget - masked_parameters(found, shapes)
            one_more = min((mask.sum() + 1) * (m + n), m * n) - mask.sum() * (m + n)
            assert one_more > left_over  # nothing more fits
            assert np.min(w[mask]) >= np.max(w[~mask])  # the largest of the layer
    if share == 1:
        assert all(mask.all() for mask in found.values())


def test_masks_take_the_largest_logits_of_all_layers():
    shapes = {"a": (10, 10), "b": (10, 10)}
    logits = {"a": np.array([5.0, 4, 3, 1, *[-9.0] * 6]), "b": np.array([2.0, *[-8.0] * 8, 6.0])}
    found = masks_within(logits, shapes, 100)
    assert np.flatnonzero(found["a"]).tolist() == [0, 1, 2] and np.flatnonzero(found["b"]).tolist() == [0, 9]
    with pytest.raises(ConfigError, match="more than the budget"):
        masks_within(logits, shapes, 39)


def test_impossible_requests_are_refused():
    for temperature in (0, -1, np.inf, np.nan):
        with pytest.raises(ConfigError, match="temperature"):
            rank_mask(np.ones(3), np.zeros(3), temperature)
    with pytest.raises(DataError, match="noise"):
        rank_mask(np.ones(3), np.zeros(2), 1.0)
    with pytest.raises(DataError, match="no logits"):
        compression_loss()


@pytest.mark.parametrize("count", [masked_parameters, lambda masks, shapes: masks_within(masks, shapes, 60)])
def test_layers_of_masks_and_of_shapes_must_agree(count):
    shapes = {"query": (4, 5), "value": (3, 6)}
    masks = {"query": np.ones(4), "value": np.ones(3)}
    count(masks, shapes)
    query = {"query": masks["query"]}
    for others in (query, masks | {"key": np.ones(2)}, query | {"key": np.ones(3)}):
        with pytest.raises(DataError, match="must have the same layers"):
            count(others, shapes)
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="of value must be finite"):
            count(masks | {"value": np.array([1, bad, 1])}, shapes)
