"""Training with rounded weights: rounding in the forward pass, and gradients as if there were none."""

import numpy as np

from tinyslm.autodiff import differentiable, sum_to_shape
from tinyslm.compression.quantization.affine import QuantizedArray, code_range, encode, quantize
from tinyslm.compression.quantization.integer_matmul import quantize_tokens
from tinyslm.compression.quantization.packed_linear import linear_from_codes
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


@differentiable
def fake_quantize(x, scale, zero_point, *, bits=8, symmetric=True):
    """scale * (clip(round(x / scale) + zero_point) - zero_point): what x becomes when it is stored in so few bits.

    x: any shape;  scale, zero_point: broadcast with x;  returns the shape and dtype of x.
    The gradients are those of the surrogate in which round(v) is v plus a constant (straight-through): for x that is 1
    where x / scale + zero_point lies in the range of codes, 0 outside; for the scale (learned step size) it is
    round(v) - v with v = x / scale inside, the distance of the code from the zero point outside, divided by
    sqrt(N * largest code), where N entries share a scale.
    Sources: Bengio, Leonard & Courville 2013; Esser et al. 2020 (LSQ), eq. 3 and 5 and section 2.2.
    """
    low_code, high_code = code_range(bits, symmetric)
    steps = x / scale
    codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    distances = codes.astype(x.dtype) - zero_point.astype(x.dtype)

    def vjp(dy):
        is_inside = (steps + zero_point >= low_code) & (steps + zero_point <= high_code)
        slope = np.where(is_inside, distances - steps, distances)
        balance = np.sqrt(x.size / scale.size * high_code)
        dscale = sum_to_shape(dy * slope, scale.shape) / x.dtype.type(balance)
        return dy * is_inside, dscale, None

    return scale * distances, vjp


@differentiable
def fake_quantize_tokens(x):
    """Activations rounded to 8 bits with one scale per token, (..., in); no value is clipped, so the gradient is 1."""
    rounded = quantize_tokens(x.reshape(-1, x.shape[-1])).dequantize()  # (N, in)
    return rounded.reshape(x.shape), lambda dy: (dy,)


class FakeQuantizedLinear(LinearLayer):
    """A `Linear` in training whose weight is rounded, symmetric around 0, every time it is used.

    weight: (out, in), trained;  scale: (out, 1), where the scales began;  factor: (out, 1), trained: the rounding uses
    factor * scale. An optimizer that moves every parameter by about its learning rate (AdamW) then moves all scales by
    a like fraction, and none past 0.
    dynamic_activations: activations are rounded too, per token, as in a `QuantizedLinear`.
    """

    weight: Array
    factor: Array
    scale: Array = constant()
    bias: Array | None = None
    bits: int = 8
    dynamic_activations: bool = False

    @classmethod
    def from_linear(cls, linear, *, bits=8, dynamic_activations=False):
        """The layer with one scale per row.

        A scale begins at 2 mean|w| / sqrt(largest code), or where the whole range is covered if that is finer.
        Source: Esser et al. 2020, section 2.1.
        """
        weight = linear.dense_weight()
        covering = quantize(weight, bits=bits, axis=0).scale  # (out, 1)
        usual = 2 * np.mean(np.abs(weight), axis=1, keepdims=True) / weight.dtype.type(code_range(bits, True)[1] ** 0.5)
        scale = np.where(usual > 0, np.minimum(usual, covering), covering)
        return cls(weight, np.ones_like(scale), scale, linear.bias, bits, dynamic_activations)

    def to_quantized(self):
        """The layer that computes the same, from integers."""
        scale = self.factor * self.scale  # (out, 1)
        zero_point = np.zeros(scale.shape, np.int32)
        codes = encode(self.weight, scale, zero_point, bits=self.bits)
        weight = QuantizedArray(codes, scale, zero_point, self.bits)
        return linear_from_codes(weight, self.bias, dynamic_activations=self.dynamic_activations)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        if self.dynamic_activations:
            x = fake_quantize_tokens(x)
        return super().__call__(x)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that this layer multiplies by: rounded."""
        zero_point = np.zeros((1, 1), np.int32)
        return fake_quantize(self.weight, self.factor * self.scale, zero_point, bits=self.bits)
