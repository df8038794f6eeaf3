"""Which layers can lose how much: the loss with one layer compressed at a time, and a sparsity for each from that."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import allocate_sparsity
from tinyslm.errors import ConfigError
from tinyslm.modules import LinearLayer
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.calibration import require_dense
from tinyslm.recipes.prune_weights import PruneMagnitude, PruneWanda, compressible_layers
from tinyslm.recipes.tasks import task_loss
from tinyslm.tree import map_modules

METHODS = {"magnitude": PruneMagnitude, "wanda": PruneWanda}


def single_layer_losses(model, compressed, tasks) -> dict:
    """{path: {level: loss}}: mean loss of the model with only the layer at `path` taken from a compressed one.

    compressed: {level: model}, each of them the model after a step that replaces linear layers at their places, such as
    pruning, quantizing or factorizing. A layer that a step left as it was has the loss of the model.
    tasks: documents to measure on. There are as many losses as layers times levels: few documents are enough.
    """
    layers = {level: compressible_layers(each) for level, each in compressed.items()}
    tried = [(path, level) for path in compressible_layers(model) for level in compressed]

    def loss_with(candidate):
        path, level = candidate
        changed = with_layers(model, {path: layers[level][path]})
        return float(np.mean([task_loss(changed, task) for task in tasks]))

    losses = {}
    for (path, level), loss in zip(tried, map_in_threads(loss_with, tried), strict=True):
        losses.setdefault(path, {})[level] = loss
    return losses


def with_layers(model, layers):
    """The model with these layers {path: layer} in place of its own."""
    return map_modules(lambda path, layer: layers.get(path, layer), model, LinearLayer)


@dataclass(frozen=True)
class PruneBySensitivity:
    """Remove the fraction `sparsity` of all weights in the blocks, more where the loss feels it less.

    Every layer is pruned alone to each of the `levels`, and the loss measured on the first `documents` calibration
    documents; then each gets the level that makes the sum of their losses smallest. method: "magnitude" or "wanda", how
    the weights of a layer are chosen.
    Source: the sensitivity scan of Han et al. 2015, section 5, with the layers' sparsities chosen by a program.
    """

    sparsity: float
    method: str = "magnitude"
    levels: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    documents: int = 16

    def __call__(self, model, calibration, progress=lambda text: None):
        if self.method not in METHODS:
            raise ConfigError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if not (isinstance(self.documents, int) and self.documents >= 1):
            raise ConfigError(f"documents is {self.documents!r}, expected an integer of at least 1")
        require_dense(model)
        compressed = {level: METHODS[self.method](level)(model, calibration) for level in self.levels}
        progress(f"measuring {len(compressed)} levels of every layer")
        losses = single_layer_losses(model, compressed, calibration.sample()[: self.documents])
        sizes = {path: layer.weight.size for path, layer in compressible_layers(model).items()}
        chosen = allocate_sparsity(losses, sizes, self.sparsity)
        return with_layers(model, {path: compressible_layers(compressed[s])[path] for path, s in chosen.items()})
