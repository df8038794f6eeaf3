"""Non-uniform 4-bit formats (NormalFloat-4, FP4) applied to a model (Dettmers et al. 2023).

Mathematics: `tinyslm/compression/quantization/nf4.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.argument_checks import require_choice
from tinyslm.compression.quantization import CodebookLinear, float4_levels, normal_float4_levels
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module

LEVELS = {"nf4": normal_float4_levels, "fp4": float4_levels}


@dataclass(frozen=True)
class QuantizeFormat:
    """Quantize the weights of the blocks to a 4-bit format with non-uniform levels.

    The scales are stored in 8 bits each (double quantization). Layers outside the blocks get 8-bit weights. Routers are
    unchanged.

    Parameters
    ----------
    format : str, default "nf4"
        "nf4" (NormalFloat-4) or "fp4" (E2M1).
    block_size : int, default 64
        Number of neighbouring weights of a row that share a scale. The last block of a row is shorter if it does not
        divide the row's length.

    Raises
    ------
    ConfigError
        If `format` is unknown, `block_size` is out of range, or a layer in the blocks is already compressed.
    References
    ----------
    Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), section 3.

    Examples
    --------
    >>> QuantizeFormat("fp4")
    QuantizeFormat(format='fp4', block_size=64)
    """

    format: str = "nf4"
    block_size: int = 64

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model)
        require_choice("format", self.format, LEVELS)
        levels = LEVELS[self.format]()
        layers = {
            path: CodebookLinear.from_linear(linear, levels, block_size=self.block_size)
            for path, linear in compressible_layers(model).items()
        }
        return quantize_others(replace_layers(model, layers))
