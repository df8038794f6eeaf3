"""Static quantization of weights and activations (W8A8): the range of the inputs is fixed before inference.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv 1712.05877).
Applied to models: `tinyslm/recipes/quantization/static_quantized_linear.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import affine_parameters, encode, quantize
from tinyslm.compression.quantization.integer_matmul import integer_matmul
from tinyslm.compression.quantization.quantized_linear import CodesLinear, output_and_vjp, require_product_inputs
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


@differentiable
def static_linear(
    x: Array,
    codes: Array,
    scale: Array,
    correction: Array,
    input_scale: Array,
    input_zero_point: Array,
    bias: Array | None = None,
) -> Array:
    """Statically quantized product y = scale_x scale ((codes_x - Z) codes^T) + b: scale_x and Z do not depend on x.

    Parameters
    ----------
    x : ndarray, shape (..., in)
        Clipped to the range of the 8-bit codes.
    codes : ndarray of int8, shape (out, in)
        Symmetric codes of the weights.
    scale : ndarray, shape (out, 1)
    correction : ndarray of int32, shape (out,)
        Z times the sum of each row of codes, which does not depend on x.
    input_scale, input_zero_point : ndarray, shape ()
        scale_x and Z.
    bias : ndarray, shape (out,), optional

    Returns
    -------
    ndarray, shape (..., out)
        dtype of x. Only x and the bias have gradients. The vjp treats rounding as the identity (straight-through
        estimator); clipped inputs have gradient 0.

    Raises
    ------
    DataError
        If x, scale or bias is not float32 or float64, x is not finite, `input_scale` is not above 0, or there are 0
        inputs.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), eq. 7 and 8.

    Examples
    --------
    >>> codes, correction = np.array([[127, 64]], np.int8), np.array([0], np.int32)
    >>> static_linear(np.array([[1.0, 9.0]]), codes, np.array([[0.01]]), correction, np.array(0.05), np.array(0))
    array([[5.334]])
    """
    require_product_inputs(x, scale, bias)
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)
    input_codes = encode(inputs, input_scale, input_zero_point, symmetric=False)
    y = (integer_matmul(input_codes, codes) - correction).astype(x.dtype)  # (N, out), exact before the conversion
    y *= (input_scale * scale).reshape(1, -1).astype(x.dtype)  # (1, out)

    def input_gradient(dy):
        dx = (dy * scale.reshape(1, -1).astype(dy.dtype)) @ codes.astype(dy.dtype)  # (N, in)
        steps = inputs / input_scale + input_zero_point
        dx *= (steps >= -128) & (steps <= 127)
        return dx

    return output_and_vjp(x, y, bias, input_gradient, constants=5)


class StaticQuantizedLinear(CodesLinear):
    """`Linear` in 8-bit integers, weights and inputs, with a fixed range of the inputs.

    Parameters
    ----------
    codes, scale, correction, input_scale, input_zero_point, bias
        As in `static_linear`. Only the bias can be trained.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 2.

    Examples
    --------
    >>> from tinyslm.modules import Linear
    >>> layer = StaticQuantizedLinear.from_linear(Linear(np.array([[1.0, 0.5]])), lowest=-1.0, highest=1.0)
    >>> layer(np.array([[0.5, 0.5]])).round(2)
    array([[0.75]])
    """

    storage: ClassVar[str] = "8 bits per weight, a fixed range of the inputs"

    correction: Array = constant()
    input_scale: Array = constant()
    input_zero_point: Array = constant()
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, a scale per row, the correction for the zero point, the input scale and zero point, and the bias."""
        return CodesLinear.array_forms(shape, settings, arrays) | {
            "correction": (np.int32, shape[:1]),
            "input_scale": (np.floating, ()),
            "input_zero_point": (np.int32, ()),
        }

    @classmethod
    def from_linear(cls, linear: LinearLayer, lowest: float, highest: float) -> "StaticQuantizedLinear":
        """The layer for inputs from lowest to highest; inputs beyond are clipped."""
        weight = quantize(linear.dense_weight(), axis=0)
        dtype = weight.scale.dtype
        input_scale, input_zero_point = affine_parameters(dtype.type(lowest), dtype.type(highest), symmetric=False)
        correction = input_zero_point * np.sum(weight.codes, axis=1, dtype=np.int32)  # (out,)
        return cls(weight.codes, weight.scale, correction, input_scale, input_zero_point, linear.bias)

    def rounds_inputs(self) -> bool:
        """Always."""
        return True

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        arrays = (self.codes, self.scale, self.correction, self.input_scale, self.input_zero_point, self.bias)
        return static_linear(x, *arrays)
