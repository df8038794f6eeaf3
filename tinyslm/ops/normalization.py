"""Normalization of each activation vector to a common size."""

import numpy as np

from tinyslm.autodiff import differentiable


@differentiable
def rms_norm(x, weight, eps=1e-6, offset=0.0):
    """Root-mean-square normalization: y = (offset + w) * x / sqrt(mean(x^2) + eps).

    x: (..., C) activations;  weight: (C,) gain;  returns (..., C), dtype of x.
    Source: Zhang & Sennrich 2019, eq. 4. eps stands inside the root. Gemma stores w - 1 and has offset 1.
    """
    mean_square = np.vecdot(x, x)[..., None] / x.shape[-1]  # (..., 1)
    inverse_rms = 1 / np.sqrt(mean_square + eps)  # (..., 1)
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
def layer_norm(x, weight, bias=None, eps=1e-5):
    """Layer normalization: y = w * (x - mean(x)) / sqrt(var(x) + eps) + b, with the biased variance.

    x: (..., C);  weight: (C,) gain;  bias: (C,) or None;  returns (..., C), dtype of x.
    Source: Ba, Kiros & Hinton 2016, section 3. It is the RMS norm of x - mean(x).
    """
    centred = x - np.mean(x, axis=-1, keepdims=True)  # (..., C)
    normalized, rms_vjp = rms_norm.with_vjp(centred, weight, eps)
    output = normalized if bias is None else normalized + bias

    def vjp(dy):
        dcentred, dweight = rms_vjp(dy)
        dx = dcentred - np.mean(dcentred, axis=-1, keepdims=True)  # (..., C)
        dbias = None if bias is None else np.sum(dy.reshape(-1, x.shape[-1]), axis=0)  # (C,)
        return dx, dweight, dbias

    return output, vjp
