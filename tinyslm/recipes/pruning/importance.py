"""Importance of the units of a model (neurons, heads, channels, layers), measured on calibration documents.

Mathematics: `tinyslm/compression/pruning/importance.py`. Lesson: `lessons/08_pruning_structure.py`.

Methods, by the name that the steps take as `importance`:

- "magnitude": L2 norm of all weights of the unit.
- "taylor_vector", "taylor_element", "taylor_second": estimated change of the loss, from gradients on the documents
  (`taylor_importance`).
- "random": the baseline, from the seed of the calibration.
- "minitron": size of the activations on the documents (`minitron_importance`); neurons, heads, channels.
- "activation": mean input of the down projection times the norm of its column (`neuron_importance`); neurons.
- "peak_to_peak": range of the weights of gate and up (`neuron_importance`); neurons.
- "influence": angular change of the hidden state (`layer_importance`); layers.
"""

import zlib

import numpy as np

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.pruning import magnitude_importance, random_importance, taylor_importance
from tinyslm.compression.pruning.importance import TAYLOR, minitron_square
from tinyslm.errors import ConfigError
from tinyslm.recipes.statistics import fisher_information, input_statistics, mean_gradients
from tinyslm.tree import map_parameters, named_modules

FOR_ALL_UNITS = ("magnitude", *TAYLOR, "random")
NEURON_METHODS = ("peak_to_peak", "activation", "minitron", *FOR_ALL_UNITS)
HEAD_METHODS = CHANNEL_METHODS = ("minitron", *FOR_ALL_UNITS)
LAYER_METHODS = ("influence", *FOR_ALL_UNITS)


def unit_importance(model, calibration, method, modules, parts) -> dict:
    """{path: (n,) importance of the units of one module} by a method of FOR_ALL_UNITS.

    modules: {path: module of the model};  parts(module) -> the coupled arrays (n, ...) of its units.
    """

    def averaged(statistic):
        """The modules with each parameter replaced by its statistic."""
        values = statistic(model, calibration.sample())
        return named_modules(map_parameters(lambda path, array: values[path], model))

    gradients = averaged(mean_gradients) if method in TAYLOR else {}
    fishers = averaged(fisher_information) if method == "taylor_second" else {}

    def importance(path, module):
        weights = parts(module)
        if method == "magnitude":
            return magnitude_importance(weights)
        if method == "random":
            return random_importance(len(weights[0]), [calibration.seed, zlib.crc32(path.encode())])
        fisher = parts(fishers[path]) if fishers else None
        return taylor_importance(weights, parts(gradients[path]), fisher, method=method)

    return {path: importance(path, module) for path, module in modules.items()}


def minitron_inputs(model, calibration, readers, statistic=minitron_square) -> dict:
    """{name: (n,) `minitron_importance` of the inputs of a linear layer}. readers: {name: path of a linear layer}.

    statistic(rows (N, in)) -> (n,): the squares of one document, to add up over documents, one per unit.
    """
    found = input_statistics(model, calibration.sample(), statistic, paths=readers.values(), rows_together=1)
    return {name: np.sqrt(found[path][0]) for name, path in readers.items()}


def count_to_keep(ratio, total, units, advice=None) -> int:
    """Number of units that a ratio keeps, at least 1. With advice, ConfigError if a ratio below 1 removes none."""
    require_ratio(ratio, units)
    count = max(1, round(ratio * total))
    if advice is not None and ratio < 1 and count == total:
        raise ConfigError(f"a ratio of {ratio} of {total} {units} removes none; {advice}")
    return count
