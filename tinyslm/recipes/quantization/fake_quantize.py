"""Quantization-aware training (QAT): distillation into a model that rounds its weights at every use.

Mathematics: `tinyslm/compression/quantization/fake_quantize.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass
from typing import Any

from tinyslm.compression.quantization import FakeQuantizedLinear
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.distillation.distill import Distill
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules


@dataclass(frozen=True)
class TrainQuantized:
    """Quantization-aware training with the dense model as teacher, then storage of the trained codes.

    Training as in `Distill`, with rounding in every linear layer of the blocks; one scale per row is trained too.
    Layers outside the blocks get 8-bit weights after training. Routers are unchanged.

    Parameters
    ----------
    steps : int
        Number of training steps.
    bits : int, default 4
        Bits per weight in the blocks, 2 to 8.
    dynamic_activations : bool, default False
        Dynamic activation quantization: activations are rounded to 8 bits per token, in training and afterwards.
    learning_rate : float, default 1e-3
    batch_size : int, default 20
        Documents per step.

    Raises
    ------
    ConfigError
        If a setting is out of range, or a layer in the blocks is already compressed.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 3; Esser et al. 2020 (LSQ, arXiv 1902.08153) for the trained scales;
    Liu et al. 2023 (LLM-QAT, arXiv 2305.17888) for the distillation.

    Examples
    --------
    >>> TrainQuantized(steps=100)
    TrainQuantized(steps=100, bits=4, dynamic_activations=False, learning_rate=0.001, batch_size=20)
    """

    steps: int
    bits: int = 4
    dynamic_activations: bool = False
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model)
        settings: dict[str, Any] = {"bits": self.bits, "dynamic_activations": self.dynamic_activations}
        layers = compressible_layers(model).items()
        student = replace_layers(model, {p: FakeQuantizedLinear.from_linear(layer, **settings) for p, layer in layers})
        trained = Distill(self.steps, self.learning_rate, self.batch_size)(student, calibration, progress)
        return quantize_others(map_modules(lambda path, layer: layer.to_quantized(), trained, FakeQuantizedLinear))
