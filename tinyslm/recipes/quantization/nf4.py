"""Non-uniform 4-bit formats (NormalFloat-4, FP4) applied to a model.

Mathematics: `tinyslm/compression/quantization/nf4.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.quantization import CodebookLinear, float4_levels, normal_float4_levels
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.recipes.linear_layers import is_compressible, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules

LEVELS = {"nf4": normal_float4_levels, "fp4": float4_levels}


@dataclass(frozen=True)
class QuantizeFormat:
    """Store the weights of linear layers in the blocks in a 4-bit format whose levels do not lie evenly.

    format: "nf4" (NormalFloat-4) or "fp4" (E2M1);  block_size: neighbours in a row that share a scale, which it must
    divide. The scales take 8 bits (double quantization). Outside the blocks there are 8-bit integers, routers stay
    exact. Source: Dettmers et al. 2023 (QLoRA), section 3.
    """

    format: str = "nf4"
    block_size: int = 64

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        if self.format not in LEVELS:
            raise ConfigError(f"format is {self.format!r}, expected one of {', '.join(LEVELS)}")
        levels = LEVELS[self.format]()

        def quantize_linear(path, linear):
            if not is_compressible(path):
                return linear
            return CodebookLinear.from_linear(linear, levels, block_size=self.block_size)

        return quantize_others(map_modules(quantize_linear, model, Linear))
