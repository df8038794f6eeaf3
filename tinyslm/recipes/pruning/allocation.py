"""Magnitude or Wanda pruning with one sparsity per layer, chosen from the sensitivity of the loss.

Mathematics: `tinyslm/compression/pruning/allocation.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.pruning import allocate_sparsity
from tinyslm.errors import ConfigError
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.pruning.magnitude import PruneMagnitude
from tinyslm.recipes.pruning.wanda import PruneWanda
from tinyslm.recipes.sensitivity import single_layer_losses
from tinyslm.recipes.step import ignore_progress

METHODS = {"magnitude": PruneMagnitude, "wanda": PruneWanda}


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

    def __call__(self, model, calibration=None, progress=ignore_progress):
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
        return replace_layers(model, {path: compressible_layers(compressed[s])[path] for path, s in chosen.items()})
