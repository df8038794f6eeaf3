"""Dividing a sparsity among layers: those that the loss hardly feels lose more."""

from tinyslm.compression.pruning.magnitude import require_sparsity
from tinyslm.errors import ConfigError, DataError


def allocate_sparsity(losses, sizes, sparsity) -> dict:
    """{layer: sparsity} with the smallest sum of losses among those that remove `sparsity` of all weights together.

    losses: {layer: {sparsity: loss of the model with only this layer pruned to it}};  sizes: {layer: weights};  each
    layer gets one of its own sparsities, and they may remove more than is asked. That losses of layers add up is an
    assumption, rough for large ones.

    The result is exact. Going through the layers, of all choices so far those are kept that no other one equals both in
    weights removed and in loss: a knapsack with one item from each class (Sinha & Zoltners 1979). Few are left where
    sizes and sparsities have a common measure, as those of models have.
    Raises ConfigError if even the largest sparsities do not remove enough.
    """
    require_sparsity(sparsity)
    if not losses or set(losses) != set(sizes):
        raise DataError("losses and sizes must be of the same layers, of at least one")
    wanted = round(sparsity * sum(sizes.values()), 6)  # weights; rounded, so that equal sums are equal numbers
    best = [(0.0, 0.0, ())]  # (weights removed, sum of losses, sparsities)
    for layer, by_sparsity in losses.items():
        best = _undominated(
            (min(round(removed + each * sizes[layer], 6), wanted), total + loss, (*chosen, each))
            for removed, total, chosen in best
            for each, loss in by_sparsity.items()
        )
    removed, _, chosen = best[0]
    if removed < wanted:
        raise ConfigError(f"the largest sparsities remove {removed:.0f} weights together, fewer than {wanted:.0f}")
    return dict(zip(losses, chosen, strict=True))


def _undominated(choices):
    """Those choices than which no other removes as much at a loss as small; the one that removes most comes first."""
    kept = []
    for choice in sorted(choices, key=lambda choice: (-choice[0], choice[1])):
        if not kept or choice[1] < kept[-1][1]:
            kept.append(choice)
    return kept
