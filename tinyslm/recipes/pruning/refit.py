"""Least-squares refit of the weights that a mask keeps.

Mathematics: `tinyslm/compression/pruning/refit.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.pruning import MaskedLinear, least_squares_refit
from tinyslm.errors import ConfigError
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import compressible_layers
from tinyslm.recipes.statistics import input_grams
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class RefitWeights:
    """Choose the weights that masks have kept anew, so that every layer computes what the teacher's does on the
    teacher's inputs, as far as those weights can: least squares. For a model pruned from the teacher, not yet trained.
    """

    def __call__(self, model, calibration=None, progress=ignore_progress):
        masked = named_modules(model, MaskedLinear)
        if not masked:
            raise ConfigError("there are no masks: put a step that prunes weights before RefitWeights")
        teacher = compressible_layers(calibration.teacher)
        for path, layer in masked.items():
            if path not in teacher or teacher[path].dense_weight().shape != layer.weight.shape:
                raise ConfigError(f"{path} has no counterpart of the same shape in the teacher")
        grams = input_grams(calibration.teacher, calibration.sample(), paths=set(masked))

        def refit(path):
            progress(f"RefitWeights, {path}")
            weight = least_squares_refit(teacher[path].dense_weight(), grams[path][0], masked[path].mask)
            return masked[path].replace(weight=weight)

        refitted = dict(zip(masked, map_in_threads(refit, masked), strict=True))
        return map_modules(lambda path, layer: refitted[path], model, MaskedLinear)
