"""RMS normalization and layer normalization of activation vectors."""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.errors import ConfigError, NumericOverflow
from tinyslm.ops.argument_checks import FLOATING, has_zero, require_floating
from tinyslm.tree import Array


@differentiable
def rms_norm(x: Array, weight: Array, eps: float = 1e-6, offset: float = 0.0) -> Array:
    """Root-mean-square normalization, y = (offset + w) * x / sqrt(mean(x^2) + eps).

    Parameters
    ----------
    x : ndarray, shape (..., C)
        Activations.
    weight : ndarray, shape (C,)
        Gain w.
    eps
        Added to the mean square, inside the root.
    offset
        Added to the gain: 1 for Gemma, which stores w - 1.

    Returns
    -------
    ndarray, shape (..., C)
        dtype of `x`.

    Raises
    ------
    DataError
        If an array is not float32 or float64.
    NumericOverflow
        If the mean square overflows: all outputs would be 0.
    ConfigError
        If `eps` is negative or not finite.

    References
    ----------
    Zhang & Sennrich 2019, "Root Mean Square Layer Normalization" (arXiv 1910.07467), eq. 4.

    Examples
    --------
    >>> rms_norm(np.array([3.0, -3.0]), np.ones(2)).round(3)
    array([ 1., -1.])
    """
    if x.dtype not in FLOATING or weight.dtype not in FLOATING:
        require_floating(x=x, weight=weight)
    if not 0 <= eps < math.inf:
        raise ConfigError(f"eps must be a number of at least 0, found {eps!r}")
    mean_square = np.vecdot(x, x)[..., None] / x.shape[-1]  # (..., 1)
    inverse_rms = 1 / np.sqrt(mean_square + eps)  # (..., 1)
    if has_zero(inverse_rms):  # 1 / infinity
        raise NumericOverflow(f"the mean square of x overflows {x.dtype}: scale x down, or use float64")
    normalized = x * inverse_rms  # (..., C)
    gain = weight + offset if offset else weight  # (C,)

    def vjp(dy):
        dnormalized = dy * gain  # (..., C)
        along = np.vecdot(dnormalized, normalized)[..., None] / x.shape[-1]  # (..., 1)
        dx = dnormalized - normalized * along
        dx *= inverse_rms
        dweight = np.sum((dy * normalized).reshape(-1, x.shape[-1]), axis=0)  # (C,)
        return dx, dweight

    return normalized * gain, vjp


@differentiable
def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Array:
    """Layer normalization, y = w * (x - mean(x)) / sqrt(var(x) + eps) + b, with the biased variance.

    It is the RMS norm of x - mean(x).

    Parameters
    ----------
    x : ndarray, shape (..., C)
        Activations.
    weight : ndarray, shape (C,)
        Gain w.
    bias : ndarray, shape (C,), optional
    eps
        Added to the variance, inside the root.

    Returns
    -------
    ndarray, shape (..., C)
        dtype of `x`.

    Raises
    ------
    DataError, NumericOverflow, ConfigError
        As in `rms_norm`.

    References
    ----------
    Ba, Kiros & Hinton 2016, "Layer Normalization" (arXiv 1607.06450), section 3.

    Examples
    --------
    >>> layer_norm(np.array([1.0, 3.0]), np.ones(2), np.array([0.0, 10.0])).round(3)
    array([-1., 11.])
    """
    if x.dtype not in FLOATING or (bias is not None and bias.dtype not in FLOATING):
        require_floating(x=x, bias=bias)
    centred = x - np.mean(x, axis=-1, keepdims=True)  # (..., C)
    normalized, rms_vjp = rms_norm.with_vjp(centred, weight, eps)
    output = normalized if bias is None else normalized + bias

    def vjp(dy):
        dcentred, dweight = rms_vjp(dy)
        dx = dcentred - np.mean(dcentred, axis=-1, keepdims=True)  # (..., C)
        dbias = None if bias is None else np.sum(dy.reshape(-1, x.shape[-1]), axis=0)  # (C,)
        return dx, dweight, dbias

    return output, vjp
