"""What every layer with a weight matrix can say about itself, however it stores the matrix."""

import math
from typing import ClassVar

import numpy as np

from tinyslm.tree import Array, Module, named_arrays


class Weighted(Module):
    """A layer with one weight matrix: `Linear`, `Embedding`, and everything that compression puts in their place.

    What a layer costs is counted here; a class for which this is not the answer overrides it.
    """

    storage: ClassVar[str] = ""  # how the matrix is stored, in a few words

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
        """The shapes of the matrices that take part: one, or the factors of one."""
        raise NotImplementedError

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


class LinearLayer(Weighted):
    """What multiplies by a weight. Sub-classes have `__call__`, `dense_weight()`: (out, in), a field `bias`: (out,) or
    None, and `out_features` and `in_features` of their own where they hold the matrix other than as `weight`."""

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    def shapes(self) -> list[tuple[int, int]]:
        """(out, in)."""
        return [(self.out_features, self.in_features)]

    def multiply_adds(self) -> int:
        """Multiplications (each with an addition) for one token, of whatever type; those with zeros among them."""
        return sum(map(math.prod, self.shapes()))


def _bias(layer):
    bias = getattr(layer, "bias", None)
    return np.zeros(0) if bias is None else bias
