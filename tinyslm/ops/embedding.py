"""Embedding lookup: one row of a table per token."""

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.errors import DataError
from tinyslm.ops.argument_checks import FLOATING, require_floating
from tinyslm.tree import Array


@differentiable
def embedding(token_ids: Array, table: Array) -> Array:
    """Embedding lookup, y[..., :] = table[token_ids[...], :].

    It is a product with a one-hot matrix, y = O E, so its gradient is O^T dy: the row of a token that occurs several
    times receives a sum. The sparse product computes the sum 5 to 10 times faster than `np.add.at`.

    Parameters
    ----------
    token_ids : ndarray of integers, shape (...)
    table : ndarray, shape (V, C)

    Returns
    -------
    ndarray, shape (..., C)
        dtype of `table`. Gradients: None for `token_ids`, (V, C) for `table`.

    Raises
    ------
    DataError
        If `table` is not float32 or float64, or has no row.

    Examples
    --------
    >>> output, vjp = embedding.with_vjp(np.array([2, 0, 2]), np.eye(3)[:, :2])
    >>> vjp(np.ones((3, 2)))[1]
    array([[1., 1.],
           [0., 0.],
           [2., 2.]])
    """

    if table.dtype not in FLOATING:
        require_floating(table=table)
    if not len(table):
        raise DataError(f"table must have at least one row, found shape {table.shape}")

    def vjp(dy):
        flat = token_ids.reshape(-1)
        one_hot = scipy.sparse.csr_array(
            (np.ones(flat.size, dy.dtype), flat, np.arange(flat.size + 1)), shape=(flat.size, table.shape[0])
        )
        return None, one_hot.T @ dy.reshape(flat.size, -1)  # (V, C)

    return table[token_ids], vjp
