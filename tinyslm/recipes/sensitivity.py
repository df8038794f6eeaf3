"""Sensitivity of the loss to single layers: the loss with one layer compressed at a time.

Steps: `PruneBySensitivity` (`pruning/allocation.py`) and `Factorize` (`factorization/factorize.py`).
"""

import numpy as np

from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers
from tinyslm.recipes.tasks import task_loss


def single_layer_losses(model, compressed, tasks) -> dict:
    """{path: {level: loss}}: mean loss of the model with only the layer at `path` taken from a compressed model.

    compressed: {level: model}, each the model after a step that replaces its linear layers, such as pruning,
    quantization or factorization. A layer that the step does not change has the loss of the model itself.
    tasks: documents for the loss. Cost: one loss per layer and level, so use few documents.
    """
    layers = {level: compressible_layers(each) for level, each in compressed.items()}
    return losses_with_one_replaced(model, compressed, lambda path, level: layers[level][path], tasks)


def losses_with_one_replaced(model, levels, replacement, tasks) -> dict:
    """{path: {level: loss}} with `replacement(path, level)` in place of one compressible layer at a time."""
    candidates = [(path, level) for path in compressible_layers(model) for level in levels]

    def loss_with(candidate):
        changed = replace_layers(model, {candidate[0]: replacement(*candidate)})
        return float(np.mean([task_loss(changed, task) for task in tasks]))

    losses = {}
    for (path, level), loss in zip(candidates, map_in_threads(loss_with, candidates), strict=True):
        losses.setdefault(path, {})[level] = loss
    return losses
