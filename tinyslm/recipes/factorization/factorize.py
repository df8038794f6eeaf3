"""Low-rank factorization applied to a model: two thin matrices in place of each weight."""

import math
from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.factorization import (
    factorize_linear,
    factorized_parameters,
    greedy_ranks,
    rank_for_energy,
    rank_for_ratio,
    ratios_by_loss,
)
from tinyslm.errors import ConfigError
from tinyslm.recipes.factorization.components import model_components
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.sensitivity import losses_with_one_replaced
from tinyslm.recipes.step import ignore_progress

SEARCHED_RATIOS = tuple(tenths / 10 for tenths in range(1, 10))
SEARCH_DOCUMENTS = 16  # on which every layer is tried at every ratio


@dataclass(frozen=True)
class Factorize:
    """Factorize the linear layers inside the blocks to the fraction `ratio` of their parameters.

    weighting: "none" for the plain SVD, "fisher" to spend the error where the loss feels it least, "activation" where
    inputs are weak (ASVD), "whitened" for the smallest error of the outputs (SVD-LLM).
    ranks: "uniform", the same ratio in every layer; "energy", the same share of the squared singular values; "greedy",
    the components that are worth most per parameter, each layer's error relative to its size; "search", by the losses
    with one layer factorized at a time. All but the first meet the ratio together, not each.
    documents: how many to gather statistics from, by default what the calibration says.
    A layer that two factors would not make smaller stays dense.
    """

    ratio: float
    weighting: str = "none"
    ranks: str = "uniform"
    documents: int | None = None

    def __call__(self, model, calibration=None, progress=ignore_progress):
        if self.ranks not in (*RANKS, "search"):
            raise ConfigError(f"ranks is {self.ranks!r}, expected one of {', '.join(RANKS)}, search")
        require_ratio(self.ratio)
        require_dense(model)
        components = model_components(model, calibration, self.weighting, self.documents)
        if self.ranks == "search":
            losses = losses_alone(model, calibration, components, progress)
            ranks = searched_ranks(components, self.ratio, losses)
        else:
            ranks = RANKS[self.ranks](components, self.ratio)
        return with_ranks(model, components, ranks)


def factorize(linear, components, rank):
    """The layer with the first `rank` components as two factors, or the layer itself where that is not smaller."""
    return factorize_linear(linear, rank, lambda weight, rank: components.first(rank, weight.dtype))


def with_ranks(model, components, ranks):
    """The model with these ranks {path: rank} in place of dense layers, where that is smaller."""
    layers = compressible_layers(model)
    return replace_layers(model, {path: factorize(layers[path], components[path], ranks[path]) for path in ranks})


def layer_shapes(components) -> dict:
    """{path: (out, in)}."""
    return {path: (each.left.shape[0], each.right.shape[1]) for path, each in components.items()}


def parameter_budget(components, ratio) -> int:
    """The parameters that all layers together may have."""
    return math.floor(ratio * sum(math.prod(shape) for shape in layer_shapes(components).values()))


def uniform_ranks(components, ratio) -> dict:
    """{path: rank}, the same ratio in every layer. At a ratio of 1 a layer may be what it was: its full rank, dense."""
    shapes = layer_shapes(components)
    return {path: min(shape) if ratio == 1 else rank_for_ratio(shape, ratio) for path, shape in shapes.items()}


def energy_ranks(components, ratio) -> dict:
    """{path: rank}, the largest common share of energy that the budget allows, found by bisection."""
    shapes, budget = layer_shapes(components), parameter_budget(components, ratio)

    def ranks_at(energy):
        return {path: rank_for_energy(each.singular_values, energy) for path, each in components.items()}

    low, high = 1e-9, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        fits = sum(factorized_parameters(shapes[path], k) for path, k in ranks_at(middle).items()) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return ranks_at(low)


def relative_greedy_ranks(components, ratio) -> dict:
    """{path: rank} by `greedy_ranks`; the error of each layer relative to its size, or large outputs would get all."""
    relative = {}
    for path, each in components.items():
        size = np.linalg.norm(each.singular_values)
        relative[path] = each.singular_values / (size if size > 0 else 1)
    return greedy_ranks(relative, layer_shapes(components), parameter_budget(components, ratio))


def searched_ranks(components, ratio, losses) -> dict:
    """{path: rank} by `ratios_by_loss`, from the losses of `losses_alone`."""
    shapes = layer_shapes(components)
    parameters = {
        path: {each: factorized_parameters(shapes[path], rank_for_ratio(shapes[path], each)) for each in by_ratio}
        | {1.0: math.prod(shapes[path])}
        for path, by_ratio in losses.items()
    }
    chosen = ratios_by_loss(losses, parameters, parameter_budget(components, ratio))
    return {
        path: min(shapes[path]) if each == 1 else rank_for_ratio(shapes[path], each) for path, each in chosen.items()
    }


def losses_alone(model, calibration, components, progress) -> dict:
    """{path: {ratio: loss with only this layer factorized to this ratio}}, on the first calibration documents."""
    tasks, layers = calibration.sample()[:SEARCH_DOCUMENTS], compressible_layers(model)

    def factorized(path, ratio):
        return factorize(layers[path], components[path], rank_for_ratio(layers[path].weight.shape, ratio))

    progress(f"measuring {len(layers) * len(SEARCHED_RATIOS)} losses")
    return losses_with_one_replaced(model, SEARCHED_RATIOS, factorized, tasks)


RANKS = {"uniform": uniform_ranks, "energy": energy_ranks, "greedy": relative_greedy_ranks}
