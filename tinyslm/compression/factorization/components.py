"""Rank-one components of a weight matrix, ordered by the error of dropping them."""

from typing import Any, NamedTuple

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.tree import Array


class Components(NamedTuple):
    """A weight matrix as a sum of rank-one components, weight = left right, in float64.

    Component i is column i of `left` times row i of `right`; r = min(out, in).

    Parameters
    ----------
    left : ndarray, shape (out, r)
    right : ndarray, shape (r, in)
    singular_values : ndarray, shape (r,)
        Descending. Dropping component i adds s_i^2 to the squared error, in the norm of the method.

    Examples
    --------
    >>> components = Components(np.eye(2), np.diag([3.0, 1.0]), np.array([3.0, 1.0]))
    >>> left, right = components.first(1, np.float32)
    >>> left @ right
    array([[3., 0.],
           [0., 0.]], dtype=float32)
    """

    left: Array
    right: Array
    singular_values: Array

    def keep(self, chosen: Any, dtype: Any) -> tuple[Array, Array]:
        """(left, right) of some components. chosen: a slice, indices, or a boolean mask (r,)."""
        left, right = self.left[:, chosen], self.right[chosen]  # (out, R), (R, in)
        return np.ascontiguousarray(left, dtype), np.ascontiguousarray(right, dtype)

    def first(self, rank: int, dtype: Any) -> tuple[Array, Array]:
        """(left, right) of the first `rank` components. Raises ConfigError unless rank is from 1 to r."""
        shape = self.left.shape[0], self.right.shape[1]
        require_integer(f"rank of a matrix {shape}", rank, 1, len(self.singular_values))
        return self.keep(slice(rank), dtype)


def balanced_components(left, right, singular_values) -> Components:
    """The components rescaled so that column i of left and row i of right have the same norm.

    Factors with entries of similar size suit optimizers and quantization. No column of left may be 0.
    """
    ratio = np.linalg.norm(right, axis=1) / np.linalg.norm(left, axis=0)  # (r,)
    root = np.sqrt(ratio)  # (r,) 0 for a component of size 0
    return Components(left * root, right / np.where(root > 0, root, 1)[:, None], singular_values)
