"""Factorization of a whole model: what the ratio promises, which layers stay dense, and how ranks are chosen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.families import assert_outputs, calibrated, drawn, layer_parameters, outputs
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.compression.factorization import (
    LowRankLinear,
    rank_for_ratio,
    truncated_svd,
    whitened_svd,
)
from tinyslm.errors import ConfigError
from tinyslm.recipes import Factorize, compress
from tinyslm.recipes.factorization.components import WEIGHTINGS, model_components, with_ranks
from tinyslm.recipes.factorization.rank_allocation import RANKS, losses_alone, searched_ranks
from tinyslm.recipes.linear_layers import compressible_layers
from tinyslm.recipes.statistics import input_grams
from tinyslm.recipes.tasks import task_loss
from tinyslm.tree import named_arrays, named_modules


@settings(max_examples=60)
@given(drawn(), st.sampled_from(list(WEIGHTINGS)), st.sampled_from([*RANKS, "search"]), st.floats(0.55, 1))
def test_every_weighting_and_choice_of_ranks_meets_the_ratio_on_every_family(case, weighting, ranks, ratio):
    model = case.model()
    calibration = calibrated(model, count=3)
    smaller, _ = compress(model, [Factorize(ratio, weighting, ranks)], calibration)
    shapes = {path: layer.weight.shape for path, layer in compressible_layers(model).items()}
    dense = layer_parameters(model)
    assert layer_parameters(smaller) <= ratio * dense
    arrays, modules, layers = named_arrays(model), named_modules(model), named_modules(smaller)
    for path, array in named_arrays(smaller).items():
        if array.ndim == 1 or not path.startswith(tuple(shapes)):
            np.testing.assert_array_equal(array, arrays[path])  # all that is no factor is as it was
    for path, shape in shapes.items():
        layer = layers[path]
        if isinstance(layer, LowRankLinear):
            assert layer.rank * sum(shape) < math.prod(shape)
        else:
            assert layer is modules[path]
    assert all(np.all(np.isfinite(each)) for each in outputs(smaller, calibration))


@given(drawn(), st.sampled_from(list(WEIGHTINGS)), st.sampled_from(["uniform", "energy", "greedy", "search"]))
def test_all_parameters_are_the_identity(case, weighting, ranks):
    model = case.model()
    calibration = calibrated(model, count=2)
    same, _ = compress(model, [Factorize(1.0, weighting, ranks)], calibration)
    assert_outputs(outputs(same, calibration), outputs(model, calibration), rtol=0, atol=0)


def test_uniform_ranks_are_those_of_the_ratio_and_factors_those_of_the_method():
    model = tiny_model()
    calibration = tiny_calibration(model)
    grams = input_grams(model, calibration.sample())
    plain, _ = compress(model, [Factorize(0.5)], calibration)
    whitened, _ = compress(model, [Factorize(0.5, "whitened")], calibration)
    for path, linear in compressible_layers(model).items():
        rank = rank_for_ratio(linear.weight.shape, 0.5)
        np.testing.assert_array_equal(named_modules(plain)[path].left, truncated_svd(linear.weight, rank)[0])
        left, right = whitened_svd(linear.weight, grams[path][0], rank)
        found = named_modules(whitened)[path]
        np.testing.assert_allclose(found.left @ found.right, left @ right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("ranks", ["energy", "greedy"])
def test_shared_budgets_are_used_up_to_less_than_a_component(ranks):
    model = tiny_model()
    smaller, _ = compress(model, [Factorize(0.6, "whitened", ranks)], tiny_calibration(model))
    largest = max(sum(linear.weight.shape) for linear in compressible_layers(model).values())
    most = max(layer.weight.size for layer in compressible_layers(model).values())
    left_over = 0.6 * layer_parameters(model) - layer_parameters(smaller)
    assert 0 <= left_over < (largest if ranks == "energy" else most)


def test_searched_ranks_spare_the_layers_whose_loss_suffers():
    """The chosen ratios are those of one cut: every layer alone is at or under a loss that no smaller ratio meets."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    components = model_components(model, calibration, "whitened")
    losses = losses_alone(model, calibration, components, lambda text: None)
    ranks = searched_ranks(components, 0.6, losses)
    tasks = calibration.sample()[:16]

    def loss(path, rank):
        return np.mean([task_loss(with_ranks(model, components, {path: rank}), task) for task in tasks])

    shapes = {path: linear.weight.shape for path, linear in compressible_layers(model).items()}
    chosen = {p: k for p, k in ranks.items() if k * sum(shapes[p]) < math.prod(shapes[p])}
    assert chosen and len(set(ranks.values())) > 1
    path, by_ratio = next(iter(losses.items()))
    for ratio, value in by_ratio.items():
        assert value == pytest.approx(loss(path, rank_for_ratio(shapes[path], ratio)), abs=1e-6)
    cut = max(loss(path, rank) for path, rank in chosen.items())
    for path, rank in list(ranks.items())[::5]:
        smaller = {rank_for_ratio(shapes[path], tenths / 10) for tenths in range(1, 10)}
        for less in (each for each in smaller if each < rank):
            assert loss(path, less) > cut - 1e-6


def test_unknown_choices_are_refused():
    model = tiny_model()
    for step in (Factorize(0.0), Factorize(1.5), Factorize(0.5, "hessian"), Factorize(0.5, ranks="best")):
        with pytest.raises(ConfigError):
            compress(model, [step], tiny_calibration(model))
    with pytest.raises(ConfigError, match="budget"):
        compress(model, [Factorize(0.01, ranks="greedy")], tiny_calibration(model))
