"""Magnitude or Wanda pruning with one sparsity per layer, chosen from the sensitivity of the loss.

Mathematics: `tinyslm/compression/pruning/allocation.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.argument_checks import require_choice, require_count
from tinyslm.compression.pruning import allocate_sparsity
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.pruning.magnitude import PruneMagnitude
from tinyslm.recipes.pruning.wanda import PruneWanda
from tinyslm.recipes.sensitivity import single_layer_losses
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module

METHODS = {"magnitude": PruneMagnitude, "wanda": PruneWanda}


@dataclass(frozen=True)
class PruneBySensitivity:
    """Remove a fraction of all weights in the blocks, more from layers to which the loss is less sensitive.

    Each layer alone is pruned to each of the `levels`, and the loss is measured. Then each layer gets one level, such
    that the sum of the losses is smallest (`allocate_sparsity`).

    Parameters
    ----------
    sparsity : float
        Fraction removed of all weights together, from 0 to 1 and at most the largest level.
    method : str
        How weights of a layer are chosen: "magnitude" (default) or "wanda".
    levels : tuple of float
        Sparsities to try, default (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9).
    documents : int
        Number of calibration documents for the losses, default 16.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, if a layer is already compressed, or if the largest level does not remove
        enough.

    References
    ----------
    Han et al. 2015, section 5 (sensitivity scan); here the sparsities of the layers are chosen by dynamic programming.

    Examples
    --------
    >>> PruneBySensitivity(sparsity=0.5, levels=(0.0, 0.4, 0.8))
    PruneBySensitivity(sparsity=0.5, method='magnitude', levels=(0.0, 0.4, 0.8), documents=16)
    """

    sparsity: float
    method: str = "magnitude"
    levels: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    documents: int = 16

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_choice("method", self.method, METHODS)
        require_count("documents", self.documents)
        require_dense(model)
        compressed = {level: METHODS[self.method](level)(model, calibration) for level in self.levels}
        progress(f"measuring {len(compressed)} levels of every layer")
        losses = single_layer_losses(model, compressed, calibration.sample()[: self.documents])
        sizes = {path: layer.weight.size for path, layer in compressible_layers(model).items()}
        chosen = allocate_sparsity(losses, sizes, self.sparsity)
        return replace_layers(model, {path: compressible_layers(compressed[s])[path] for path, s in chosen.items()})
