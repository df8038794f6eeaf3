"""Linear layers with 8-bit weights: weight-only quantization, and dynamic activation quantization (W8A8).

Each of the two products has a plain definition (`weight_only_linear_definition`, `integer_linear_definition`:
dequantize, then multiply) and a fast form, which the layer uses. Applied to models:
`tinyslm/recipes/quantization/affine.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import QuantizedArray, quantize
from tinyslm.compression.quantization.integer_matmul import affine_matmul, quantize_tokens
from tinyslm.errors import DataError
from tinyslm.modules import LinearLayer
from tinyslm.ops import linear
from tinyslm.ops.argument_checks import FLOATING, require_floating
from tinyslm.ops.tiles import filled_tiles, input_gradient_in_tiles, multiply_in_tiles, row_slices
from tinyslm.tree import Array, constant

TILE_BYTES = 2**20  # of converted weights: small enough for the cache of a core, large enough for BLAS


def weight_only_linear_definition(x, codes, scale, zero_point=None, bias=None):
    """Definition of `weight_only_linear`: y = x W^T + b with W = scale * (codes - zero_point)."""
    return linear(x, QuantizedArray(codes, scale, zero_point).dequantize(), bias)


def integer_linear_definition(x, codes, scale, zero_point=None, bias=None):
    """Definition of `integer_linear`: `weight_only_linear_definition` of x rounded to 8 bits per token."""
    rounded = quantize_tokens(x.reshape(-1, x.shape[-1])).dequantize()  # (N, in)
    return weight_only_linear_definition(rounded.reshape(x.shape), codes, scale, zero_point, bias)


@differentiable
def weight_only_linear(
    x: Array, codes: Array, scale: Array, zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """Weight-only quantized product y = scale * (x (codes - zero_point)^T) + b: int8 weights, floating-point product.

    Fast form of `weight_only_linear_definition`: the scale belongs to an output row, so it multiplies each output once
    instead of each weight; and the codes are dequantized in tiles that stay in the cache.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    codes : ndarray of int8, shape (out, in)
    scale : ndarray, shape () or (out, 1)
    zero_point : ndarray of int32, shape () or (out, 1), optional
        None means 0.
    bias : ndarray, shape (out,), optional

    Returns
    -------
    ndarray, shape (..., out)
        dtype of x. Only x and the bias have gradients.

    Raises
    ------
    DataError
        If x, scale or bias is not float32 or float64, or there are 0 inputs.

    Examples
    --------
    >>> weight_only_linear(np.array([1.0, 2.0]), np.array([[3, -4]], np.int8), np.array(0.5))
    array([-2.5])
    """
    require_product_inputs(x, scale, bias)
    rows = x.reshape(-1, x.shape[-1])  # (N, in)
    output_scale = scale.reshape(1, -1).astype(x.dtype)  # (1, out) or (1, 1)
    y = multiply_in_tiles(rows, _tiles_of(codes, zero_point, x.dtype), codes.shape[0], work=codes.size)  # (N, out)
    y *= output_scale
    return output_and_vjp(x, y, bias, lambda dy: _times_codes(dy * output_scale, codes, zero_point), constants=3)


@differentiable
def integer_linear(
    x: Array, codes: Array, scale: Array, zero_point: Array | None = None, bias: Array | None = None
) -> Array:
    """Dynamically quantized product (W8A8), y = scale_x scale (codes_x (codes - zero_point)^T) + b.

    Fast form of `integer_linear_definition`: the codes of activations and weights are multiplied in exact integer
    arithmetic. The only errors are the rounding of the activations to 8 bits per token, and the floating-point rounding
    of the two products with the scales. A token's result does not depend on other tokens.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    codes : ndarray of int8, shape (out, in)
    scale : ndarray, shape () or (out, 1)
    zero_point : ndarray of int32, shape () or (out, 1), optional
        None means 0.
    bias : ndarray, shape (out,), optional

    Returns
    -------
    ndarray, shape (..., out)
        dtype of x. Only x and the bias have gradients. Rounding has slope 0 almost everywhere; the vjp treats it as the
        identity (straight-through estimator).

    Raises
    ------
    DataError
        If x, scale or bias is not float32 or float64, x is not finite, there are 0 inputs, or the sum of products could
        overflow int32, see `affine_matmul`.

    References
    ----------
    Yao et al. 2022 (arXiv 2206.01861); Bengio, Leonard & Courville 2013 (arXiv 1308.3432) for the gradient.

    Examples
    --------
    >>> integer_linear(np.array([1.0, 2.0]), np.array([[3, -4]], np.int8), np.array(0.5)).round(3)
    array([-2.488])
    """
    require_product_inputs(x, scale, bias)
    inputs = quantize_tokens(x.reshape(-1, x.shape[-1]))  # (N, in)
    output_scale = scale.reshape(1, -1).astype(x.dtype)  # (1, out) or (1, 1)
    y = affine_matmul(inputs.codes, codes, w_zero_point=zero_point).astype(x.dtype)  # (N, out)
    y *= inputs.scale  # (N, 1)
    y *= output_scale
    return output_and_vjp(x, y, bias, lambda dy: _times_codes(dy * output_scale, codes, zero_point), constants=3)


@differentiable
def dequantized_linear(x, bias, *, num_outputs, rows_of, product_of_one):
    """Linear map y = x W^T + b with a weight that is dequantized a tile of rows at a time.

    x: (..., in);  bias: (out,) or None;  rows_of(rows): the dequantized rows (n, in) of a slice;  product_of_one: a
    faster function of a single token (in,) that returns its product (out,), or None;  returns (..., out), dtype of x.
    """
    require_floating(x=x, bias=bias)
    require_inputs(x)
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)

    def tiles(share):
        first, stop, _ = share.indices(num_outputs)
        for rows in row_slices(stop - first, inputs.shape[1] * inputs.itemsize, TILE_BYTES):
            yield rows, rows_of(slice(first + rows.start, first + rows.stop))

    if product_of_one is not None and len(inputs) == 1:
        y = product_of_one(inputs[0])[None]  # (1, out)
    else:
        y = multiply_in_tiles(inputs, tiles, num_outputs, work=num_outputs * inputs.shape[1])  # (N, out)
    return output_and_vjp(
        x, y, bias, lambda dy: input_gradient_in_tiles(dy, tiles, inputs.shape[1], dy.dtype), constants=0
    )


def require_product_inputs(x, scale, bias):
    """Raise DataError unless inputs, scales and bias of a quantized product are floating-point, with inputs."""
    if x.dtype not in FLOATING or scale.dtype not in FLOATING or (bias is not None and bias.dtype not in FLOATING):
        require_floating(x=x, scale=scale, bias=bias)
    require_inputs(x)


def require_inputs(x):
    """Raise DataError if the last axis of x is empty."""
    if not x.shape[-1]:
        raise DataError(f"x must have at least one input per row, found shape {x.shape}")


def output_and_vjp(x, y, bias, input_gradient, constants):
    """(y + bias, vjp) of a linear operation whose weight is not trained: inputs x, `constants` arrays, bias.

    x: (..., in);  y: (N, out), the product for all N tokens of x;  bias: (out,) or None;
    input_gradient(dy (N, out)) -> dx (N, in).
    """
    outputs = y.shape[1]
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, outputs)  # (N, out)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return input_gradient(dy).reshape(x.shape), *[None] * constants, dbias

    return y.reshape(*x.shape[:-1], outputs), vjp


def _times_codes(dy, codes, zero_point):
    """dy (codes - zero_point): (N, out) -> (N, in)."""
    return input_gradient_in_tiles(dy, _tiles_of(codes, zero_point, dy.dtype), codes.shape[1], dy.dtype)


def _tiles_of(codes, zero_point, dtype):
    """A function: slice of rows -> iterator over the tiles of these rows, as in `upcast_tiles`."""

    def tiles(share):
        has_rows = zero_point is not None and zero_point.ndim > 0
        return upcast_tiles(codes[share], zero_point[share] if has_rows else zero_point, dtype)

    return tiles


def upcast_tiles(codes, zero_point, dtype):
    """Yield (rows, codes[rows] - zero_point[rows]) in a floating-point dtype, a tile of rows at a time.

    codes: (out, in) int8;  zero_point: () or (out, 1), or None for 0. Each tile overwrites the previous one.
    """
    if zero_point is not None:
        zero_point = np.broadcast_to(zero_point.astype(dtype), (codes.shape[0], 1))

    def fill(rows, tile):
        np.copyto(tile, codes[rows])
        if zero_point is not None:
            tile -= zero_point[rows]

    slices = row_slices(codes.shape[0], codes.shape[1] * np.dtype(dtype).itemsize, TILE_BYTES)
    return filled_tiles(slices, lambda count: np.empty((count, codes.shape[1]), dtype), fill)


class CodesLinear(LinearLayer):
    """Base class of the linear layers that store integer codes with a scale per output row.

    codes: (out, in) int8, unless a subclass packs them;  scale: (out, 1). A subclass has a field `bias`.
    """

    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, a scale per row, and the bias."""
        return {"codes": (np.int8, shape), "scale": (np.floating, (shape[0], 1)), "bias": (np.floating, shape[:1])}

    def quantized_weight(self) -> QuantizedArray:
        """Codes, one per byte, with their scales and zero points."""
        return QuantizedArray(self.codes, self.scale)

    def dense_weight(self) -> Array:
        """The dequantized weight (out, in)."""
        return self.quantized_weight().dequantize()


