"""A linear layer whose weights are stored in one byte each."""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import QuantizedArray, quantize
from tinyslm.compression.quantization.integer_matmul import affine_matmul, quantize_tokens
from tinyslm.modules import LinearLayer
from tinyslm.ops.tiles import filled_tiles, input_gradient_in_tiles, multiply_in_tiles, row_slices
from tinyslm.tree import Array, constant

TILE_BYTES = 2**20  # of converted weights: small enough for the cache of a core, large enough for BLAS


def upcast_tiles(codes, zero_point, dtype):
    """Yield (rows, codes[rows] - zero_point[rows]) in a floating-point dtype, a tile of rows at a time.

    codes: (out, in) int8;  zero_point: () or (out, 1), or None for zero. Each tile overwrites the last.
    """
    if zero_point is not None:
        zero_point = np.broadcast_to(zero_point.astype(dtype), (codes.shape[0], 1))

    def fill(rows, tile):
        np.copyto(tile, codes[rows])
        if zero_point is not None:
            tile -= zero_point[rows]

    slices = row_slices(codes.shape[0], codes.shape[1] * np.dtype(dtype).itemsize, TILE_BYTES)
    return filled_tiles(slices, lambda count: np.empty((count, codes.shape[1]), dtype), fill)


def zero_point_of(zero_point, rows):
    """That of some rows: of () or (out, 1) or None."""
    return zero_point if zero_point is None or zero_point.ndim == 0 else zero_point[rows]


def _input_and_bias_gradients(dy, codes, scale, zero_point, bias, shape):
    """dx = dy W with W = scale * (codes - zero_point), and the bias gradient. The codes are not trained."""
    dy = dy.reshape(-1, codes.shape[0])  # (N, out)
    scaled = dy * scale  # (N, out)
    dx = input_gradient_in_tiles(
        scaled, lambda share: upcast_tiles(codes, zero_point, dy.dtype), codes.shape[1], dy.dtype
    )  # (N, in)
    dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
    return dx.reshape(shape), None, None, None, dbias


@differentiable
def weight_only_linear(x, codes, scale, zero_point=None, bias=None):
    """y = scale * (x (codes - zero_point)^T) + b: int8 in memory, floating point in the product.

    x: (..., in);  codes: (out, in) int8;  scale, zero_point: () or (out, 1);  bias: (out,) or None;  returns (..., out)
    in the dtype of x. The scale belongs to an output row, so it is applied once per output instead of once per weight.
    """
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)
    output_scale = scale.reshape(1, -1).astype(x.dtype)  # (1, out) or (1, 1)

    def tiles(share):
        return upcast_tiles(codes[share], zero_point_of(zero_point, share), x.dtype)

    y = multiply_in_tiles(inputs, tiles, codes.shape[0], work=codes.size)  # (N, out)
    y *= output_scale
    if bias is not None:
        y += bias

    def vjp(dy):
        return _input_and_bias_gradients(dy, codes, output_scale, zero_point, bias, x.shape)

    return y.reshape(*x.shape[:-1], codes.shape[0]), vjp


@differentiable
def integer_linear(x, codes, scale, zero_point=None, bias=None):
    """The same layer with the activations in 8 bits too: y = scale_x scale (codes_x (codes - zero_point)^T) + b.

    Arguments as `weight_only_linear`. The product is exact integer arithmetic; what remains of rounding is that of the
    activations, per token, and that of the two scales. A token's result does not depend on the others.
    Rounding has slope 0 almost everywhere; the vjp passes it by (straight-through: Bengio, Leonard & Courville 2013).
    """
    inputs = quantize_tokens(x.reshape(-1, x.shape[-1]))  # (N, in)
    output_scale = scale.reshape(1, -1).astype(x.dtype)  # (1, out) or (1, 1)
    y = affine_matmul(inputs.codes, codes, w_zero_point=zero_point).astype(x.dtype)  # (N, out)
    y *= inputs.scale  # (N, 1)
    y *= output_scale
    if bias is not None:
        y += bias

    def vjp(dy):
        return _input_and_bias_gradients(dy, codes, output_scale, zero_point, bias, x.shape)

    return y.reshape(*x.shape[:-1], codes.shape[0]), vjp


class QuantizedLinear(LinearLayer):
    """A `Linear` with 8-bit weights. codes: (out, in) int8;  scale: () or (out, 1);  zero_point: as scale, None for 0.

    dynamic_activations: activations are quantized as well, per token, and multiplied as integers (W8A8); otherwise only
    the weights are. Of its arrays only the bias can be trained.
    """

    storage: ClassVar[str] = "8 bits per weight"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()
    zero_point: Array | None = constant(default=None)
    bias: Array | None = None
    dynamic_activations: bool = False

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, scale and zero point for each row or one for all, and the bias."""
        per_row = () if np.shape(arrays.get("scale")) == () else (shape[0], 1)
        return {
            "codes": (np.int8, shape),
            "scale": (np.floating, per_row),
            "zero_point": (np.int32, per_row),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear, *, symmetric=True, per_channel=True, dynamic_activations=False):
        """The layer with its weights rounded to 8 bits, with one scale per output row or one for all."""
        weight = quantize(linear.dense_weight(), symmetric=symmetric, axis=0 if per_channel else None)
        zero_point = None if symmetric else weight.zero_point
        return cls(weight.codes, weight.scale, zero_point, linear.bias, dynamic_activations)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        product = integer_linear if self.dynamic_activations else weight_only_linear
        return product(x, self.codes, self.scale, self.zero_point, self.bias)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that the codes stand for."""
        zero_point = np.zeros(self.scale.shape, np.int32) if self.zero_point is None else self.zero_point
        return QuantizedArray(self.codes, self.scale, zero_point).dequantize()
