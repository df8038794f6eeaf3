"""LLM.int8() applied to a model (Dettmers et al. 2022).

Mathematics: `tinyslm/compression/quantization/llm_int8.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.quantization import OutlierLinear
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import input_maxima
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class QuantizeOutlierAware:
    """LLM.int8(): 8-bit integer products in the blocks, with outlier features in floating point, see `OutlierLinear`.

    Columns whose input exceeds the threshold on the calibration documents are stored without rounding. Embeddings and
    layers outside the blocks get 8-bit weights. Routers are unchanged. As published, a feature is an outlier for all
    tokens of a batch: a token's result depends on the other tokens, later ones included.

    Parameters
    ----------
    threshold : float, default 6.0
        Magnitude above which a feature is an outlier, at least 0; infinite for no outliers.

    Raises
    ------
    ConfigError
        If the threshold is negative, or a layer in the blocks is already compressed.

    References
    ----------
    Dettmers et al. 2022 (arXiv 2208.07339), section 3.

    Examples
    --------
    >>> QuantizeOutlierAware()
    QuantizeOutlierAware(threshold=6.0)
    """

    threshold: float = 6.0

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model)
        dense = compressible_layers(model)
        layers = {
            path: OutlierLinear.from_linear(dense[path], maxima, threshold=self.threshold)
            for path, maxima in input_maxima(model, calibration.sample()).items()
        }
        return quantize_others(replace_layers(model, layers))
