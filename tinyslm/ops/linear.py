"""The linear map, which is where nearly all parameters and nearly all arithmetic are."""

import numpy as np

from tinyslm.autodiff import differentiable

FEW_ROWS = 32  # from about twice as many on, the plain product is the faster one


def rows_times_weight(rows, weight, out=None):
    """rows W^T. rows: (N, in);  weight: (out, in);  returns (N, out), in `out` if it is given.

    Two to `FEW_ROWS` rows (a token of each text that is continued, the tokens of an expert) are computed as
    (W rows^T)^T: the same sums, for which OpenBLAS takes less time (`python -m tests.benchmarks.speed batch-16`).
    """
    if not 1 < len(rows) <= FEW_ROWS:
        return np.matmul(rows, weight.T, out=out)
    turned = (weight @ rows.T).T  # (N, out), stored by columns
    if out is None:
        return np.ascontiguousarray(turned)
    out[:] = turned
    return out


@differentiable
def linear(x, weight, bias=None):
    """y = x W^T + b.

    x: (..., in);  weight: (out, in);  bias: (out,) or None;  returns (..., out).
    """
    rows = x.reshape(-1, x.shape[-1])  # (N, in)
    y = rows_times_weight(rows, weight)  # (N, out)
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, dy.shape[-1])  # (N, out)
        dx = (dy @ weight).reshape(x.shape)  # (..., in)
        dweight = dy.T @ rows  # (out, in)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp
