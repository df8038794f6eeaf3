"""Dividing a budget of parameters among layers: which of them gets which rank. Shapes are (m, n) = (out, in)."""

import math

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_same_shape
from tinyslm.compression.factorization.svd import factorized_parameters
from tinyslm.errors import ConfigError, DataError


def rank_for_energy(singular_values, energy):
    """The smallest rank whose singular values hold this fraction of the sum of all their squares, at least 1.

    singular_values: (r,), descending;  energy: above 0 and up to 1;  returns an integer from 1 to r. The relative
    error, in the norm that the singular values belong to, is then at most sqrt(1 - energy); energy 1 gives the rank of
    the matrix.
    """
    if not 0 < energy <= 1:
        raise ConfigError(f"energy is a fraction above 0 and up to 1, found {energy!r}")
    dropped = squared_errors(singular_values)  # (r + 1,)
    return max(1, int(np.argmax(dropped <= (1 - energy) * dropped[0])))


def squared_errors(singular_values):
    """(r + 1,) the squared error of the ranks 0 .. r: sums of the squares of what is dropped, exactly 0 at the end."""
    s = np.asarray(singular_values, np.float64)
    require_finite("singular values", s)
    if s.ndim != 1 or s.size == 0 or s[-1] < 0 or np.any(np.diff(s) > 0):
        raise DataError("singular values must be one descending row of numbers that are not negative")
    return np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)


def greedy_ranks(singular_values, shapes, budget) -> dict:
    """{layer: rank} that make the sum of the squared errors of all layers small with at most `budget` parameters.

    singular_values: {layer: (r,), descending}, in norms that can be compared between layers;  shapes: {layer: (m, n)};
    budget: parameters of all layers together. Rank k costs k (m + n); where that is mn or more the layer is dense: it
    costs mn, has no error, and its rank here is r. Every layer keeps at least rank 1.

    Components are taken in the order of s_i^2 / (m + n), their gain per parameter, as far as they fit. The last stretch
    of a layer, to the dense matrix, counts as one component from the rank where that has the larger gain per parameter.
    Without such a stretch, and where all layers share m + n, no other ranks have a smaller sum; otherwise the sum is
    above the smallest by less than the largest gain of one step (Dantzig 1957: the fractional knapsack).
    """
    ranks = dict.fromkeys(shapes, 1)
    left = beyond_rank_one(shapes, budget)
    steps = [
        (worth, layer, rank, price)
        for layer, shape in shapes.items()
        for worth, rank, price in _steps(singular_values[layer], shape)
    ]
    closed = set()  # layers whose next step did not fit
    for _, layer, rank, price in sorted(steps, key=lambda step: -step[0]):  # stable: a layer's steps stay in order
        if layer in closed or price > left:
            closed.add(layer)
            continue
        ranks[layer] = rank
        left -= price
    return _filled(ranks, singular_values, shapes, left)


def _filled(ranks, singular_values, shapes, left):
    """The ranks, with single components for what is left of the budget, those of the largest gain first: where the
    stretch to the dense matrix did not fit, a layer has room for more of them."""
    ranks = dict(ranks)
    while True:
        gains = {
            layer: singular_values[layer][ranks[layer]] ** 2 / (m + n)
            for layer, (m, n) in shapes.items()
            if m + n <= left and (ranks[layer] + 1) * (m + n) < m * n
        }
        if not gains:
            return ranks
        layer = max(gains, key=gains.get)
        ranks[layer] += 1
        left -= sum(shapes[layer])


def beyond_rank_one(shapes, budget):
    """What is left of a budget of parameters when every layer has rank 1. Raises ConfigError where that is too much."""
    least = sum(factorized_parameters(shape, 1) for shape in shapes.values())
    if least > budget:
        raise ConfigError(f"rank 1 in every layer takes {least} parameters, which is over the budget of {budget}")
    return budget - least


def _steps(singular_values, shape):
    """[(gain per parameter, rank after it, parameters)] from rank 1 to the dense matrix, gains not increasing."""
    m, n = shape
    errors = squared_errors(singular_values)  # (r + 1,)
    require_same_shape("singular values", errors[1:], (min(m, n),))
    steps, rank = [], 1
    while rank * (m + n) < m * n:
        single = (errors[rank] - errors[rank + 1]) / (m + n)
        stretch = errors[rank] / (m * n - rank * (m + n))
        if stretch >= single or (rank + 1) * (m + n) >= m * n:
            steps.append((stretch, min(m, n), m * n - rank * (m + n)))
            break
        steps.append((single, rank + 1, m + n))
        rank += 1
    return steps


def ratios_by_loss(losses, parameters, budget) -> dict:
    """{layer: ratio} such that all layers together have at most `budget` parameters, found by a cut through losses.

    losses: {layer: {ratio: loss of the model with only this layer factorized to this ratio}};  parameters: {layer:
    {ratio: parameters of the layer}}, both with ratio 1 for the dense layer. At a cut every layer gets its smallest
    ratio whose loss is not above the cut, or stays dense; the result belongs to the lowest cut that meets the budget.
    Raises ConfigError if even the smallest ratios do not.
    Source: Yuan et al. 2023 (ASVD), section 3.4, sensitivity-based truncation rank search; there a binary search, here
    all cuts in turn.
    """
    measured = {loss for by_ratio in losses.values() for loss in by_ratio.values()}
    for cut in [-math.inf, *sorted(measured)]:
        chosen = {
            layer: min((ratio for ratio, loss in by_ratio.items() if loss <= cut), default=1.0)
            for layer, by_ratio in losses.items()
        }
        if sum(parameters[layer][ratio] for layer, ratio in chosen.items()) <= budget:
            return chosen
    raise ConfigError(f"no cut meets a budget of {budget} parameters: give smaller ratios")
