"""Linear layer with packed weights of 2 to 8 bits, and one scale per row or per group of consecutive weights.

Applied to models: `tinyslm/recipes/quantization/affine.py` and `gptq.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import pack_codes, packed_length, unpack_codes
from tinyslm.compression.quantization.four_bit_product import four_bit_product
from tinyslm.compression.quantization.quantized_linear import (
    CodesLinear,
    QuantizedLinear,
    dequantized_linear,
    integer_linear,
)
from tinyslm.errors import ConfigError
from tinyslm.tree import Array, constant


def linear_from_codes(
    weight: QuantizedArray, bias: Array | None = None, *, dynamic_activations: bool = False
) -> "QuantizedLinear | PackedLinear":
    """Linear layer with a quantized weight.

    Parameters
    ----------
    weight : QuantizedArray, shape (out, in)
    bias : ndarray, shape (out,), optional
    dynamic_activations : bool
        Whether to quantize the activations at run time (dynamic activation quantization, W8A8). This needs one scale
        per row or one scale for the whole matrix.

    Returns
    -------
    QuantizedLinear or PackedLinear
        A `QuantizedLinear` for 8 bits without groups, a `PackedLinear` otherwise.

    Raises
    ------
    ConfigError
        If `dynamic_activations` is combined with groups.

    Examples
    --------
    >>> from tinyslm.compression.quantization import quantize
    >>> linear_from_codes(quantize(np.ones((2, 4)), bits=4, group_size=2))
    PackedLinear(codes=uint8[2, 2], scale=float64[2, 2], zero_point=None, bias=None, in_features=4, bits=4, \
dynamic_activations=False)
    """
    zero_point = weight.zero_point if np.any(weight.zero_point) else None
    if weight.bits == 8 and weight.group_size is None:
        return QuantizedLinear(weight.codes, weight.scale, zero_point, bias, dynamic_activations)
    if dynamic_activations and weight.group_size is not None:
        raise ConfigError("dynamic activation quantization needs one scale per row, found groups: leave out group_size")
    codes, in_features = pack_codes(weight.codes, weight.bits), weight.codes.shape[1]
    return PackedLinear(codes, weight.scale, zero_point, bias, in_features, weight.bits, dynamic_activations)


class PackedLinear(CodesLinear):
    """`Linear` with packed weights of 2 to 8 bits.

    Products dequantize a tile of rows at a time. For a single token and 4 bits there is a faster form, see
    `four_bit_product`.

    Parameters
    ----------
    codes : ndarray of uint8, shape (out, ceil(in * bits / 8))
        Packed by `pack_codes`.
    scale : ndarray, shape () or (out, groups)
        One scale per in / groups consecutive weights of a row, or one for the whole matrix.
    zero_point : ndarray of int32, the shape of scale, optional
        None means 0.
    bias : ndarray, shape (out,), optional
        The only array that can be trained.
    in_features : int
        Number of inputs.
    bits : int
        Bits per code, 2 to 8.
    dynamic_activations : bool
        Whether to quantize the activations at run time (W8A8), as in `QuantizedLinear`. This needs one scale per row or
        one scale for the whole matrix.

    Examples
    --------
    >>> from tinyslm.compression.quantization import quantize
    >>> layer = linear_from_codes(quantize(np.array([[7.0, -7.0, 1.0]]), bits=4))
    >>> layer.codes.nbytes, layer.dense_weight()
    (2, array([[ 7., -7.,  1.]]))
    """

    storage: ClassVar[str] = "2 to 8 bits per weight, packed"

    zero_point: Array | None = constant(default=None)
    bias: Array | None = None
    in_features: int = 0
    bits: int = 4
    dynamic_activations: bool = False

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, bias, and scales and zero points: one of each per group, or one for the matrix."""
        bits = settings.get("bits", 4)
        require_integer("bits", bits, 2, 8)
        codes = packed_shape(shape, settings, bits)
        found = np.shape(arrays.get("scale"))
        groups = found[1] if len(found) == 2 and found[1] > 0 and shape[1] % found[1] == 0 else 1
        if settings.get("dynamic_activations") and groups > 1:
            raise ConfigError(f"dynamic activation quantization needs one scale per row, found {groups} per row")
        scales = () if found == () else (shape[0], groups)
        forms = {"codes": (np.uint8, codes), "scale": (np.floating, scales), "zero_point": (np.int32, scales)}
        return CodesLinear.array_forms(shape, settings, arrays) | forms

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        if self.dynamic_activations:
            weight = self.quantized_weight()
            return integer_linear(x, weight.codes, weight.scale, weight.zero_point, self.bias)
        groups = self.scale.shape[1] if self.scale.ndim else 1
        has_faster_form = self.bits == 4 and self.in_features % (2 * groups) == 0  # a byte has codes of one group
        return dequantized_linear(
            x,
            self.bias,
            num_outputs=self.out_features,
            rows_of=lambda rows: self.quantized_rows(rows).dequantize(),
            product_of_one=self._product_of_one if has_faster_form else None,
        )

    def _product_of_one(self, x):
        """Product of one token (in,) with 4-bit weights: (out,)."""
        shape = self.scale.shape if self.scale.ndim else (self.out_features, 1)
        zero_point = None if self.zero_point is None else np.broadcast_to(self.zero_point, shape)
        return four_bit_product(x, self.codes, np.broadcast_to(self.scale, shape), zero_point)

    def quantized_weight(self) -> QuantizedArray:
        """The weight with unpacked codes (one per byte), scales and zero points."""
        return self.quantized_rows(slice(None))

    def quantized_rows(self, rows: slice) -> QuantizedArray:
        """Some rows of `quantized_weight`."""
        codes = unpack_codes(self.codes[rows], self.bits, self.in_features)  # (n, in)
        scale, zero_point = self.scale, self.zero_point
        if scale.ndim:
            scale, zero_point = scale[rows], None if zero_point is None else zero_point[rows]
        has_groups = scale.ndim == 2 and scale.shape[1] > 1
        group_size = self.in_features // scale.shape[1] if has_groups else None
        return QuantizedArray(codes, scale, zero_point, self.bits, group_size)


def packed_shape(shape, settings, bits):
    """Shape of the packed codes of a matrix with `shape` (out, in).

    Raises ConfigError unless settings["in_features"] is in.
    """
    if settings.get("in_features") != shape[1]:
        raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
    return shape[0], packed_length(shape[1], bits)
