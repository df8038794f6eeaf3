"""LLM.int8(): outlier features in floating point, all others in 8 bits.

Source: Dettmers et al. 2022, "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale" (arXiv 2208.07339).
Applied to models: `tinyslm/recipes/quantization/llm_int8.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.compression.quantization.affine import quantize
from tinyslm.compression.quantization.integer_matmul import integer_matmul, quantize_tokens
from tinyslm.compression.quantization.quantized_linear import CodesLinear, output_and_vjp, require_product_inputs
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import LinearLayer
from tinyslm.ops.argument_checks import require_floating
from tinyslm.tree import Array, constant

THRESHOLD = 6.0  # Dettmers et al. 2022, section 3.2


def outlier_features(maxima: Array, threshold: float = THRESHOLD) -> Array:
    """Mask of the outlier features: their largest magnitude is above the threshold.

    Parameters
    ----------
    maxima : ndarray, shape (in,)
        Largest magnitude of each feature.
    threshold : float
        At least 0, may be infinite.

    Returns
    -------
    ndarray of bool, shape (in,)
        True where the maximum exceeds the threshold.

    Raises
    ------
    ConfigError
        If the threshold is negative or nan.
    DataError
        If a maximum is nan or infinite.

    Examples
    --------
    >>> outlier_features(np.array([0.5, 8.0, 6.0]))
    array([False,  True, False])
    """
    if not threshold >= 0:
        raise ConfigError(f"threshold must be at least 0, found {threshold!r}")
    if not np.all(np.isfinite(maxima)):
        raise DataError("cannot quantize nan or infinity: the maxima of the features must be finite")
    return np.asarray(maxima > threshold)


@differentiable
def outlier_linear(
    x: Array,
    codes: Array,
    scale: Array,
    columns: Array,
    outlier_weight: Array,
    bias: Array | None = None,
    *,
    threshold: float = THRESHOLD,
) -> Array:
    """LLM.int8() product y = x_O W_O^T + scale_x scale (codes_x codes^T) + b; outlier features O in floating point.

    O are the features in `columns`, whose weights are stored without rounding, and all features that exceed the
    threshold anywhere in x ("dynamic"). The weights of features not in `columns` are stored as codes only. The features
    not in O have one scale per token, and their weights have one scale per row ("vector-wise"). A token's result can
    depend on the outliers of other tokens.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    codes : ndarray of int8, shape (out, in)
        0 in the stored columns.
    scale : ndarray, shape (out, 1)
    columns : ndarray of integers, shape (k,)
        Indices of the stored columns.
    outlier_weight : ndarray, shape (out, k)
        Weights of the stored columns.
    bias : ndarray, shape (out,), optional
    threshold : float
        Magnitude above which a feature is an outlier.

    Returns
    -------
    ndarray, shape (..., out)
        dtype of x. Only x and the bias have gradients; the vjp treats rounding as the identity (straight-through
        estimator).

    Raises
    ------
    DataError
        If an array of real numbers is not float32 or float64, or x is not finite.

    References
    ----------
    Dettmers et al. 2022 (arXiv 2208.07339), eq. 8.

    Examples
    --------
    >>> codes, weight = np.array([[127, 0]], np.int8), np.array([[0.3]])
    >>> outlier_linear(np.array([[1.0, 50.0]]), codes, np.array([[1 / 127]]), np.array([1]), weight).round(3)
    array([[16.]])
    """
    require_product_inputs(x, scale, bias)
    require_floating(outlier_weight=outlier_weight)
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

    def input_gradient(dy):
        dx = (dy * output_scale) @ codes.astype(dy.dtype)  # (N, in)
        dx[:, columns] = dy @ outlier_weight.astype(dy.dtype)
        return dx

    return output_and_vjp(x, y, bias, input_gradient, constants=4)


class OutlierLinear(CodesLinear):
    """`Linear` in 8-bit integers, except for its outlier features (LLM.int8()).

    Parameters
    ----------
    codes, scale, columns, outlier_weight, bias, threshold
        As in `outlier_linear`. Only the bias can be trained.

    References
    ----------
    Dettmers et al. 2022 (arXiv 2208.07339), section 3.

    Examples
    --------
    >>> from tinyslm.modules import Linear
    >>> layer = OutlierLinear.from_linear(Linear(np.array([[0.1, 0.2, 0.3]])), maxima=np.array([1.0, 1.0, 20.0]))
    >>> layer.columns, layer.outlier_weight
    (array([2], dtype=int32), array([[0.3]]))
    """

    storage: ClassVar[str] = "8 bits per weight, outlier columns in floating point"

    columns: Array = constant()
    outlier_weight: Array = constant()
    bias: Array | None = None
    threshold: float = THRESHOLD

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, a scale per row, indices and weights of the outlier columns, and the bias."""
        count = np.size(arrays.get("columns", ()))
        outliers = {"columns": (np.int32, (count,)), "outlier_weight": (np.floating, (shape[0], count))}
        return CodesLinear.array_forms(shape, settings, arrays) | outliers

    @classmethod
    def from_linear(cls, linear: LinearLayer, maxima: Array, *, threshold: float = THRESHOLD) -> "OutlierLinear":
        """The layer that stores a column without rounding if its input feature exceeded the threshold.

        maxima: (in,), largest magnitude of each input feature on calibration documents. With threshold 0 every column
        with a non-zero input is stored in floating point, with an infinite threshold none.
        """
        weight = linear.dense_weight()
        is_outlier = outlier_features(maxima, threshold)
        rest = quantize(np.where(is_outlier, weight.dtype.type(0), weight), axis=0)
        columns = np.flatnonzero(is_outlier).astype(np.int32)
        return cls(rest.codes, rest.scale, columns, weight[:, columns], linear.bias, float(threshold))

    def rounds_inputs(self) -> bool:
        """Always."""
        return True

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        arrays = (self.codes, self.scale, self.columns, self.outlier_weight, self.bias)
        return outlier_linear(x, *arrays, threshold=self.threshold)

    def dense_weight(self) -> Array:
        """The (out, in) matrix of dequantized weights and outlier columns."""
        weight = super().dense_weight()
        weight[:, self.columns] = self.outlier_weight
        return weight
