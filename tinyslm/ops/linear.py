"""The linear map, which is where nearly all parameters and nearly all arithmetic are."""

import numpy as np

from tinyslm.autodiff import differentiable


@differentiable
def linear(x, weight, bias=None):
    """y = x W^T + b.

    x: (..., in);  weight: (out, in);  bias: (out,) or None;  returns (..., out).
    """
    rows = x.reshape(-1, x.shape[-1])  # (N, in)
    y = rows @ weight.T  # (N, out)
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, dy.shape[-1])  # (N, out)
        dx = (dy @ weight).reshape(x.shape)  # (..., in)
        dweight = dy.T @ rows  # (out, in)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp
