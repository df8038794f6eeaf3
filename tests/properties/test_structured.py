"""Pruning of neurons: slices equal to masked layers, and importances equal to their formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.strategies import generators
from tinyslm.coursework.implementation import MaskedLinear, most_important, neuron_importance, slice_neurons
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import FeedForward, Linear

METHODS = ("magnitude", "peak_to_peak", "activation")


def draw_feed_forward(rng, gated=True, biased=True, width=4, neurons=9):
    def linear(rows, columns):
        return Linear(rng.standard_normal((rows, columns)), rng.standard_normal(rows) if biased else None)

    gate = linear(neurons, width) if gated else None
    activation = "silu" if gated else "gelu"
    return FeedForward(linear(neurons, width), linear(width, neurons), gate, activation)


def sliced(layer, keep):
    up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, keep)
    return layer.replace(up=up, down=down, gate=gate)


def importance(layer, method, rng):
    gate = None if layer.gate is None else layer.gate.weight
    mean_activation = rng.random(layer.up.out_features) if method == "activation" else None
    return neuron_importance(layer.up.weight, layer.down.weight, gate, method=method, mean_activation=mean_activation)


@given(generators(), st.booleans(), st.booleans(), st.integers(1, 9))
def test_slicing_equals_zeroing_the_columns_of_down(rng, gated, biased, count):
    """The sliced layer equals the layer whose other columns of down are 0."""
    layer = draw_feed_forward(rng, gated, biased)
    keep = np.sort(rng.choice(9, count, replace=False))
    x = rng.standard_normal((2, 3, 4))
    zeroed = np.zeros_like(layer.down.weight)
    zeroed[:, keep] = layer.down.weight[:, keep]
    masked = layer.replace(down=layer.down.replace(weight=zeroed))
    small = sliced(layer, keep)
    assert small.up.weight.shape == (count, 4) and small.down.weight.shape == (4, count)
    np.testing.assert_allclose(small(x), masked(x), rtol=1e-12, atol=1e-12)


@given(generators(), st.sampled_from(["down", "up", "gate"]), st.integers(0, 8))
def test_a_neuron_with_zero_input_or_output_weights_is_removed_without_loss(rng, where, neuron):
    layer = draw_feed_forward(rng, biased=False)
    weight = getattr(layer, where).weight.copy()
    if where == "down":
        weight[:, neuron] = 0
    else:
        weight[neuron] = 0
    layer = layer.replace(**{where: Linear(weight)})
    x = rng.standard_normal((5, 4))
    small = sliced(layer, np.delete(np.arange(9), neuron))
    np.testing.assert_allclose(small(x), layer(x), rtol=1e-12, atol=1e-13)


@given(generators(), st.sampled_from(["relu", "gelu", "silu gated"]), st.integers(0, 8))
def test_a_neuron_with_zero_input_weights_is_a_constant_that_the_bias_of_down_can_replace(rng, kind, neuron):
    layer = draw_feed_forward(rng, gated=kind == "silu gated").replace(activation=kind.removesuffix(" gated"))

    def deafen(linear):
        weight = linear.weight.copy()
        weight[neuron] = 0
        return linear.replace(weight=weight)

    layer = layer.replace(up=deafen(layer.up), gate=layer.gate and deafen(layer.gate))
    b = layer.up.bias[neuron]
    if kind == "silu gated":
        a = layer.gate.bias[neuron]
        constant = a * special.expit(a) * b
    else:
        constant = max(b, 0) if kind == "relu" else b * special.ndtr(b)
    small = sliced(layer, np.delete(np.arange(9), neuron))
    folded = small.replace(down=small.down.replace(bias=small.down.bias + constant * layer.down.weight[:, neuron]))
    x = rng.standard_normal((2, 3, 4))
    np.testing.assert_allclose(folded(x), layer(x), rtol=1e-12, atol=1e-12)


@given(generators(), st.booleans(), st.sampled_from(METHODS))
def test_the_order_of_neurons_does_not_matter(rng, gated, method):
    layer = draw_feed_forward(rng, gated)
    order = rng.permutation(9)
    shuffled = FeedForward(
        Linear(layer.up.weight[order], layer.up.bias[order]),
        Linear(layer.down.weight[:, order], layer.down.bias),
        Linear(layer.gate.weight[order], layer.gate.bias[order]) if gated else None,
        layer.activation,
    )
    x = rng.standard_normal((5, 4))
    np.testing.assert_allclose(shuffled(x), layer(x), rtol=1e-12, atol=1e-12)
    seed = int(rng.integers(2**32))
    scores = importance(layer, method, np.random.default_rng(seed))
    if method == "activation":
        mean_activation = np.random.default_rng(seed).random(9)[order]
        permuted = neuron_importance(
            shuffled.up.weight, shuffled.down.weight, method=method, mean_activation=mean_activation
        )
    else:
        permuted = importance(shuffled, method, None)
    np.testing.assert_allclose(permuted, scores[order], rtol=1e-12)
    kept, kept_shuffled = (sliced(m, most_important(s, 4)) for m, s in ((layer, scores), (shuffled, permuted)))
    np.testing.assert_allclose(kept_shuffled(x), kept(x), rtol=1e-12, atol=1e-12)


@given(generators(), st.booleans())
def test_keeping_all_is_the_identity_bit_for_bit(rng, gated):
    layer = draw_feed_forward(rng, gated)
    x = rng.standard_normal((5, 4))
    same = sliced(layer, np.arange(9))
    np.testing.assert_array_equal(same(x), layer(x))
    assert not np.shares_memory(same.down.weight, layer.down.weight)


@given(generators(), st.integers(1, 8), st.integers(1, 8), st.sampled_from(METHODS))
def test_pruning_in_two_steps_is_pruning_once(rng, first, second, method):
    first, second = max(first, second), min(first, second)
    layer = draw_feed_forward(rng)
    scores = importance(layer, method, rng)
    keep = most_important(scores, first)
    twice = sliced(sliced(layer, keep), most_important(scores[keep], second))
    once = sliced(layer, most_important(scores, second))
    assert set(most_important(scores, second)) <= set(keep)
    np.testing.assert_array_equal(twice.up.weight, once.up.weight)
    np.testing.assert_array_equal(twice.down.weight, once.down.weight)
    np.testing.assert_array_equal(twice.gate.bias, once.gate.bias)


@given(generators())
def test_importances_are_their_formulas(rng):
    up, down, gate = rng.standard_normal((9, 4)), rng.standard_normal((4, 9)), rng.standard_normal((9, 4))
    hidden = rng.standard_normal((20, 9))
    for i in range(9):
        group = np.concatenate([up[i], gate[i], down[:, i]])
        assert neuron_importance(up, down, gate)[i] == pytest.approx(np.linalg.norm(group))
        assert neuron_importance(up, down)[i] == pytest.approx(np.linalg.norm(np.concatenate([up[i], down[:, i]])))
        peaks = gate[i].max() + abs(gate[i].min()) + up[i].max() + abs(up[i].min())
        assert neuron_importance(up, down, gate, method="peak_to_peak")[i] == pytest.approx(peaks)
        mean_activation = np.mean(np.abs(hidden), axis=0)
        measured = neuron_importance(up, down, gate, method="activation", mean_activation=mean_activation)[i]
        assert measured == pytest.approx(np.sqrt(np.sum(down[:, i] ** 2)) * np.mean(np.abs(hidden[:, i])))


@given(generators())
def test_which_rescalings_change_the_importance(rng):
    """Peak to peak is the range of a row of mixed signs, but it changes if a row of one sign is negated."""
    up, down = rng.standard_normal((9, 6)), rng.standard_normal((6, 9))
    up[:, 0], up[:, 1] = -0.1, 0.1
    np.testing.assert_allclose(neuron_importance(up, down, method="peak_to_peak"), np.ptp(up, axis=1))
    positive = np.abs(up) + 0.1
    flipped = neuron_importance(-positive, down, method="peak_to_peak")
    assert np.all(flipped != neuron_importance(positive, down, method="peak_to_peak"))
    rescaled = (up * 3, down / 3)  # the same function of a layer without a gate and with relu
    for method in ("magnitude", "peak_to_peak"):
        assert np.all(neuron_importance(*rescaled, method=method) != neuron_importance(up, down, method=method))
    mean_activation = rng.random(9)
    before = neuron_importance(up, down, method="activation", mean_activation=mean_activation)
    after = neuron_importance(*rescaled, method="activation", mean_activation=mean_activation * 3)
    np.testing.assert_allclose(after, before)


def test_the_most_important_are_sorted_and_ties_keep_the_first():
    np.testing.assert_array_equal(most_important(np.array([3.0, 1.0, 2.0, 5.0]), 2), [0, 3])
    np.testing.assert_array_equal(most_important(np.ones(5), 3), [0, 1, 2])


def test_bare_arrays_are_sliced_too_and_are_contiguous():
    up, down = np.arange(12.0).reshape(4, 3), np.arange(8.0).reshape(2, 4)
    small_up, small_down, gate = slice_neurons(up, down, None, [1, 3])
    np.testing.assert_array_equal(small_up, up[[1, 3]])
    np.testing.assert_array_equal(small_down, down[:, [1, 3]])
    assert gate is None and small_down.flags.c_contiguous


@pytest.mark.parametrize("keep", [[], [2, 1], [1, 1], [-1, 2], [0, 4], [0.0, 1.0], [[0, 1]]])
def test_invalid_indices_are_refused(keep):
    with pytest.raises(DataError, match="ascending"):
        slice_neurons(np.ones((4, 3)), np.ones((2, 4)), None, keep)


def test_invalid_arguments_are_refused():
    up, down = np.ones((4, 3)), np.ones((2, 4))
    for count in (0, 5, 2.0, True):
        with pytest.raises(ConfigError, match="count"):
            most_important(np.ones(4), count)
    with pytest.raises(DataError, match=r"down must have shape \(4, 4\), found \(4, 2\)"):
        neuron_importance(up, down.T)
    with pytest.raises(DataError, match=r"gate must have shape \(4, 3\)"):
        neuron_importance(up, down, np.ones((4, 2)))
    with pytest.raises(ConfigError, match="method"):
        neuron_importance(up, down, method="luck")
    with pytest.raises(ConfigError, match="mean_activation"):
        neuron_importance(up, down, method="activation")
    masked = MaskedLinear.from_linear(Linear(up), up > 0)
    with pytest.raises(ConfigError, match="MaskedLinear"):
        slice_neurons(masked, Linear(down), None, [0])
