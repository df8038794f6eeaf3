"""Rank allocation: dividing a budget of parameters among layers. Shapes are (m, n) = (out, in).

On models: `tinyslm/recipes/factorization/rank_allocation.py`. Lesson: `lessons/10_low_rank.py`.
"""

import math

import numpy as np

from tinyslm.compression.argument_checks import array, checked, real, require_finite, require_same_shape
from tinyslm.compression.factorization.svd import factorized_parameters
from tinyslm.errors import ConfigError, DataError


@checked(singular_values=array("r"))
def rank_for_energy(singular_values: np.ndarray, energy: float) -> int:
    """Smallest rank whose squared singular values have this fraction of the sum of all squares, at least 1.

    The relative error, in the norm of the singular values, is then at most sqrt(1 - energy).

    Parameters
    ----------
    singular_values : ndarray, shape (r,)
        Descending.
    energy : float
        Fraction of the squares, above 0 and up to 1. 1 gives the rank of the matrix.

    Returns
    -------
    int
        From 1 to r.

    Raises
    ------
    ConfigError
        If energy is out of range.
    DataError
        If the singular values are not descending, finite and at least 0.

    Examples
    --------
    >>> rank_for_energy(np.array([4.0, 3.0, 0.0]), 0.6)
    1
    """
    if not 0 < energy <= 1:
        raise ConfigError(f"energy is a fraction above 0 and up to 1, found {energy!r}")
    dropped = squared_errors(singular_values)  # (r + 1,)
    return max(1, int(np.argmax(dropped <= (1 - energy) * dropped[0])))


def squared_errors(singular_values):
    """Squared error of each rank from 0 to r: (r + 1,) sums of the squares of the dropped values, exactly 0 at r."""
    s = singular_values.astype(np.float64)
    if s.size == 0 or s[-1] < 0 or np.any(np.diff(s) > 0):
        raise DataError("singular values must be at least one descending number, none of them negative")
    return np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)


def greedy_ranks(singular_values: dict, shapes: dict, budget: float) -> dict[str, int]:
    """Ranks with a small sum of squared errors over all layers and at most `budget` parameters.

    Rank k needs k (m + n) parameters. For k (m + n) >= mn the layer stays dense: it has mn parameters, rank r and no
    error. Every layer has at least rank 1.
    Components are taken by descending s_i^2 / (m + n), the gain per parameter, until the budget is used up. The step
    from some rank to the dense layer counts as one component, at the rank where its gain per parameter is the larger
    one. The sum of squared errors is minimal if there is no such step and all layers have the same m + n. Otherwise
    it exceeds the minimum by less than the largest gain of one step.

    Parameters
    ----------
    singular_values : dict of {layer: ndarray (r,)}
        Descending, in norms that are comparable between layers.
    shapes : dict of {layer: (m, n)}
    budget : float
        Parameters of all layers together.

    Returns
    -------
    dict of {layer: int}

    Raises
    ------
    ConfigError
        If rank 1 in every layer exceeds the budget.
    DataError
        If singular values are invalid, overflow when squared, or do not match the shapes.

    References
    ----------
    Dantzig 1957: the fractional knapsack problem.

    Examples
    --------
    >>> spectra = {"query": np.array([9.0, 1.0, 1.0, 1.0]), "key": np.array([5.0, 4.0, 3.0, 0.0])}
    >>> greedy_ranks(spectra, {"query": (4, 4), "key": (4, 4)}, 24)
    {'query': 1, 'key': 4}
    """
    if set(singular_values) != set(shapes):
        raise DataError("singular_values and shapes must have the same layers")
    singular_values = {layer: real(f"singular values of {layer}", each) for layer, each in singular_values.items()}
    ranks = dict.fromkeys(shapes, 1)
    left = beyond_rank_one(shapes, budget)
    steps = [
        (gain, layer, rank, cost)
        for layer, shape in shapes.items()
        for gain, rank, cost in _steps(singular_values[layer], shape)
    ]
    closed = set()  # layers whose next step exceeded the budget
    for _, layer, rank, cost in sorted(steps, key=lambda step: -step[0]):  # stable: each layer in order
        if layer in closed or cost > left:
            closed.add(layer)
            continue
        ranks[layer] = rank
        left -= cost
    return _filled(ranks, singular_values, shapes, left)


