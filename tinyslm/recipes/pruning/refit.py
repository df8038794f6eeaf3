"""Least-squares refit of the weights that a mask keeps.

Mathematics: `tinyslm/compression/pruning/refit.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.pruning import MaskedLinear, least_squares_refit
from tinyslm.errors import ConfigError
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.block_by_block import grams_by_block
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, named_modules


@dataclass(frozen=True)
class RefitWeights:
    """Replace the kept weights of each masked layer by the least-squares fit to the teacher's layer.

    With the teacher's inputs on the calibration documents, the outputs of each layer come as close to the teacher's
    outputs as the mask permits. For a model that was pruned from the teacher and not trained since: the weights of the
    masked layers are computed from the teacher alone.

    Raises
    ------
    ConfigError
        When applied: if the model has no masks, or a masked layer has no counterpart of the same shape in the teacher.

    References
    ----------
    Frantar & Alistarh 2023, "SparseGPT" (arXiv 2301.00774), section 3.1: the exact solution that SparseGPT
    approximates.

    Examples
    --------
    >>> RefitWeights()
    RefitWeights()
    """

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        masked = named_modules(model, MaskedLinear)
        if not masked:
            raise ConfigError("there are no masks: put a step that prunes weights before RefitWeights")
        teacher = compressible_layers(calibration.teacher)
        for path, layer in masked.items():
            if path not in teacher or teacher[path].dense_weight().shape != layer.weight.shape:
                raise ConfigError(f"{path} has no counterpart of the same shape in the teacher")
        layers = {}
        for grams in grams_by_block(calibration.teacher, calibration.sample(), masked):

            def refit(path, grams=grams):
                progress(f"RefitWeights, {path}")
                weight = least_squares_refit(teacher[path].dense_weight(), grams[path], masked[path].mask)
                return masked[path].replace(weight=weight)

            layers |= zip(grams, map_in_threads(refit, grams), strict=True)
        return replace_layers(model, layers)
