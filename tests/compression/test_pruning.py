"""Removing weights and neurons: exact counts, ties, masks that hold, and neurons that really go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from tests.strategies import generators, generic_matrices, matrices
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.pruning import (
    MaskedLinear,
    global_magnitude_masks,
    magnitude_mask,
    masked_linear,
    most_important,
    neuron_importance,
    slice_neurons,
)
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import FeedForward, Linear

sparsities = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))


def error(weight, mask):
    return np.sum(np.square(weight * ~mask))


@given(matrices(), sparsities)
def test_p1_exact_count_and_the_smallest_of_equal_weights_by_position(weight, sparsity):
    """P1, also with ties; the oracle sorts by (magnitude, position)."""
    mask = magnitude_mask(weight, sparsity)
    count = round(sparsity * weight.size)
    order = sorted(range(weight.size), key=lambda i: (abs(weight.flat[i]), i))
    assert mask.dtype == bool and mask.shape == weight.shape
    np.testing.assert_array_equal(np.flatnonzero(~mask), sorted(order[:count]))


def test_p1_a_matrix_of_equal_weights():
    assert np.sum(~magnitude_mask(np.zeros((3, 4)), 0.5)) == 6
    assert np.sum(~magnitude_mask(np.ones((3, 4)), 0.25)) == 3


@given(matrices(), sparsities, generators())
def test_p2_no_mask_of_the_same_count_has_a_smaller_error(weight, sparsity, rng):
    mask = magnitude_mask(weight, sparsity)
    other = rng.permutation(mask.reshape(-1)).reshape(mask.shape)
    assert error(weight, mask) <= error(weight, other) * (1 + 1e-12)


@given(st.lists(matrices(), min_size=1, max_size=4), st.floats(0, 1))
def test_p2b_one_threshold_for_all_is_never_worse_than_one_per_layer(weights, sparsity):
    layerwise = [magnitude_mask(weight, sparsity) for weight in weights]
    size = sum(weight.size for weight in weights)
    removed = sum(int(np.sum(~mask)) for mask in layerwise)
    together = global_magnitude_masks(weights, removed / size)
    assert sum(int(np.sum(~mask)) for mask in together) == removed
    total = [sum(error(w, m) for w, m in zip(weights, masks, strict=True)) for masks in (together, layerwise)]
    assert total[0] <= total[1] * (1 + 1e-12)


@given(st.lists(matrices(), min_size=1, max_size=3), st.floats(0, 1))
def test_global_masks_are_those_of_one_long_vector_in_either_container(weights, sparsity):
    expected = magnitude_mask(np.concatenate([w.reshape(-1) for w in weights]), sparsity)
    masks = global_magnitude_masks(weights, sparsity)
    assert [m.shape for m in masks] == [w.shape for w in weights]
    np.testing.assert_array_equal(np.concatenate([m.reshape(-1) for m in masks]), expected)
    named = global_magnitude_masks({f"layer {i}": w for i, w in enumerate(weights)}, sparsity)
    assert list(named) == [f"layer {i}" for i in range(len(weights))]
    assert all(np.array_equal(a, b) for a, b in zip(named.values(), masks, strict=True))
    assert global_magnitude_masks([], 0.5) == []


@given(matrices(), sparsities, sparsities)
def test_p3_masks_are_nested(weight, first, second):
    low, high = (magnitude_mask(weight, s) for s in sorted((first, second)))
    assert np.all(low | ~high)  # what stays at the higher sparsity stayed at the lower


@given(matrices(), sparsities)
def test_p4_pruning_twice_is_pruning_once(weight, sparsity):
    mask = magnitude_mask(weight, sparsity)
    np.testing.assert_array_equal(magnitude_mask(weight * mask, sparsity), mask)


@given(generic_matrices(), sparsities, generators(), st.sampled_from([-3.7, 0.01, 2.0]))
def test_p4_scale_signs_and_order_do_not_matter(weight, sparsity, rng, factor):
    mask = magnitude_mask(weight, sparsity)
    np.testing.assert_array_equal(magnitude_mask(weight * factor, sparsity), mask)
    np.testing.assert_array_equal(magnitude_mask(weight * rng.choice([-1, 1], weight.shape), sparsity), mask)
    order = rng.permutation(weight.size)
    shuffled = magnitude_mask(weight.reshape(-1)[order], sparsity)
    np.testing.assert_array_equal(shuffled, mask.reshape(-1)[order])


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, np.nan])
def test_impossible_sparsities_are_refused(sparsity):
    with pytest.raises(ConfigError, match="sparsity"):
        magnitude_mask(np.ones((2, 3)), sparsity)
    with pytest.raises(ConfigError, match="sparsity"):
        global_magnitude_masks([np.ones((2, 3))], sparsity)


def test_weights_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="finite"):
        magnitude_mask(np.array([1.0, np.nan]), 0.5)


# --- MaskedLinear


def draw_masked(rng, dtype=np.float64):
    linear = Linear(rng.standard_normal((5, 7)).astype(dtype), rng.standard_normal(5).astype(dtype))
    mask = magnitude_mask(linear.weight, 0.4)
    return linear, mask, MaskedLinear.from_linear(linear, mask)


@given(generators())
def test_p12_masked_sparse_and_dense_forms_agree(rng):
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((2, 3, 7))
    csr = sparse.csr_array(linear.weight * mask)
    expected = (csr @ x.reshape(-1, 7).T).T.reshape(2, 3, 5) + linear.bias
    np.testing.assert_allclose(masked(x), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(masked.to_linear()(x), masked(x))
    np.testing.assert_array_equal(masked.weight == 0, ~mask)
    assert not np.any(np.signbit(masked.weight[~mask]))  # 0.0 and not -0.0


def test_masked_linear_does_not_read_removed_weights():
    """The forward pass multiplies by W * M even if W was not zeroed."""
    rng = np.random.default_rng(0)
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((3, 7))
    np.testing.assert_array_equal(masked_linear(x, linear.weight, mask, linear.bias), masked(x))


def test_masked_linear_gradient():
    rng = np.random.default_rng(1)
    linear, mask, masked = draw_masked(rng)
    x = rng.standard_normal((2, 3, 7))
    assert check_gradient(masked_linear, x, linear.weight, mask, linear.bias) < 1e-7
    gradients = value_and_grad(lambda layer: hidden_state_loss(layer(x), np.ones((2, 3, 5))))(masked)[1]
    np.testing.assert_array_equal(gradients.weight == 0, ~mask)
    assert gradients.mask is None and np.all(gradients.bias != 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_p10_removed_weights_stay_zero_through_momentum_and_adamw(dtype):
    rng = np.random.default_rng(2)
    _, mask, layer = draw_masked(rng, dtype)
    moments = [np.zeros_like(layer.weight), np.zeros_like(layer.weight)]
    for step in range(1, 8):
        x, direction = rng.standard_normal((4, 7)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
        _, vjp = masked_linear.with_vjp(x, layer.weight, layer.mask, layer.bias)
        gradient = vjp(direction)[1]
        assert not np.any(gradient[~mask]) and np.all(gradient[mask] != 0)
        for moment, power, rate in ((moments[0], 1, 0.9), (moments[1], 2, 0.99)):
            moment *= rate
            moment += (1 - rate) * gradient**power
        update = (moments[0] / (1 - 0.9**step)) / (np.sqrt(moments[1] / (1 - 0.99**step)) + 1e-8)
        layer = layer.replace(weight=(layer.weight - 0.01 * (update + 0.1 * layer.weight)).astype(dtype))
        np.testing.assert_array_equal(layer.weight == 0, ~mask)


def test_masks_that_do_not_fit_are_refused():
    linear = Linear(np.ones((2, 3)))
    with pytest.raises(DataError, match="shape"):
        MaskedLinear.from_linear(linear, np.ones((3, 2), bool))
    with pytest.raises(DataError, match="booleans"):
        MaskedLinear.from_linear(linear, np.ones((2, 3)))


# --- neurons

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
def test_s2_slicing_is_zeroing_what_the_neurons_write(rng, gated, biased, count):
    """S2 for neurons: the sliced layer equals the layer whose other columns of down are 0."""
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
def test_s1_a_neuron_that_reads_or_writes_nothing_is_removed_without_loss(rng, where, neuron):
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


@given(generators(), st.booleans(), st.sampled_from(METHODS))
def test_s3_order_of_neurons_does_not_matter(rng, gated, method):
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
def test_s13_keeping_all_is_the_identity_bit_for_bit(rng, gated):
    layer = draw_feed_forward(rng, gated)
    x = rng.standard_normal((5, 4))
    same = sliced(layer, np.arange(9))
    np.testing.assert_array_equal(same(x), layer(x))
    assert not np.shares_memory(same.down.weight, layer.down.weight)


@given(generators(), st.integers(1, 8), st.integers(1, 8), st.sampled_from(METHODS))
def test_s13_s10_pruning_in_two_steps_is_pruning_once(rng, first, second, method):
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
def test_s9_what_peak_to_peak_and_magnitude_are_blind_to(rng):
    """S9: peak to peak is the range of a row of mixed signs, but notices a flip of a row of one sign."""
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


def test_bare_arrays_are_sliced_too_and_stay_contiguous():
    up, down = np.arange(12.0).reshape(4, 3), np.arange(8.0).reshape(2, 4)
    small_up, small_down, gate = slice_neurons(up, down, None, [1, 3])
    np.testing.assert_array_equal(small_up, up[[1, 3]])
    np.testing.assert_array_equal(small_down, down[:, [1, 3]])
    assert gate is None and small_down.flags.c_contiguous


@pytest.mark.parametrize("keep", [[], [2, 1], [1, 1], [-1, 2], [0, 4], [0.0, 1.0], [[0, 1]]])
def test_neurons_that_do_not_exist_are_refused(keep):
    with pytest.raises(DataError, match="ascending"):
        slice_neurons(np.ones((4, 3)), np.ones((2, 4)), None, keep)


def test_requests_that_cannot_be_honoured_are_refused():
    up, down = np.ones((4, 3)), np.ones((2, 4))
    for count in (0, 5, 2.0, True):
        with pytest.raises(ConfigError, match="count"):
            most_important(np.ones(4), count)
    with pytest.raises(DataError, match="share"):
        neuron_importance(up, down.T)
    with pytest.raises(DataError, match="gate"):
        neuron_importance(up, down, np.ones((4, 2)))
    with pytest.raises(ConfigError, match="method"):
        neuron_importance(up, down, method="luck")
    with pytest.raises(ConfigError, match="mean_activation"):
        neuron_importance(up, down, method="activation")
    masked = MaskedLinear.from_linear(Linear(up), up > 0)
    with pytest.raises(ConfigError, match="MaskedLinear"):
        slice_neurons(masked, Linear(down), None, [0])
