"""Statistics are sums over documents: the same in any order and any grouping, and equal to what one pass shows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.families import calibrated, drawn
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.autodiff import value_and_grad
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask, minitron_importance
from tinyslm.errors import DataError
from tinyslm.models import EncoderDecoder, next_token_loss
from tinyslm.modules import Linear, LinearLayer, MixtureOfExperts
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.pruning.neurons import neuron_scores
from tinyslm.recipes.statistics import (
    RunningStatistic,
    fisher_information,
    input_grams,
    input_maxima,
    mean_gradients,
    mean_input_magnitudes,
    mean_routing_weights,
)
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules


def inputs_of_down(model, tasks, layer):
    """Everything that enters the down projection of a layer: (N, F)."""
    seen = []
    wanted = f"layers.{layer}.feed_forward.neurons"
    for task in tasks:
        model.hidden_states(**task.inputs, observe=lambda name, value: seen.append(value) if name == wanted else None)
    return np.concatenate([value.reshape(-1, value.shape[-1]) for value in seen])


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_of_inputs_are_those_of_what_enters_the_layer(masked):
    model = tiny_model()
    if masked:
        model = map_modules(
            lambda _, linear: MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.3)), model, Linear
        )
    tasks = tiny_calibration(model).sample()[:5]
    rows = inputs_of_down(model, tasks, 1).astype(np.float64)
    path = "layers.1.feed_forward.down"
    gram, tokens = input_grams(model, tasks)[path]
    assert tokens == len(rows) == sum(task.inputs["token_ids"].size for task in tasks)
    np.testing.assert_allclose(gram, rows.T @ rows, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mean_input_magnitudes(model, tasks)[path], np.mean(np.abs(rows), axis=0), rtol=1e-5)
    np.testing.assert_allclose(input_maxima(model, tasks)[path], np.max(np.abs(rows), axis=0), rtol=1e-6)


@settings(max_examples=25)
@given(drawn(), st.integers(0, 6), st.randoms(use_true_random=False))
def test_the_order_and_the_grouping_of_documents_do_not_matter(case, first, random):
    model = case.model()
    tasks = calibrated(model).sample()
    shuffled = random.sample(tasks, len(tasks))
    whole, again = input_grams(model, tasks), input_grams(model, shuffled)
    assert set(whole) == {path for path in named_modules(model, LinearLayer) if is_compressible(path)}
    parts = [input_grams(model, part) for part in (tasks[:first], tasks[first:]) if part]
    for path, (gram, tokens) in whole.items():
        np.testing.assert_allclose(again[path][0], gram, rtol=1e-10, atol=1e-12 * max(np.max(np.abs(gram)), 1))
        assert again[path][1] == tokens == sum(part[path][1] for part in parts)
        total = sum(part[path][0] for part in parts)
        np.testing.assert_allclose(total, gram, rtol=1e-10, atol=1e-12 * max(np.max(np.abs(gram)), 1))


def in_float64(model):
    return map_arrays(lambda path, array: array.astype(np.float64), model)


@settings(max_examples=10)
@given(drawn(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_means_maxima_and_squared_gradients_are_put_together_from_parts_too(case, first, random):
    """A mean over documents or tokens by the numbers of them, a largest value by the larger of two."""
    model = in_float64(case.model())
    tasks = calibrated(model).sample()
    shuffled = random.sample(tasks, len(tasks))
    parts = tasks[:first], tasks[first:]
    for statistic in (fisher_information, mean_gradients):
        whole, again = statistic(model, tasks), statistic(model, shuffled)
        halves = [statistic(model, part) for part in parts]
        for path, value in whole.items():
            total = sum(len(part) * half[path] for part, half in zip(parts, halves, strict=True)) / len(tasks)
            for other in (again[path], total):
                np.testing.assert_allclose(other, value, rtol=1e-10, atol=1e-12 * np.max(np.abs(value), initial=1))
    maxima, means = (
        [of(model, each) for each in (tasks, shuffled, *parts)] for of in (input_maxima, mean_input_magnitudes)
    )
    counts = [input_grams(model, part) for part in parts]
    for path in counts[0]:
        whole, again, *halves = (found[path] for found in maxima)
        np.testing.assert_allclose(again, whole, rtol=1e-10)
        np.testing.assert_allclose(np.maximum(*halves), whole, rtol=1e-10)
        whole, again, *halves = (found[path] for found in means)
        one, other = (count[path][1] for count in counts)
        np.testing.assert_allclose(again, whole, rtol=1e-10)
        np.testing.assert_allclose(one * halves[0] + other * halves[1], (one + other) * whole, rtol=1e-10)


@settings(max_examples=25)
@given(drawn(), st.randoms(use_true_random=False))
def test_a_statistic_of_documents_of_different_lengths_is_that_of_each_alone(case, random):
    """Nothing is padded, or padding does not count; and the scores of units do not depend on the order either."""
    model = in_float64(case.model())
    calibration = calibrated(model)
    alone = [replace(calibration, documents=[document]).sample() for document in calibration.documents]
    each = [input_grams(model, tasks) for tasks in alone]
    for path, (gram, tokens) in input_grams(model, calibration.sample()).items():
        assert tokens == sum(found[path][1] for found in each)
        if path.endswith("attention.query") and not isinstance(model, EncoderDecoder):
            assert tokens == sum(map(len, calibration.documents))
        total = sum(found[path][0] for found in each)
        np.testing.assert_allclose(total, gram, rtol=1e-10, atol=1e-12 * np.max(np.abs(gram), initial=1))
    scores = neuron_scores(model, calibration, "minitron")
    if hasattr(model, "layers") and "layers.0.feed_forward" in scores:
        documents = [inputs_of_down(model, tasks, 0) for tasks in alone]
        np.testing.assert_allclose(scores["layers.0.feed_forward"], minitron_importance(documents), rtol=1e-10)
    shuffled = replace(calibration, documents=random.sample(calibration.documents, len(calibration.documents)))
    for path, score in neuron_scores(model, shuffled, "minitron").items():
        np.testing.assert_allclose(score, scores[path], rtol=1e-10)
        squares = [neuron_scores(model, replace(calibration, documents=[document]), "minitron")[path] ** 2
                   for document in calibration.documents]  # fmt: skip
        np.testing.assert_allclose(np.sqrt(sum(squares)), scores[path], rtol=1e-10)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_rows_of_short_documents_are_put_together(lengths, rows_together, seed):
    rows, sizes = np.random.default_rng(seed).standard_normal((sum(lengths), 3)), []
    total = RunningStatistic(lambda rows: sizes.append(len(rows)) or rows.T @ rows, np.add, rows_together)
    for document in np.split(rows, np.cumsum(lengths)[:-1]):
        mutable = document[None].copy()
        total.add(mutable)
        mutable[...] = np.nan  # a later operation can reuse the array
    total.finish()
    assert total.tokens == len(rows) == sum(sizes)
    assert all(size >= rows_together for size in sizes[:-1])
    np.testing.assert_allclose(total.total, rows.T @ rows, atol=1e-12)


def test_only_the_layers_that_are_asked_for_are_watched():
    model = tiny_model()
    tasks = tiny_calibration(model).sample()
    some = {"layers.0.attention.key", "layers.2.feed_forward.up"}
    assert set(input_maxima(model, tasks, paths=some)) == some


def test_experts_see_the_tokens_that_are_sent_to_them():
    model = tiny_model(experts=4)
    without_normalization = map_modules(lambda _, each: each.replace(normalized=False), model, MixtureOfExperts)
    tasks = tiny_calibration(model).sample()
    grams = input_grams(model, tasks)
    tokens = sum(task.inputs["token_ids"].size for task in tasks)
    for layer in range(3):
        reached = [grams[f"layers.{layer}.feed_forward.experts.{expert}.up"][1] for expert in range(4)]
        assert sum(reached) == 2 * tokens
        weights = mean_routing_weights(model, tasks)[f"layers.{layer}.feed_forward"]
        assert np.isclose(np.sum(weights), 1)
        probabilities = mean_routing_weights(without_normalization, tasks)[f"layers.{layer}.feed_forward"]
        assert 0.5 < np.sum(probabilities) < 0.999  # of two experts of four
    assert "layers.0.feed_forward.router" not in grams


def test_an_expert_that_no_token_reaches_has_zeros():
    model = tiny_model(experts=4)
    closed = np.array([-1e9, 0, 0, 0], np.float32)
    blocks = [
        block.replace(feed_forward=block.feed_forward.replace(router=block.feed_forward.router.replace(bias=closed)))
        for block in model.layers
    ]
    model = model.replace(layers=blocks)
    tasks = tiny_calibration(model).sample()
    path = "layers.1.feed_forward.experts.0.down"
    assert input_grams(model, tasks)[path][1] == 0
    assert not np.any(mean_input_magnitudes(model, tasks)[path]) and not np.any(input_maxima(model, tasks)[path])


def test_fisher_information_is_the_mean_of_squared_gradients_of_single_documents():
    model = tiny_model()
    tasks = tiny_calibration(model).sample()[:3]
    fisher, mean = fisher_information(model, tasks), mean_gradients(model, tasks)
    gradients = [named_arrays(value_and_grad(next_token_loss)(model, t.inputs["token_ids"])[1]) for t in tasks]
    for path in ("layers.0.attention.query.weight", "layers.2.feed_forward.down.weight"):
        expected = np.mean([np.square(gradient[path]) for gradient in gradients], axis=0)
        np.testing.assert_allclose(fisher[path], expected, rtol=1e-4, atol=1e-12)
        average = np.mean([gradient[path] for gradient in gradients], axis=0)
        np.testing.assert_allclose(mean[path], average, rtol=1e-4, atol=1e-7)
        assert not np.allclose(expected, np.square(average), rtol=0.1)


def test_no_documents_are_refused():
    with pytest.raises(DataError, match="at least one document"):
        input_grams(tiny_model(), [])
