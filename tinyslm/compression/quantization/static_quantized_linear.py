"""A linear layer that multiplies integers, with a range of its inputs that was measured once and for all."""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import affine_parameters, encode, quantize
from tinyslm.compression.quantization.integer_matmul import integer_matmul
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


@differentiable
def static_linear(x, codes, scale, correction, input_scale, input_zero_point, bias=None):
    """y = scale_x scale ((codes_x - Z) codes^T) + b, where scale_x and Z are known before x is seen ("static").

    x: (..., in), clipped to the range that 8 bits cover;  codes: (out, in) int8;  scale: (out, 1);  correction: (out,)
    int32, Z times the sum of each row of codes, which does not depend on x;  input_scale, input_zero_point: ();
    bias: (out,) or None;  returns (..., out) in the dtype of x.
    Source: Jacob et al. 2018, eq. 7 and 8, with symmetric weights. The vjp passes the rounding by (straight-through),
    and is 0 for what was clipped.
    """
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)
    input_codes = encode(inputs, input_scale, input_zero_point, symmetric=False)
    y = (integer_matmul(input_codes, codes) - correction).astype(x.dtype)  # (N, out), exact before it is converted
    output_scale = (input_scale * scale).reshape(1, -1).astype(x.dtype)  # (1, out)
    y *= output_scale
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, codes.shape[0])  # (N, out)
        dx = (dy * scale.reshape(1, -1).astype(dy.dtype)) @ codes.astype(dy.dtype)  # (N, in)
        steps = inputs / input_scale + input_zero_point
        dx *= (steps >= -128) & (steps <= 127)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx.reshape(x.shape), None, None, None, None, None, dbias

    return y.reshape(*x.shape[:-1], codes.shape[0]), vjp


class StaticQuantizedLinear(LinearLayer):
    """A `Linear` in 8-bit integers, weights and inputs, with fixed ranges. The arrays are those of `static_linear`;
    only the bias can be trained."""

    storage: ClassVar[str] = "8 bits per weight, a fixed range of the inputs"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()
    correction: Array = constant()
    input_scale: Array = constant()
    input_zero_point: Array = constant()
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes and scales of the rows, the sums that belong to the zero point, the inputs' range, and the bias."""
        return {
            "codes": (np.int8, shape),
            "scale": (np.floating, (shape[0], 1)),
            "correction": (np.int32, shape[:1]),
            "input_scale": (np.floating, ()),
            "input_zero_point": (np.int32, ()),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear, lowest, highest):
        """The layer for inputs from lowest to highest, two numbers; those beyond are clipped."""
        weight = quantize(linear.dense_weight(), axis=0)
        dtype = weight.scale.dtype
        input_scale, input_zero_point = affine_parameters(dtype.type(lowest), dtype.type(highest), symmetric=False)
        correction = input_zero_point * np.sum(weight.codes, axis=1, dtype=np.int32)  # (out,)
        return cls(weight.codes, weight.scale, correction, input_scale, input_zero_point, linear.bias)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        arrays = (self.codes, self.scale, self.correction, self.input_scale, self.input_zero_point, self.bias)
        return static_linear(x, *arrays)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that the codes stand for."""
        return self.codes * self.scale
