"""A linear layer in 4 bits whose codes are indices of 16 levels that do not lie evenly (NormalFloat-4)."""

from typing import ClassVar

import numpy as np

from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import pack_codes, packed_length, unpack_codes
from tinyslm.compression.quantization.nf4 import BlockCodes, DoubleQuantized, double_quantize, quantize_to_levels
from tinyslm.errors import ConfigError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant

BITS = 4
SCALES_PER_STEP = 256  # scales that share one step size


class CodebookLinear(LinearLayer):
    """A `Linear` with weights of 4 bits: a level times the scale of its block. The scales take 8
    bits ("double quantization").

    codes: (out, ceil(in / 2)) uint8, packed by `pack_codes`, an index of levels less 8 each;  levels: (16,), the last
    repeated where there are fewer;
    scale_codes: int8, those of all scales padded to whole `SCALES_PER_STEP`;  scale_steps: one per `SCALES_PER_STEP`;
    scale_mean: ();  in_features: in;  block_size: neighbouring weights that share a scale.
    The matrix is built anew for every product. Source: Dettmers et al. 2023 (QLoRA), section 3.
    """

    storage: ClassVar[str] = "4 bits per weight, with 16 levels"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    levels: Array = constant()
    scale_codes: Array = constant()
    scale_steps: Array = constant()
    scale_mean: Array = constant()
    bias: Array | None = None
    in_features: int = 0
    block_size: int = 64

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, 16 levels, the scales of the blocks in 8 bits, and the bias."""
        block_size = settings.get("block_size", 64)
        if settings.get("in_features") != shape[1]:
            raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
        if block_size < 1 or shape[1] % block_size:
            raise ConfigError(f"block_size must divide {shape[1]}, found {block_size}")
        steps = -(-shape[0] * (shape[1] // block_size) // SCALES_PER_STEP)
        return {
            "codes": (np.uint8, (shape[0], packed_length(shape[1], BITS))),
            "levels": (np.floating, (2**BITS,)),
            "scale_codes": (np.int8, (steps * SCALES_PER_STEP,)),
            "scale_steps": (np.floating, (steps,)),
            "scale_mean": (np.floating, ()),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear, levels, *, block_size=64):
        """The layer with every weight at the nearest of the levels, at most 16 and ascending from -1 to 1.

        The nearest as seen with the exact scales, as in the authors' code: the scales are rounded afterwards.
        """
        weight = linear.dense_weight()
        found = quantize_to_levels(weight, levels, block_size)
        codes = pack_codes((found.codes.astype(np.int16) - 2 ** (BITS - 1)).astype(np.int8), BITS)
        scales = double_quantize(found.absmax, SCALES_PER_STEP)
        steps = scales.differences
        levels = np.pad(levels.astype(weight.dtype), (0, 2**BITS - len(levels)), mode="edge")  # (16,)
        return cls(codes, levels, steps.codes, steps.scale, scales.mean, linear.bias, weight.shape[1], block_size)

    def scales(self) -> Array:
        """The scale of every block: (out, in / block_size)."""
        zero_point = np.zeros(self.scale_steps.shape, np.int32)
        differences = QuantizedArray(self.scale_codes, self.scale_steps, zero_point, 8, SCALES_PER_STEP)
        blocks = (self.out_features, self.in_features // self.block_size)
        return DoubleQuantized(differences, self.scale_mean, blocks).dequantize()

    def dense_weight(self) -> Array:
        """The (out, in) matrix that the codes stand for."""
        codes = unpack_codes(self.codes, BITS, self.in_features).astype(np.int16) + 2 ** (BITS - 1)  # (out, in)
        return BlockCodes(codes, self.scales()).dequantize(self.levels)
