"""Components of all linear layers of a model, in the norm of a method, and layers with only some of them."""

import math
from dataclasses import replace

import numpy as np

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.factorization import LowRankLinear
from tinyslm.recipes.factorization.asvd import model_activation_weighted_components
from tinyslm.recipes.factorization.fwsvd import model_fisher_weighted_components
from tinyslm.recipes.factorization.svd import model_svd_components
from tinyslm.recipes.factorization.svd_llm import model_whitened_components
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers

WEIGHTINGS = {
    "none": model_svd_components,
    "fisher": model_fisher_weighted_components,
    "activation": model_activation_weighted_components,
    "whitened": model_whitened_components,
}


def model_components(model, calibration, weighting, documents=None) -> dict:
    """{path of a linear layer in the blocks: its `Components` in the norm of a weighting}.

    documents: number of calibration documents for statistics, by default the calibration's `statistics_documents`.
    Raises ConfigError for an unknown weighting.
    """
    require_choice("weighting", weighting, WEIGHTINGS)
    if documents is not None:
        calibration = replace(calibration, statistics_documents=documents)
    return WEIGHTINGS[weighting](model, calibration)


def layer_shapes(components) -> dict:
    """{path: (out, in)}."""
    return {path: (each.left.shape[0], each.right.shape[1]) for path, each in components.items()}


def parameter_budget(components, ratio) -> int:
    """Number of parameters that all layers together may have."""
    return math.floor(ratio * sum(math.prod(shape) for shape in layer_shapes(components).values()))


def keep_components(linear, components, mask):
    """The layer as a `LowRankLinear` of the components in the mask (r,), or itself if two factors are not smaller."""
    weight = linear.weight
    if np.count_nonzero(mask) * sum(weight.shape) >= weight.size:
        return linear
    return LowRankLinear(*components.keep(mask, weight.dtype), linear.bias)


def with_masks(model, components, masks):
    """The model with the components in the masks {path: (r,)} in place of dense layers, where that is smaller."""
    layers = compressible_layers(model)
    return replace_layers(model, {path: keep_components(layers[path], components[path], masks[path]) for path in masks})


def with_ranks(model, components, ranks):
    """The model with the first components of each layer, {path: rank}, in place of dense layers, where smaller."""
    masks = {path: np.arange(len(components[path].singular_values)) < rank for path, rank in ranks.items()}
    return with_masks(model, components, masks)
