"""LLM.int8() applied to a model (Dettmers et al. 2022).

Mathematics: `tinyslm/compression/quantization/llm_int8.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.quantization import OutlierLinear
from tinyslm.modules import Linear
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import input_maxima
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class QuantizeOutlierAware:
    """LLM.int8(): integer products in the blocks, but for features that exceed `threshold`; see `OutlierLinear`.

    Columns whose input exceeds it on the calibration documents are stored as they are. Embeddings and the layers
    outside the blocks get 8-bit weights, routers stay exact. Source: Dettmers et al. 2022, section 3. As published, a
    feature is an outlier for all tokens that are read together: a token's result depends on the others, later ones too.
    """

    threshold: float = 6.0

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        maxima = input_maxima(model, calibration.sample())

        def decompose(path, linear):
            if path not in maxima:
                return linear
            return OutlierLinear.from_linear(linear, maxima[path], threshold=self.threshold)

        return quantize_others(map_modules(decompose, model, Linear))
