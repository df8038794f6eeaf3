"""Integer products whose input ranges are measured on calibration documents, once and for all."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.quantization import StaticQuantizedLinear, choose_range
from tinyslm.modules import Linear
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import input_statistics
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class QuantizeStatic:
    """W8A8 with one fixed range for the inputs of each linear layer in the blocks ("static"); see `static_linear`.

    method, percentile: how a range is chosen from the inputs of `documents` calibration documents, see `choose_range`.
    An expert that no token reached gets the range from -1 to 1. Outside the blocks there are 8-bit weights, routers
    stay exact. Source: Jacob et al. 2018, section 3; ranges as in Wu et al. 2020.
    """

    method: str = "min_max"
    percentile: float = 99.9
    documents: int = 32

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        inputs = input_statistics(model, calibration.sample()[: self.documents], np.copy, combine=join)

        def make_static(path, linear):
            if path not in inputs:
                return linear
            rows, tokens = inputs[path]
            settings = {"percentile": self.percentile, "symmetric": False}
            lowest, highest = choose_range(rows, self.method, **settings) if tokens else (-1, 1)
            return StaticQuantizedLinear.from_linear(linear, lowest, highest)

        return quantize_others(map_modules(make_static, model, Linear))


def join(rows, others):
    """The inputs of two documents, one below the other."""
    return np.concatenate([rows, others])
