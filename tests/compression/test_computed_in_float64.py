"""Functions that compute in float64: float32 arguments give what the same numbers in float64 give, rounded once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import generators
from tinyslm.compression.error_compensation import damped_hessian
from tinyslm.compression.factorization import (
    activation_weighted_components,
    activation_weighted_svd,
    fisher_weighted_components,
    fisher_weighted_svd,
    greedy_ranks,
    rank_for_energy,
    svd_components,
    truncated_svd,
    weighted_components,
    weighted_svd,
    whitened_components,
    whitened_svd,
)
from tinyslm.compression.pruning import (
    expert_importance,
    head_importance,
    layer_importance,
    least_squares_refit,
    magnitude_importance,
    minitron_importance,
    neuron_importance,
    obs_step,
    refit_down,
    taylor_importance,
)

OUT, IN = 6, 8


@dataclass
class Case:
    """A call; `narrow` tells whether the results have the dtype of the arguments, otherwise they are float64."""

    function: Any
    arguments: tuple
    settings: dict
    narrow: bool


def cases(rng):
    """One call of every function, with float32 arrays; {name: Case}."""

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    weight, inputs = draw(OUT, IN), draw(30, IN) + 1
    gram, magnitudes = inputs.T @ inputs, np.mean(np.abs(inputs), axis=0)
    inverse = np.linalg.inv(gram)
    mask, keep = draw(OUT, IN) > 0, np.array([0, 2, 3, 7])
    units, gradients = [draw(5, 3), draw(5, 2, 4)], [draw(5, 3), draw(5, 2, 4)]
    squares = [np.square(each) for each in gradients]
    up, gate = draw(IN, 4), draw(IN, 4)
    documents = [draw(3, IN), draw(4, IN)]
    rows = [
        ("obs", obs_step, (weight[0], inverse, 2), {}, True),
        ("refit", least_squares_refit, (weight, gram, mask), {}, True),
        ("refit down", refit_down, (weight, gram, keep), {}, True),
        ("hessian", damped_hessian, (gram,), {}, False),
        ("magnitude", magnitude_importance, (units,), {}, True),
        ("vector", taylor_importance, (units, gradients), {}, True),
        ("element", taylor_importance, (units, gradients), {"method": "taylor_element"}, True),
        ("second", taylor_importance, (units, gradients, squares), {"method": "taylor_second"}, True),
        ("minitron", minitron_importance, (documents,), {}, False),
        ("layers", layer_importance, ([*documents[:1], draw(3, IN)],), {}, False),
        ("neurons", neuron_importance, (up, weight, gate), {}, True),
        (
            "activation",
            neuron_importance,
            (up, weight),
            {"method": "activation", "mean_activation": magnitudes},
            True,
        ),
        ("heads", head_importance, (up, weight), {"head_dim": 2}, True),
        (
            "heads minitron",
            head_importance,
            (up, weight),
            {"head_dim": 2, "method": "minitron", "mixed": documents},
            False,
        ),
        ("experts", expert_importance, ([units, gradients],), {"method": "magnitude"}, True),
        ("svd", svd_components, (weight,), {}, False),
        ("weighted", weighted_components, (weight, magnitudes, np.abs(weight[:, 0])), {}, False),
        ("weighted inputs", weighted_components, (weight, magnitudes), {}, False),
        ("fisher", fisher_weighted_components, (weight, np.square(weight)), {}, False),
        ("activations", activation_weighted_components, (weight, magnitudes), {"alpha": 0.7}, False),
        ("whitened", whitened_components, (weight, gram), {}, False),
        ("truncated svd", truncated_svd, (weight, 3), {}, True),
        ("truncated weighted", weighted_svd, (weight, magnitudes, np.abs(weight[:, 0]), 3), {}, True),
        ("truncated fisher", fisher_weighted_svd, (weight, np.square(weight), 3), {}, True),
        ("truncated activations", activation_weighted_svd, (weight, magnitudes, 3), {}, True),
        ("truncated whitened", whitened_svd, (weight, gram, 3), {}, True),
    ]
    return {name: Case(*row) for name, *row in rows}


def widened(value):
    """The value with its float32 arrays in float64, in lists, tuples and dictionaries too."""
    if isinstance(value, dict):
        return {name: widened(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [widened(each) for each in value]
    return value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value


def flat(value):
    """The arrays and numbers of a value, in order."""
    return [each for part in value for each in flat(part)] if isinstance(value, list | tuple) else [np.asarray(value)]


@pytest.mark.parametrize("name", cases(np.random.default_rng(0)))
@given(rng=generators())
def test_float32_arguments_are_computed_in_float64(name, rng):
    case = cases(rng)[name]
    found = flat(case.function(*case.arguments, **case.settings))
    arguments, settings = widened(case.arguments), widened(case.settings)
    for one, other in zip(found, flat(case.function(*arguments, **settings)), strict=True):
        assert other.dtype in (np.float64, bool)
        assert one.dtype == (np.float32 if case.narrow else other.dtype)
        np.testing.assert_array_equal(one, other.astype(one.dtype))


@given(generators())
def test_ranks_are_computed_in_float64(rng):
    """Squares of small float32 numbers would be 0 in float32, and so would their share of the energy."""
    s = np.sort(rng.random(4).astype(np.float32) + 1)[::-1]
    tiny = s * np.float32(1e-30)
    assert rank_for_energy(tiny, 0.6) == rank_for_energy(tiny.astype(np.float64) * 1e30, 0.6)
    shapes = {"a": (9, 4), "b": (4, 8)}
    spectra = {"a": tiny, "b": np.sort(rng.random(4).astype(np.float32))[::-1] * np.float32(2e-30)}
    wide = {layer: each.astype(np.float64) * 1e30 for layer, each in spectra.items()}
    for budget in range(25, 69):
        assert greedy_ranks(spectra, shapes, budget) == greedy_ranks(wide, shapes, budget)