def _filled(ranks, singular_values, shapes, left):
    """The ranks with further single components, in descending order of their gain per parameter, within the budget.

    Part of the budget is unused after the greedy loop if a step to a dense layer exceeded the budget.
    """
    ranks = dict(ranks)
    while True:
        gains = {
            layer: float(singular_values[layer][ranks[layer]]) ** 2 / (m + n)
            for layer, (m, n) in shapes.items()
            if m + n <= left and (ranks[layer] + 1) * (m + n) < m * n
        }
        if not gains:
            return ranks
        layer = max(gains, key=gains.get)
        ranks[layer] += 1
        left -= sum(shapes[layer])


def beyond_rank_one(shapes: dict, budget: float) -> float:
    """Rest of a budget of parameters after rank 1 in every layer.

    Parameters
    ----------
    shapes : dict of {layer: (m, n)}
    budget : float
        Parameters of all layers together.

    Returns
    -------
    float

    Raises
    ------
    ConfigError
        If rank 1 in every layer exceeds the budget.

    Examples
    --------
    >>> beyond_rank_one({"query": (4, 4), "key": (2, 4)}, 20)
    6
    """
    least = sum(factorized_parameters(shape, 1) for shape in shapes.values())
    if not least <= budget:
        raise ConfigError(f"rank 1 in every layer needs {least} parameters, more than the budget of {budget}")
    return budget - least


def _steps(singular_values, shape):
    """[(gain per parameter, rank after it, parameters)] from rank 1 to the dense matrix, by non-increasing gain."""
    m, n = shape
    errors = squared_errors(singular_values)  # (r + 1,)
    require_finite("squared singular values", errors)
    require_same_shape("singular values", errors[1:], (min(m, n),))
    steps, rank = [], 1
    while rank * (m + n) < m * n:
        single = (errors[rank] - errors[rank + 1]) / (m + n)
        to_dense = errors[rank] / (m * n - rank * (m + n))
        if to_dense >= single or (rank + 1) * (m + n) >= m * n:
            steps.append((to_dense, min(m, n), m * n - rank * (m + n)))
            break
        steps.append((single, rank + 1, m + n))
        rank += 1
    return steps


def ratios_by_loss(losses: dict, parameters: dict, budget: float) -> dict[str, float]:
    """Ratios of all layers that meet a budget, chosen by the loss of the model with one layer factorized at a time.

    For a loss threshold, every layer gets its smallest ratio whose loss is at most the threshold, or stays dense. The
    result belongs to the lowest threshold that meets the budget.

    Parameters
    ----------
    losses : dict of {layer: {ratio: loss}}
        Loss of the model with only this layer factorized to this ratio; ratio 1 is the dense layer.
    parameters : dict of {layer: {ratio: int}}
        Parameters of the layer at each ratio, 1 included.
    budget : float
        Parameters of all layers together.

    Returns
    -------
    dict of {layer: float}

    Raises
    ------
    ConfigError
        If no threshold meets the budget.
    DataError
        If the layers differ, or a loss is not finite.

    References
    ----------
    Yuan et al. 2023 (ASVD, arXiv 2312.05821), section 3.4, sensitivity-based truncation rank search. The paper uses a
    binary search; this function tries every measured loss as the threshold.

    Examples
    --------
    >>> losses = {"query": {0.5: 2.1, 1.0: 2.0}, "down": {0.5: 2.9, 1.0: 2.0}}
    >>> ratios_by_loss(losses, {"query": {0.5: 8, 1.0: 16}, "down": {0.5: 8, 1.0: 16}}, 24)
    {'query': 0.5, 'down': 1.0}
    """
    if set(losses) != set(parameters):
        raise DataError("losses and parameters must have the same layers")
    measured = {loss for by_ratio in losses.values() for loss in by_ratio.values()}
    if not all(map(math.isfinite, measured)):
        raise DataError("losses must be finite, found nan or infinity")
    for threshold in [-math.inf, *sorted(measured)]:
        chosen = {
            layer: min((ratio for ratio, loss in by_ratio.items() if loss <= threshold), default=1.0)
            for layer, by_ratio in losses.items()
        }
        if sum(parameters[layer][ratio] for layer, ratio in chosen.items()) <= budget:
            return chosen
    raise ConfigError(f"no loss threshold meets a budget of {budget} parameters: give smaller ratios")
