"""The gradient of a whole model: against finite differences, against conservation laws, and what it costs."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.autodiff import Traced, backward, value_and_grad
from tinyslm.models import DecoderConfig, next_token_loss
from tinyslm.modules import Linear
from tinyslm.ops import IGNORED, Rope, choose_experts
from tinyslm.tree import map_parameters, named_arrays

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, max_position_embeddings=20, ropes=(Rope(100.0, 6),) * 2)


def batch(seed, B=2, T=9):
    """(token_ids, labels, attention_mask): the second row is padded on the right."""
    token_ids = np.random.default_rng(seed).integers(0, 23, (B, T))
    mask = np.ones((B, T), int)
    mask[1, 6:] = 0
    return token_ids, np.where(mask, token_ids, IGNORED), mask


def moved(model, direction, step):
    """The model with every array moved along its direction."""
    return map_parameters(lambda path, array: array + step * direction[path], model)


def chosen_experts(model, token_ids, mask):
    """For every mixture, the experts of every token, as arrays of booleans (tokens, E); none without mixtures."""
    found = []

    def observe(name, value):
        if name.endswith("router_logits"):
            chosen = choose_experts(value, model.config.experts_per_token)
            found.append((chosen[..., None] == np.arange(value.shape[-1])).any(axis=1))

    model(token_ids, mask, observe=observe)
    return found


def experts_stay(model, direction, seed):
    """Whether every token keeps its experts where `slopes` moves the model: between two choices the loss jumps."""
    token_ids, _, mask = batch(seed)
    before, after = (chosen_experts(moved(model, direction, step), token_ids, mask) for step in (-2e-5, 2e-5))
    return all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def slopes(model, direction, seed):
    """Slope of the loss along a direction {path: array}: (<gradients, direction>, finite difference of fourth order).

    The error of the plain central difference, step^2 times the third derivative, would be larger than what is tested.
    """
    token_ids, labels, mask = batch(seed)
    _, gradients = value_and_grad(next_token_loss)(model, token_ids, labels, attention_mask=mask)
    slope = sum(np.sum(gradient * direction[path]) for path, gradient in named_arrays(gradients).items())

    def difference(step):
        ends = [
            next_token_loss(moved(model, direction, sign * step), token_ids, labels, attention_mask=mask)
            for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    return slope, (4 * difference(1e-5) - difference(2e-5)) / 3


@given(decoder_configs(), seeds)
def test_whole_model_gradient(config, seed):
    """Any combination of choices: grouped heads, windows, rotary scalings, norms, caps, experts, ties, biases."""
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    direction = {path: rng.standard_normal(array.shape) for path, array in named_arrays(model).items()}
    assume(experts_stay(model, direction, seed))
    slope, difference = slopes(model, direction, seed)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("path", list(named_arrays(generic_model(CONFIG))))
def test_every_array_alone(path):
    """A direction that moves one array only, so that no array hides behind the others."""
    model = generic_model(CONFIG)
    arrays = named_arrays(model)
    direction = dict.fromkeys(arrays, 0.0) | {path: np.random.default_rng(2).standard_normal(arrays[path].shape)}
    slope, difference = slopes(model, direction, 0)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-9)


def test_a_tied_table_receives_both_gradients():
    """Tied: the sum of what the same two tables receive as input and as head when they are separate."""
    tied = generic_model(CONFIG)
    separate = tied.replace(head=Linear(tied.embedding.table.copy()))
    token_ids, _, _ = batch(3)
    _, one = value_and_grad(next_token_loss)(tied, token_ids)
    _, two = value_and_grad(next_token_loss)(separate, token_ids)
    np.testing.assert_allclose(one.embedding.table, two.embedding.table + two.head.weight, atol=1e-12)
    assert min(np.abs(two.embedding.table).max(), np.abs(two.head.weight).max()) > 1e-3


def test_the_same_array_in_two_places_is_tied_too():
    """A head that holds the embedding's own array: one variable, the sum in both places of the gradient."""
    tied = generic_model(CONFIG)
    shared = tied.replace(head=Linear(tied.embedding.table))
    token_ids, _, _ = batch(3)
    _, one = value_and_grad(next_token_loss)(tied, token_ids)
    _, two = value_and_grad(next_token_loss)(shared, token_ids)
    np.testing.assert_allclose(two.embedding.table, one.embedding.table, atol=1e-12)
    np.testing.assert_array_equal(two.embedding.table, two.head.weight)


def test_tokens_that_do_not_occur_have_no_gradient_in_an_untied_table():
    """Rows of a token used twice hold a sum (see ops), rows of unused tokens exactly zero."""
    config = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 20, tie_word_embeddings=False)
    token_ids = np.array([[3, 5, 3, 7]])
    _, gradients = value_and_grad(next_token_loss)(generic_model(config), token_ids)
    used = np.flatnonzero(np.abs(gradients.embedding.table).sum(axis=1))
    np.testing.assert_array_equal(used, [3, 5])  # 7 is last: nothing follows it


