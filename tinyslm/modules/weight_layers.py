"""Base classes of all layers with a weight matrix: size accounting, and the default matrix product."""

import math
from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.tree import Array, Module, named_arrays


class WeightLayer(Module):
    """A layer with one weight matrix: `Linear`, `Embedding`, and the compressed layers that replace them.

    The methods count its size. A subclass with another size overrides them.
    """

    storage: ClassVar[str] = ""  # short description of how the matrix is stored
    matrix: ClassVar[str] = "weight"  # the field with one entry per row of the matrix along its first axis

    @staticmethod
    def array_forms(shape, settings, arrays):
        """{name: (kind of number, shape)} of the arrays of a layer of this class, for checking a file.

        shape: (rows, columns) of the weight matrix;  settings: {name: value} of the fields that are not arrays;
        arrays: {name: array} found in the file, for shapes that depend on another array.
        """
        raise NotImplementedError

    def dense_weight(self) -> Array:
        """The weight matrix (rows, columns) in floating point, whatever its storage."""
        raise NotImplementedError

    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of the matrices that are multiplied: the weight, or its factors."""
        return [getattr(self, self.matrix).shape]

    def num_parameters(self) -> int:
        """Number of entries of its matrices and of its bias."""
        return sum(map(math.prod, self.shapes())) + _bias(self).size

    def num_non_zeros(self) -> int:
        """Number of parameters that are not 0."""
        return int(np.count_nonzero(self.dense_weight()) + np.count_nonzero(_bias(self)))

    def num_bits(self) -> int:
        """Number of bits of its stored arrays, including scales and indices. A boolean has one bit."""
        return sum(array.size if array.dtype == bool else array.nbytes * 8 for array in named_arrays(self).values())

    def num_bytes(self) -> int:
        """Bytes of its arrays in memory."""
        return sum(array.nbytes for array in named_arrays(self).values())


class LinearLayer(WeightLayer):
    """Base class of `Linear` and of the layers that replace it: y = x W^T + b.

    is_dense: whether `dense_weight()` needs as much memory and as many multiply-adds as the layer itself.

    A subclass has `dense_weight()`: (out, in) and a field `bias`: (out,) or None. It overrides `__call__` if it has
    a faster form than the product with the dense weight, and the sizes if its `matrix` field has another shape.
    """

    is_dense: ClassVar[bool] = False

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        return ops.linear(x, self.dense_weight(), self.bias)

    def rounds_inputs(self) -> bool:
        """Whether the layer rounds its inputs, so that its output is not the product with `dense_weight()`."""
        return getattr(self, "dynamic_activations", False)

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return len(getattr(self, self.matrix))

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return getattr(self, self.matrix).shape[1]

    def shapes(self) -> list[tuple[int, int]]:
        """Shape (out, in) of the weight, in a list."""
        return [(self.out_features, self.in_features)]

    def multiply_adds(self) -> int:
        """Multiply-adds for one token, in any number format. Products with zeros are included."""
        return sum(map(math.prod, self.shapes()))


def _bias(layer):
    bias = getattr(layer, "bias", None)
    return np.zeros(0) if bias is None else bias
