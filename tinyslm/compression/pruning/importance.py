"""How much a unit matters, whatever it is: neuron, head, channel, layer.

A unit is a group of numbers that go together. `weights` is a list of its coupled arrays (n, ...), units along the first
axis: of neurons up, gate and the transpose of down. Every function returns (n,), larger is more important.
"""

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_integer, require_same_shape
from tinyslm.errors import ConfigError, DataError

TAYLOR = ("taylor_vector", "taylor_element", "taylor_second")


def magnitude_importance(weights):
    """The L2 norm of all numbers of a unit. Source: Li et al. 2017, section 3.1, over the coupled group as in Fang et
    al. 2023 (DepGraph). It changes with rescaling that the model does not feel."""
    return np.sqrt(sum(_per_unit(np.square(weight)) for weight in _coupled(weights)))  # (n,)


def taylor_importance(weights, gradients, fishers=None, *, method="taylor_vector"):
    """How much the loss changes without a unit, by its Taylor series at the weights w with gradient g:

    "taylor_vector": |sum g w|, first order: exact where the loss is linear in the unit.
    "taylor_element": sum |g w|, which lets nothing cancel: never below the former.
    "taylor_second": |sum(1/2 F w^2 - g w)|, with the diagonal F of the Fisher information in place of the Hessian.
    gradients, fishers: lists of arrays like weights: mean gradients, and mean squared gradients, on calibration text.
    Source: Ma, Fang & Wang 2023 (LLM-Pruner, arXiv 2305.11627), section 3.2.
    """
    if method not in TAYLOR:
        raise ConfigError(f"method must be one of {', '.join(TAYLOR)}, found {method!r}")
    first = [weight * gradient for weight, gradient in _paired("gradients", weights, gradients)]
    if method == "taylor_element":
        return sum(_per_unit(np.abs(products)) for products in first)  # (n,)
    change = -sum(_per_unit(products) for products in first)  # (n,)
    if method == "taylor_second":
        if fishers is None:
            raise ConfigError('method "taylor_second" needs fishers: the mean squared gradients, like weights')
        change += (
            sum(_per_unit(np.square(weight) * fisher) for weight, fisher in _paired("fishers", weights, fishers)) / 2
        )
    return np.abs(change)


def random_importance(count, seed):
    """Numbers that say nothing, the control for all others: (count,), the same for the same seed."""
    require_integer("count of units", count, 1, 2**31)
    return np.random.default_rng(seed).random(count)


def minitron_square(activations):
    """(mean over tokens of |a|)^2 of one document: (T, n) -> (n,); 0 for no tokens. Squares of documents add up."""
    if len(activations) == 0:
        return np.zeros(activations.shape[1])
    return np.square(np.mean(np.abs(activations), axis=0, dtype=np.float64))


def minitron_importance(documents):
    """sqrt(sum over documents of (mean over their tokens of |a|)^2): (n,), of a list of activations (T, n).

    a: what enters down for neurons, the norm of a head's output for heads, what a norm gives out for channels.
    Mean over the sequence, then L2 over the batch, in this order: other aggregations rank differently.
    Source: Muralidharan et al. 2024 (Minitron, arXiv 2407.14679); the aggregation as in NVIDIA Model Optimizer.
    """
    if not documents:
        raise DataError("importance needs the activations of at least one document")
    return np.sqrt(sum(minitron_square(activations) for activations in documents))


def _per_unit(array):
    return np.sum(array.reshape(len(array), -1), axis=1)  # (n,)


def _coupled(weights):
    weights = [np.asarray(weight) for weight in weights]
    if not weights or len({len(weight) for weight in weights}) > 1:
        raise DataError(f"coupled arrays must have as many units each, found {[weight.shape for weight in weights]}")
    for weight in weights:
        require_finite("weights", weight)
    return weights


def _paired(name, weights, others):
    weights = _coupled(weights)
    if len(weights) != len(others):
        raise DataError(f"{name} must be as many arrays as weights, {len(weights)}, found {len(others)}")
    for weight, other in zip(weights, others, strict=True):
        require_same_shape(name, other, weight.shape)
        require_finite(name, other)
    return list(zip(weights, others, strict=True))