@given(decoder_configs(), seeds)
def test_ignored_positions_at_the_end_give_no_gradient(config, seed):
    """What is padded on the right can hold any token: the gradient is the same."""
    model, (token_ids, labels, mask) = generic_model(config, seed), batch(seed)
    other = np.where(mask, token_ids, (token_ids + 1) % 23)
    results = [
        named_arrays(value_and_grad(next_token_loss)(model, ids, labels, attention_mask=mask)[1])
        for ids in (token_ids, other)
    ]
    for path, gradient in results[0].items():
        np.testing.assert_allclose(gradient, results[1][path], atol=1e-10, err_msg=path)


def tape_length(layers):
    """(lines on the tape, calls of a vjp) of one loss and its gradient."""
    config = DecoderConfig("test", 23, 10, 14, layers, 4, 2, 6, 20, ropes=(Rope(100.0, 6),) * layers)
    tape, calls = [], []
    traced = map_parameters(lambda path, array: Traced(array, tape), generic_model(config))
    loss = next_token_loss(traced, batch(0)[0])
    length = len(tape)

    def counted(vjp):
        def call(dy):
            calls.append(1)
            return vjp(dy)

        return call

    tape[:] = [(output, inputs, counted(vjp)) for output, inputs, vjp in tape]
    backward(tape, loss)
    return length, len(calls)


def test_backward_is_linear_in_depth():
    """The same number of lines for every further layer, and each line's vjp is called once."""
    lengths = [tape_length(layers) for layers in (1, 2, 3, 4, 8)]
    assert all(length == calls for length, calls in lengths)
    per_layer = lengths[1][0] - lengths[0][0]
    assert [length for length, _ in lengths] == [lengths[0][0] + per_layer * extra for extra in (0, 1, 2, 3, 7)]
    assert per_layer < 30  # layer-level operations, not one line per + and exp


def inner(gradient, layer, rows):
    """<gradient, parameter> over some outputs of a Linear, weight and bias together."""
    total = np.sum(gradient.weight[rows] * layer.weight[rows])
    return total if layer.bias is None else total + np.sum(gradient.bias[rows] * layer.bias[rows])


@given(decoder_configs(gated=True, num_experts=0, experts_per_token=0), seeds)
def test_conservation_per_neuron(config, seed):
    """<dU_i, U_i> = <dD_:i, D_:i>: doubling a neuron's row of `up` or its column of `down` is the same change.

    Source: Du, Hu & Lee 2018, theorem 2.1. It holds for the linear branch of a gated layer, whatever the activation.
    """
    model = generic_model(config, seed)
    _, gradients = value_and_grad(next_token_loss)(model, batch(seed)[0])
    for layer, gradient in zip(model.layers, gradients.layers, strict=True):
        layer, gradient = layer.feed_forward, gradient.feed_forward
        for i in range(config.intermediate_size):
            into = inner(gradient.up, layer.up, i)
            out_of = np.sum(gradient.down.weight[:, i] * layer.down.weight[:, i])
            assert into == pytest.approx(out_of, rel=1e-9, abs=1e-12)


@given(decoder_configs(query_key_norm=False), seeds)
def test_conservation_per_group_of_heads(config, seed):
    """<dQ, Q> = <dK, K> and <dV, V> = <dO, O>, summed over the query heads of a key/value group, with rotary positions
    and soft caps too: only the products Q K^T and V O^T enter the loss."""
    model = generic_model(config, seed)
    _, gradients = value_and_grad(next_token_loss)(model, batch(seed)[0])
    D, r = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    for layer, gradient in zip(model.layers, gradients.layers, strict=True):
        layer, gradient = layer.attention, gradient.attention
        for g in range(config.num_key_value_heads):
            shared, own = slice(g * D, (g + 1) * D), slice(g * r * D, (g + 1) * r * D)
            query, key = inner(gradient.query, layer.query, own), inner(gradient.key, layer.key, shared)
            assert query == pytest.approx(key, rel=1e-9, abs=1e-12)
            value = inner(gradient.value, layer.value, shared)
            output = np.sum(gradient.output.weight[:, own] * layer.output.weight[:, own])
            assert value == pytest.approx(output, rel=1e-9, abs=1e-12)


@given(st.integers(1, 3), seeds)
def test_gradients_of_batches_average(rows, seed):
    """The gradient of a batch of equal lengths is the mean of its rows' gradients: what data-parallel training uses."""
    model, token_ids = generic_model(CONFIG, seed), batch(seed, B=4)[0]
    whole = named_arrays(value_and_grad(next_token_loss)(model, token_ids)[1])
    first = named_arrays(value_and_grad(next_token_loss)(model, token_ids[:rows])[1])
    second = named_arrays(value_and_grad(next_token_loss)(model, token_ids[rows:])[1])
    for path, gradient in whole.items():
        mean = (rows * first[path] + (4 - rows) * second[path]) / 4
        np.testing.assert_allclose(gradient, mean, atol=1e-12, err_msg=path)
