"""A weight matrix as a sum of rank-one components, in the order of what it costs to drop them."""

from typing import NamedTuple

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.tree import Array


class Components(NamedTuple):
    """weight = left right: component i is column i of left times row i of right.

    left: (out, r);  right: (r, in);  r = min(out, in);  singular_values: (r,), descending: dropping component i adds
    s_i^2 to the squared error, in the norm of the method that made it. All in float64.
    """

    left: Array
    right: Array
    singular_values: Array

    def keep(self, chosen, dtype):
        """(left, right) of some components. chosen: a slice, indices, or a boolean mask (r,)."""
        left, right = self.left[:, chosen], self.right[chosen]  # (out, R), (R, in)
        return np.ascontiguousarray(left, dtype), np.ascontiguousarray(right, dtype)

    def first(self, rank, dtype):
        """(left, right) of the first `rank` components. Raises ConfigError for a rank outside of 1 .. r."""
        shape = self.left.shape[0], self.right.shape[1]
        require_integer(f"rank of a matrix {shape}", rank, 1, len(self.singular_values))
        return self.keep(slice(rank), dtype)


def balanced_components(left, right, singular_values) -> Components:
    """The same components, each scaled so that its column of left and its row of right have the same norm.

    Factors with entries of similar size are kind to optimizers and to quantization. No column of left may be 0.
    """
    ratio = np.linalg.norm(right, axis=1) / np.linalg.norm(left, axis=0)  # (r,)
    root = np.sqrt(ratio)  # (r,) 0 for a component of size 0
    return Components(left * root, right / np.where(root > 0, root, 1)[:, None], singular_values)
