"""Static quantization (W8A8) of a model: input ranges are measured on calibration documents (Jacob et al. 2018).

Mathematics: `tinyslm/compression/quantization/static_quantized_linear.py` and `ranges.py`. Lesson:
`lessons/09_quantization.py`.
"""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.quantization import StaticQuantizedLinear, choose_range
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import input_statistics
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class QuantizeStatic:
    """W8A8 with a fixed input range for each linear layer in the blocks ("static"), see `static_linear`.

    An expert without calibration tokens gets the range from -1 to 1. Layers outside the blocks get 8-bit
    weights. Routers are unchanged.

    Parameters
    ----------
    method : str, default "min_max"
        How the range is chosen from the inputs: "min_max", "percentile", "mean_square_error" or "entropy", see
        `choose_range`.
    percentile : float, default 99.9
        For "percentile", in percent, above 50 and up to 100.
    documents : int, default 32
        Number of calibration documents.

    Raises
    ------
    ConfigError
        If `method` is unknown, `percentile` is out of range, or a layer in the blocks is already compressed.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 3; Wu et al. 2020 (arXiv 2004.09602) for the choice of ranges.

    Examples
    --------
    >>> QuantizeStatic("percentile")
    QuantizeStatic(method='percentile', percentile=99.9, documents=32)
    """

    method: str = "min_max"
    percentile: float = 99.9
    documents: int = 32

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model)
        dense, tasks = compressible_layers(model), calibration.sample()[: self.documents]

        def static_layer(linear, rows, tokens):
            settings = {"percentile": self.percentile, "symmetric": False}
            lowest, highest = choose_range(rows, self.method, **settings) if tokens else (-1, 1)
            return StaticQuantizedLinear.from_linear(linear, lowest, highest)

        inputs = input_statistics(model, tasks, np.copy, combine=lambda *rows: np.concatenate(rows))
        layers = {path: static_layer(dense[path], *found) for path, found in inputs.items()}
        return quantize_others(replace_layers(model, layers))
