"""Linear map, y = x W^T + b. Nearly all parameters and nearly all multiply-adds of a model are in its weights."""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.errors import DataError
from tinyslm.ops.argument_checks import FLOATING, require_floating
from tinyslm.tree import Array

FEW_ROWS = 32  # with more than about 64 rows the plain product is faster


def rows_times_weight(rows, weight, out=None):
    """Product rows W^T. rows: (N, in);  weight: (out, in);  returns (N, out), in `out` if it is given.

    Two to `FEW_ROWS` rows (one token of each sequence of a batch, the tokens of one expert) are computed as
    (W rows^T)^T. The sums are the same, and OpenBLAS is faster (`python -m tests.benchmarks.speed batch-16`).
    """
    if not 1 < len(rows) <= FEW_ROWS:
        return np.matmul(rows, weight.T, out=out)
    product = (weight @ rows.T).T  # (N, out), stored by columns
    if out is None:
        return np.ascontiguousarray(product)
    out[:] = product
    return out


@differentiable
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Linear map, y = x W^T + b.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    weight : ndarray, shape (out, in)
    bias : ndarray, shape (out,), optional

    Returns
    -------
    ndarray, shape (..., out)

    Raises
    ------
    DataError
        If an array is not float32 or float64, or there are 0 inputs.

    Examples
    --------
    >>> linear(np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([0.0, 10.0]))
    array([3., 9.])
    """
    if x.dtype not in FLOATING or weight.dtype not in FLOATING:
        require_floating(x=x, weight=weight)
    inputs = x.shape[-1]
    if not inputs:
        raise DataError(f"x must have at least one input per row, found shape {x.shape}")
    rows = x.reshape(-1, inputs)  # (N, in)
    y = rows_times_weight(rows, weight)  # (N, out)
    if bias is not None:
        if bias.dtype not in FLOATING:
            require_floating(bias=bias)
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, dy.shape[-1])  # (N, out)
        dx = (dy @ weight).reshape(x.shape)  # (..., in)
        dweight = dy.T @ rows  # (out, in)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], weight.shape[0]), vjp
