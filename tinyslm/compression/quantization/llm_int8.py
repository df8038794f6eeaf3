"""Outlier features in floating point, all others in 8 bits (LLM.int8())."""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import quantize
from tinyslm.compression.quantization.integer_matmul import integer_matmul, quantize_tokens
from tinyslm.errors import ConfigError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant

THRESHOLD = 6.0  # Dettmers et al. 2022, section 3.2


def outlier_features(maxima, threshold=THRESHOLD):
    """Which features are outliers: (in,) booleans, True where the largest magnitude exceeds the threshold."""
    if not threshold >= 0:
        raise ConfigError(f"threshold must be at least 0, found {threshold!r}")
    return np.asarray(maxima > threshold)


@differentiable
def outlier_linear(x, codes, scale, columns, outlier_weight, bias=None, *, threshold=THRESHOLD):
    """y = x_O W_O^T + scale_x scale (codes_x codes^T) + b: a few features in floating point, the rest in integers.

    O are the features that exceed the threshold anywhere in x ("dynamic"), and always those named by `columns`. The
    weights of the latter are stored as they were; of the others there are only codes.
    x: (..., in);  codes: (out, in) int8, 0 in the stored columns;  scale: (out, 1);  columns: (k,) integers;
    outlier_weight: (out, k);  bias: (out,) or None;  returns (..., out). The other features of a token, and each row of
    their weights, share one scale ("vector-wise"). A token's result can depend on the others: on their outliers.
    Source: Dettmers et al. 2022 (LLM.int8()), eq. 8. The vjp passes the rounding by (straight-through).
    """
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)
    large = outlier_features(np.max(np.abs(inputs), axis=0, initial=0), threshold)  # (in,)
    stored = np.zeros_like(large)
    stored[columns] = True
    rest = quantize_tokens(np.where(large | stored, x.dtype.type(0), inputs))
    output_scale = scale.reshape(1, -1).astype(x.dtype)  # (1, out)
    y = integer_matmul(rest.codes, codes).astype(x.dtype)  # (N, out)
    y *= rest.scale  # (N, 1)
    y += inputs[:, large] @ codes[:, large].T.astype(x.dtype)
    y *= output_scale
    y += inputs[:, columns] @ outlier_weight.T.astype(x.dtype)
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, codes.shape[0])  # (N, out)
        dx = (dy * output_scale) @ codes.astype(dy.dtype)  # (N, in)
        dx[:, columns] = dy @ outlier_weight.astype(dy.dtype)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx.reshape(x.shape), None, None, None, None, dbias

    return y.reshape(*x.shape[:-1], codes.shape[0]), vjp


class OutlierLinear(LinearLayer):
    """A `Linear` in 8-bit integers but for its outlier features. The arrays are those of `outlier_linear`; only the
    bias can be trained."""

    storage: ClassVar[str] = "8 bits per weight, outlier columns in floating point"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()
    columns: Array = constant()
    outlier_weight: Array = constant()
    bias: Array | None = None
    threshold: float = THRESHOLD

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, a scale per row, the numbers of the outlier columns and their weights, and the bias."""
        count = np.size(arrays.get("columns", ()))
        return {
            "codes": (np.int8, shape),
            "scale": (np.floating, (shape[0], 1)),
            "columns": (np.int32, (count,)),
            "outlier_weight": (np.floating, (shape[0], count)),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear, maxima, *, threshold=THRESHOLD):
        """The layer whose columns are stored as they are where an input feature exceeded the threshold.

        maxima: (in,) the largest magnitude of each input feature on calibration documents. Threshold 0 leaves all
        columns that occur in floating point, an infinite one none.
        """
        weight = linear.dense_weight()
        is_outlier = outlier_features(maxima, threshold)
        rest = quantize(np.where(is_outlier, weight.dtype.type(0), weight), axis=0)
        columns = np.flatnonzero(is_outlier).astype(np.int32)
        return cls(rest.codes, rest.scale, columns, weight[:, columns], linear.bias, float(threshold))

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        arrays = (self.codes, self.scale, self.columns, self.outlier_weight, self.bias)
        return outlier_linear(x, *arrays, threshold=self.threshold)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that codes and outlier columns stand for."""
        weight = self.codes * self.scale
        weight[:, self.columns] = self.outlier_weight
        return weight