class QuantizedLinear(CodesLinear):
    """`Linear` with 8-bit weights.

    Parameters
    ----------
    codes : ndarray of int8, shape (out, in)
    scale : ndarray, shape () or (out, 1)
    zero_point : ndarray of int32, the shape of scale, optional
        None means 0.
    bias : ndarray, shape (out,), optional
        The only array that can be trained.
    dynamic_activations : bool
        Dynamic activation quantization (W8A8): activations are quantized per token at run time and multiplied as
        integers. Otherwise only the weights are quantized.

    Examples
    --------
    >>> from tinyslm.modules import Linear
    >>> layer = QuantizedLinear.from_linear(Linear(np.array([[1.0, -0.5]])))
    >>> layer.codes
    array([[127, -64]], dtype=int8)
    """

    storage: ClassVar[str] = "8 bits per weight"

    zero_point: Array | None = constant(default=None)
    bias: Array | None = None
    dynamic_activations: bool = False

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, scale and zero point for each row or one for the matrix, and the bias."""
        per_row = () if np.shape(arrays.get("scale")) == () else (shape[0], 1)
        scales = {"scale": (np.floating, per_row), "zero_point": (np.int32, per_row)}
        return CodesLinear.array_forms(shape, settings, arrays) | scales

    @classmethod
    def from_linear(
        cls, linear: LinearLayer, *, symmetric: bool = True, per_channel: bool = True, dynamic_activations: bool = False
    ) -> "QuantizedLinear":
        """The layer with weights rounded to 8 bits, one scale per output row or one for the matrix."""
        weight = quantize(linear.dense_weight(), symmetric=symmetric, axis=0 if per_channel else None)
        zero_point = None if symmetric else weight.zero_point
        return cls(weight.codes, weight.scale, zero_point, linear.bias, dynamic_activations)

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        product = integer_linear if self.dynamic_activations else weight_only_linear
        return product(x, self.codes, self.scale, self.zero_point, self.bias)

    def quantized_weight(self) -> QuantizedArray:
        """Codes, scales and zero points."""
        return QuantizedArray(self.codes, self.scale, self.zero_point)
