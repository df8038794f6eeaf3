"""Base classes of all layers with a weight matrix: size accounting, and the default matrix product."""

import math
from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.tree import Array, Module, named_arrays


class WeightLayer(Module):
    """A layer with one weight matrix: `Linear`, `Embedding`, and everything that compression puts in their place.

    What a layer costs is counted here; a class for which this is not the answer overrides it.
    """

    storage: ClassVar[str] = ""  # how the matrix is stored, in a few words
    matrix: ClassVar[str] = "weight"  # the field with one entry per row of the matrix along its first axis

    @staticmethod
    def array_forms(shape, settings, arrays):
        """{name: (kind of number, shape)} of the arrays that a layer of this kind consists of, for checking a file.

        shape: (rows, columns) of the matrix that it stands for;  settings: {name: value} of its other fields;
        arrays: {name: array} as they were found, where one decides about another.
        """
        raise NotImplementedError

    def dense_weight(self) -> Array:
        """The matrix (rows, columns) that this layer multiplies by or looks up, however it is stored."""
        raise NotImplementedError

    def shapes(self) -> list[tuple[int, int]]:
        """The shapes of the matrices that are multiplied: one, or the factors of one."""
        return [getattr(self, self.matrix).shape]

    def num_parameters(self) -> int:
        """The numbers it computes with: the entries of its matrices, and of its bias."""
        return sum(map(math.prod, self.shapes())) + _bias(self).size

    def num_non_zeros(self) -> int:
        """Those of them that are not 0."""
        return np.count_nonzero(self.dense_weight()) + np.count_nonzero(_bias(self))

    def num_bits(self) -> int:
        """What storing its arrays takes, scales and indices among them. A boolean takes one bit."""
        return sum(array.size if array.dtype == bool else array.nbytes * 8 for array in named_arrays(self).values())

    def num_bytes(self) -> int:
        """What its arrays take in memory."""
        return sum(array.nbytes for array in named_arrays(self).values())


class LinearLayer(WeightLayer):
    """Base class of `Linear` and of the layers that replace it: y = x W^T + b.

    A subclass has `dense_weight()`: (out, in) and a field `bias`: (out,) or None. It overrides `__call__` where it has
    a faster form than the product with the dense weight, and the sizes where its `matrix` field does not have them.
    """

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return ops.linear(x, self.dense_weight(), self.bias)

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return len(getattr(self, self.matrix))

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return getattr(self, self.matrix).shape[1]

    def shapes(self) -> list[tuple[int, int]]:
        """(out, in)."""
        return [(self.out_features, self.in_features)]

    def multiply_adds(self) -> int:
        """Multiplications (each with an addition) for one token, of whatever type; those with zeros among them."""
        return sum(map(math.prod, self.shapes()))


def _bias(layer):
    bias = getattr(layer, "bias", None)
    return np.zeros(0) if bias is None else bias
