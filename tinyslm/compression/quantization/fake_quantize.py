"""Fake quantization, for quantization-aware training: rounding in the forward pass, straight-through gradients.

Sources: Jacob et al. 2018 (arXiv 1712.05877), section 3; Esser et al. 2020, "Learned Step Size Quantization" (LSQ,
arXiv 1902.08153). Applied to models: `tinyslm/recipes/quantization/fake_quantize.py`. Lesson:
`lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable, sum_to_shape
from tinyslm.compression.quantization.affine import QuantizedArray, code_range, encode, quantize
from tinyslm.compression.quantization.integer_matmul import quantize_tokens
from tinyslm.compression.quantization.packed_linear import PackedLinear, QuantizedLinear, linear_from_codes
from tinyslm.errors import DataError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant

NO_ZERO_POINT = np.zeros((1, 1), np.int32)


@differentiable
def fake_quantize(x: Array, scale: Array, zero_point: Array, *, bits: int = 8, symmetric: bool = True) -> Array:
    """Quantize and dequantize: scale * (clip(round(x / scale) + zero_point) - zero_point).

    For the gradients, round(v) is replaced by v plus a constant (straight-through estimator). With v = x / scale, an
    entry is inside if v + zero_point is in the range of codes, and outside otherwise. The gradient of x is 1 inside and
    0 outside. The gradient of the scale (learned step size) is round(v) - v inside, and code - zero_point outside. It
    is divided by sqrt(N * largest code), where N is the number of entries that share a scale.

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64, finite.
    scale, zero_point : ndarray
        Broadcast with x. Scales are above 0.
    bits, symmetric
        Range of the codes, see `code_range`.

    Returns
    -------
    ndarray
        Shape and dtype of x.

    Raises
    ------
    DataError, ConfigError
        As in `encode`.

    References
    ----------
    Bengio, Leonard & Courville 2013 (arXiv 1308.3432); Esser et al. 2020 (arXiv 1902.08153), eq. 3 and 5, section 2.2.

    Examples
    --------
    >>> fake_quantize(np.array([0.3, -0.8, 9.0]), np.array(0.5), np.array(0), bits=4)
    array([ 0.5, -1. ,  3.5])
    """
    low_code, high_code = code_range(bits, symmetric)
    codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    steps = x / scale
    distances = codes.astype(x.dtype) - zero_point.astype(x.dtype)

    def vjp(dy):
        is_inside = (steps + zero_point >= low_code) & (steps + zero_point <= high_code)
        slope = np.where(is_inside, distances - steps, distances)
        balance = np.sqrt(x.size / scale.size * high_code)
        dscale = sum_to_shape(dy * slope, scale.shape) / x.dtype.type(balance)
        return dy * is_inside, dscale, None

    return scale * distances, vjp


@differentiable
def fake_quantize_tokens(x: Array) -> Array:
    """Activations quantized to 8 bits with one scale per token, and dequantized.

    Parameters
    ----------
    x : ndarray, shape (..., in)

    Returns
    -------
    ndarray, shape (..., in)
        No value is clipped, so the straight-through gradient is 1 everywhere.

    Raises
    ------
    DataError
        If x is not float32 or float64, not finite, or has 0 inputs.

    Examples
    --------
    >>> fake_quantize_tokens(np.array([[127.0, 3.4]]))
    array([[127.,   3.]])
    """
    if not x.shape[-1]:
        raise DataError(f"x must have at least one input per row, found shape {x.shape}")
    rounded = quantize_tokens(x.reshape(-1, x.shape[-1])).dequantize()  # (N, in)
    return rounded.reshape(x.shape), lambda dy: (dy,)


class FakeQuantizedLinear(LinearLayer):
    """`Linear` for quantization-aware training: each use rounds its weight, with zero point 0.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Trained.
    factor : ndarray, shape (out, 1)
        Trained. The step size is factor * scale: an optimizer that moves every parameter by about its learning rate
        (AdamW) then changes all step sizes by a similar fraction, and none becomes negative.
    scale : ndarray, shape (out, 1)
        Initial step sizes, constant.
    bias : ndarray, shape (out,), optional
    bits : int
        Bits per weight, 2 to 8.
    dynamic_activations : bool
        Whether to round activations too, to 8 bits per token, as in a `QuantizedLinear`.

    References
    ----------
    Esser et al. 2020 (arXiv 1902.08153).

    Examples
    --------
    >>> from tinyslm.modules import Linear
    >>> layer = FakeQuantizedLinear.from_linear(Linear(np.array([[0.7, -0.1]])), bits=4)
    >>> layer.dense_weight()
    array([[ 0.7, -0.1]])
    """

    is_dense: ClassVar[bool] = True

    weight: Array
    factor: Array
    scale: Array = constant()
    bias: Array | None = None
    bits: int = 8
    dynamic_activations: bool = False

    @classmethod
    def from_linear(
        cls, linear: LinearLayer, *, bits: int = 8, dynamic_activations: bool = False
    ) -> "FakeQuantizedLinear":
        """The layer with one scale per row.

        The initial step size is the smaller of two numbers: 2 mean|w| / sqrt(largest code), and the step size with
        which the codes cover the whole range of the row.
        Source: Esser et al. 2020, section 2.1.
        """
        weight = linear.dense_weight()
        covering = quantize(weight, bits=bits, axis=0).scale  # (out, 1)
        usual = 2 * np.mean(np.abs(weight), axis=1, keepdims=True) / weight.dtype.type(code_range(bits, True)[1] ** 0.5)
        scale = np.where(usual > 0, np.minimum(usual, covering), covering)
        return cls(weight, np.ones_like(scale), scale, linear.bias, bits, dynamic_activations)

    def to_quantized(self) -> QuantizedLinear | PackedLinear:
        """The layer with stored codes and the same outputs."""
        scale = self.factor * self.scale  # (out, 1)
        codes = encode(self.weight, scale, NO_ZERO_POINT, bits=self.bits)
        weight = QuantizedArray(codes, scale, bits=self.bits)
        return linear_from_codes(weight, self.bias, dynamic_activations=self.dynamic_activations)

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        if self.dynamic_activations:
            x = fake_quantize_tokens(x)
        return super().__call__(x)

    def dense_weight(self) -> Array:
        """The rounded weight (out, in)."""
        return fake_quantize(self.weight, self.factor * self.scale, NO_ZERO_POINT, bits=self.bits)
