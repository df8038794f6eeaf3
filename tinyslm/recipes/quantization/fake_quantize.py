"""Quantization-aware training: the dense model teaches one whose weights are rounded whenever they are used."""

from dataclasses import dataclass

from tinyslm.compression.quantization import FakeQuantizedLinear
from tinyslm.modules import Linear
from tinyslm.recipes.distillation.distill import Distill
from tinyslm.recipes.linear_layers import is_compressible, require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class TrainQuantized:
    """Train for `steps` steps, as `Distill` does, with rounding to `bits` bits in every linear layer of the blocks;
    then store what was trained: the codes of those layers, and 8 bits outside the blocks.

    One scale per row is trained too.  dynamic_activations: activations are rounded as well, in training and afterwards.
    Routers stay exact.
    Sources: Jacob et al. 2018, section 3; Esser et al. 2020 (LSQ); distillation as in Liu et al. 2023 (LLM-QAT).
    """

    steps: int
    bits: int = 4
    dynamic_activations: bool = False
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        settings = {"bits": self.bits, "dynamic_activations": self.dynamic_activations}

        def round_in_training(path, linear):
            return FakeQuantizedLinear.from_linear(linear, **settings) if is_compressible(path) else linear

        training = Distill(self.steps, self.learning_rate, self.batch_size)
        trained = training(map_modules(round_in_training, model, Linear), calibration, progress)
        stored = map_modules(lambda path, layer: layer.to_quantized(), trained, FakeQuantizedLinear)
        return quantize_others(stored)
