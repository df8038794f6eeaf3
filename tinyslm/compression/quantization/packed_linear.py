"""A linear layer whose weights take 2 to 8 bits each in memory, with a scale for every few of them."""

from typing import ClassVar

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import pack_codes, packed_length, unpack_codes
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear, integer_linear
from tinyslm.errors import ConfigError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


def linear_from_codes(weight: QuantizedArray, bias=None, *, dynamic_activations=False):
    """The layer that multiplies by a `QuantizedArray` of shape (out, in): a `QuantizedLinear` where it has 8 bits and
    no groups, a `PackedLinear` otherwise."""
    zero_point = weight.zero_point if np.any(weight.zero_point) else None
    if weight.bits == 8 and weight.group_size is None:
        return QuantizedLinear(weight.codes, weight.scale, zero_point, bias, dynamic_activations)
    if dynamic_activations and weight.group_size is not None:
        raise ConfigError("dynamic_activations need one scale per row: a sum over groups has no common scale")
    codes, inputs = pack_codes(weight.codes, weight.bits), weight.codes.shape[1]
    return PackedLinear(codes, weight.scale, zero_point, bias, inputs, weight.bits, dynamic_activations)


class PackedLinear(LinearLayer):
    """A `Linear` in few bits. codes: (out, ceil(in * bits / 8)) uint8, packed by `pack_codes`;  scale: () or (out,
    groups), one per in / groups neighbouring weights;  zero_point: as scale, None for 0;  inputs: in.

    The matrix is built anew, in floating point, for every product: it saves memory, not time. dynamic_activations:
    activations are rounded to 8 bits, per token, and integers are multiplied, as in `QuantizedLinear`; that needs one
    scale per row, or one for all. Of its arrays only the bias can be trained.
    """

    storage: ClassVar[str] = "2 to 8 bits per weight, packed"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()
    zero_point: Array | None = constant(default=None)
    bias: Array | None = None
    in_features: int = 0
    bits: int = 4
    dynamic_activations: bool = False

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, scales and zero points of groups of equal size or one for all, and the bias."""
        bits = settings.get("bits", 4)
        require_integer("bits", bits, 2, 8)
        if settings.get("in_features") != shape[1]:
            raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
        found = np.shape(arrays.get("scale"))
        groups = found[1] if len(found) == 2 and found[1] > 0 and shape[1] % found[1] == 0 else 1
        if settings.get("dynamic_activations") and groups > 1:
            raise ConfigError(f"dynamic_activations need one scale per row, found {groups}")
        scales = () if found == () else (shape[0], groups)
        return {
            "codes": (np.uint8, (shape[0], packed_length(shape[1], bits))),
            "scale": (np.floating, scales),
            "zero_point": (np.int32, scales),
            "bias": (np.floating, shape[:1]),
        }

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        if self.dynamic_activations:
            weight = self.quantized_weight()
            return integer_linear(x, weight.codes, weight.scale, self.zero_point, self.bias)
        return super().__call__(x)

    def quantized_weight(self) -> QuantizedArray:
        """The codes, one per byte, with their scales and zero points."""
        codes = unpack_codes(self.codes, self.bits, self.in_features)  # (out, in)
        zero_point = np.zeros(self.scale.shape, np.int32) if self.zero_point is None else self.zero_point
        has_groups = self.scale.ndim == 2 and self.scale.shape[1] > 1
        group_size = self.in_features // self.scale.shape[1] if has_groups else None
        return QuantizedArray(codes, self.scale, zero_point, self.bits, group_size)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that the codes stand for."""
        return self.quantized_weight().dequantize()
