"""What the calibration documents say about the units of a model: neurons, heads, channels, layers."""

import zlib
from dataclasses import dataclass, field

import numpy as np

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.pruning import magnitude_importance, random_importance, taylor_importance
from tinyslm.compression.pruning.heads import head_norms
from tinyslm.compression.pruning.importance import TAYLOR, minitron_square
from tinyslm.errors import ConfigError
from tinyslm.recipes.statistics import fisher_information, input_statistics, mean_gradients
from tinyslm.tree import map_parameters, named_modules

FOR_ALL_UNITS = ("magnitude", *TAYLOR, "random")


@dataclass(frozen=True)
class ImportanceStatistics:
    """What the methods FOR_ALL_UNITS look at. seed: of "random";  gradients, fishers: {path: module} of trees like the
    model, of mean gradients and mean squared gradients, where the method asks for them."""

    method: str
    seed: int
    gradients: dict = field(default_factory=dict)
    fishers: dict = field(default_factory=dict)

    def importance(self, path, module, parts):
        """(n,) of the units of one module; parts(module) -> its coupled arrays (n, ...)."""
        weights = parts(module)
        if self.method == "magnitude":
            return magnitude_importance(weights)
        if self.method == "random":
            return random_importance(len(weights[0]), [self.seed, zlib.crc32(path.encode())])
        fishers = parts(self.fishers[path]) if self.fishers else None
        return taylor_importance(weights, parts(self.gradients[path]), fishers, method=self.method)


def gather_statistics(model, calibration, method) -> ImportanceStatistics:
    """What a method needs to know; gradients are taken only for those that look at them."""

    def tree(values):
        return named_modules(map_parameters(lambda path, array: values[path], model))

    gradients, fishers = {}, {}
    if method in TAYLOR:
        gradients = tree(mean_gradients(model, calibration.sample()))
    if method == "taylor_second":
        fishers = tree(fisher_information(model, calibration.sample()))
    return ImportanceStatistics(method, calibration.seed, gradients, fishers)


def minitron_inputs(model, calibration, paths) -> dict:
    """{path of a linear layer: `minitron_importance` (in,) of its inputs}."""
    return _minitron(model, calibration, paths, minitron_square)


def minitron_heads(model, calibration, paths) -> dict:
    """{path of an output projection: `minitron_importance` (H,) of the norms of the heads that it reads}."""
    D = model.config.head_dim
    return _minitron(model, calibration, paths, lambda rows: minitron_square(head_norms(rows, D)))


def _minitron(model, calibration, paths, statistic):
    found = input_statistics(model, calibration.sample(), statistic, paths=set(paths))
    return {path: np.sqrt(total) for path, (total, _) in found.items()}


def require_method(method, known):
    """ConfigError unless the method is one of those known for a unit."""
    if method not in known:
        raise ConfigError(f"importance is {method!r}, expected one of {', '.join(known)}")


def count_to_keep(ratio, total, units, advice) -> int:
    """How many of a few units a ratio keeps. ConfigError, with advice, where it is less than 1 and yet keeps all."""
    require_ratio(ratio, units)
    count = max(1, round(ratio * total))
    if ratio < 1 and count == total:
        raise ConfigError(f"a ratio of {ratio} of {total} {units} removes none{advice}")
    return count
