"""Rank allocation in a model: the ranks of all linear layers at a fraction of their parameters.

Mathematics: `tinyslm/compression/factorization/rank_allocation.py`. Lesson: `lessons/10_low_rank.py`.
"""

import numpy as np

from tinyslm.compression.factorization import (
    factorized_parameters,
    greedy_ranks,
    rank_for_energy,
    rank_for_ratio,
    ratios_by_loss,
)
from tinyslm.recipes.factorization.components import keep_components, layer_shapes, parameter_budget
from tinyslm.recipes.linear_layers import compressible_layers
from tinyslm.recipes.sensitivity import losses_with_one_replaced

SEARCHED_RATIOS = tuple(tenths / 10 for tenths in range(1, 10))
SEARCH_DOCUMENTS = 16  # for the loss of every layer at every ratio
ENERGY_BISECTIONS = 50


def uniform_ranks(components, ratio) -> dict:
    """{path: rank}, the same ratio in every layer. At ratio 1 every layer has full rank and stays dense."""
    return {path: _rank_at(shape, ratio) for path, shape in layer_shapes(components).items()}


def _rank_at(shape, ratio):
    return min(shape) if ratio == 1 else rank_for_ratio(shape, ratio)


def energy_ranks(components, ratio) -> dict:
    """{path: rank}, the largest common fraction of energy within the budget, by bisection."""
    shapes, budget = layer_shapes(components), parameter_budget(components, ratio)

    def ranks_at(energy):
        return {path: rank_for_energy(each.singular_values, energy) for path, each in components.items()}

    low, high = 1e-9, 1.0
    for _ in range(ENERGY_BISECTIONS):
        middle = (low + high) / 2
        fits = sum(factorized_parameters(shapes[path], k) for path, k in ranks_at(middle).items()) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return ranks_at(low)


def relative_greedy_ranks(components, ratio) -> dict:
    """{path: rank} by `greedy_ranks`, with the error of each layer relative to the norm of the layer.

    With absolute errors, layers with large outputs would get most of the budget.
    """
    relative = {}
    for path, each in components.items():
        size = np.linalg.norm(each.singular_values)
        relative[path] = each.singular_values / (size if size > 0 else 1)
    return greedy_ranks(relative, layer_shapes(components), parameter_budget(components, ratio))


def searched_ranks(components, ratio, losses) -> dict:
    """{path: rank} by `ratios_by_loss`. losses: of `losses_alone`."""
    shapes = layer_shapes(components)
    parameters = {
        path: {each: factorized_parameters(shapes[path], _rank_at(shapes[path], each)) for each in (*by_ratio, 1.0)}
        for path, by_ratio in losses.items()
    }
    chosen = ratios_by_loss(losses, parameters, parameter_budget(components, ratio))
    return {path: _rank_at(shapes[path], each) for path, each in chosen.items()}


def losses_alone(model, calibration, components, progress) -> dict:
    """{path: {ratio: loss of the model with only this layer factorized}}, on the first calibration documents."""
    tasks, layers = calibration.sample()[:SEARCH_DOCUMENTS], compressible_layers(model)

    def factorized(path, ratio):
        r = len(components[path].singular_values)
        mask = np.arange(r) < rank_for_ratio(layers[path].weight.shape, ratio)
        return keep_components(layers[path], components[path], mask)

    progress(f"measuring {len(layers) * len(SEARCHED_RATIOS)} losses")
    return losses_with_one_replaced(model, SEARCHED_RATIOS, factorized, tasks)


RANKS = {"uniform": uniform_ranks, "energy": energy_ranks, "greedy": relative_greedy_ranks}
