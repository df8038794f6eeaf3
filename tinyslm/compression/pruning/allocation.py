"""Allocation of sparsity to layers: more weights are removed from layers to which the loss is less sensitive.

Step: `PruneBySensitivity` in `tinyslm/recipes/pruning/allocation.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

import math

from tinyslm.compression.argument_checks import checked, fraction
from tinyslm.errors import ConfigError, DataError


@checked(sparsity=fraction)
def allocate_sparsity(losses: dict, sizes: dict, sparsity: float) -> dict:
    """The sparsity of each layer with the smallest sum of losses, such that `sparsity` of all weights is removed.

    Each layer gets one of its own levels; together they can remove more than requested. The sum of losses assumes that
    the layers do not interact, which is rough for large losses.

    The result is exact: a knapsack with one item from each class (Sinha & Zoltners 1979), by dynamic programming. The
    layers are added one by one; of the partial choices only the Pareto-optimal ones (weights removed, loss) are kept.
    Their number stays small if sizes and levels have a common divisor, as in models.

    Parameters
    ----------
    losses : dict
        {layer: {level: loss of the model with only this layer pruned to this sparsity}}.
    sizes : dict
        {layer: number of weights}.
    sparsity : float
        Fraction to remove of all weights together, from 0 to 1.

    Returns
    -------
    dict
        {layer: level}, in the order of `losses`.

    Raises
    ------
    DataError
        If `losses` is empty, a layer has no level, a loss is not finite, or `sizes` has other layers.
    ConfigError
        If the largest levels remove fewer weights than requested, or `sparsity` is not from 0 to 1.

    References
    ----------
    Han et al. 2015, section 5 (sensitivity of layers); Sinha & Zoltners 1979, "The multiple-choice knapsack problem".

    Examples
    --------
    >>> losses = {"robust": {0.0: 0.0, 0.8: 0.1}, "sensitive": {0.0: 0.0, 0.8: 5.0}}
    >>> allocate_sparsity(losses, {"robust": 10, "sensitive": 10}, 0.4)
    {'robust': 0.8, 'sensitive': 0.0}
    """
    if not losses or set(losses) != set(sizes):
        raise DataError("losses and sizes must have the same layers, at least one")
    for layer, by_level in losses.items():
        if not by_level or not all(math.isfinite(loss) for loss in by_level.values()):
            raise DataError(f"losses of {layer} must be finite numbers, at least one, found {by_level}")
    wanted = round(sparsity * sum(sizes.values()), 6)  # weights; rounded, so that equal sums are equal numbers
    best = [(0.0, 0.0, ())]  # (weights removed, sum of losses, levels)
    for layer, by_level in losses.items():
        best = _pareto_optimal(
            (min(round(removed + level * sizes[layer], 6), wanted), total + loss, (*chosen, level))
            for removed, total, chosen in best
            for level, loss in by_level.items()
        )
    removed, _, chosen = best[0]
    if removed < wanted:
        raise ConfigError(f"the largest sparsities remove {removed:.0f} weights together, fewer than {wanted:.0f}")
    return dict(zip(losses, chosen, strict=True))


def _pareto_optimal(choices):
    """The Pareto-optimal choices (weights removed, loss, ...), in descending order of the weights removed.

    A choice is dropped if another choice removes at least the same number of weights with at most the same loss.
    """
    kept = []
    for choice in sorted(choices, key=lambda choice: (-choice[0], choice[1])):
        if not kept or choice[1] < kept[-1][1]:
            kept.append(choice)
    return kept
