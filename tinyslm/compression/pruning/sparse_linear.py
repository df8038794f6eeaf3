"""Sparse linear layers: three formats that store only the weights that are not 0. For inference only.

The smallest format depends on the sparsity. With values of v bytes, and a fraction d of non-zero weights, each weight
of the matrix needs v bytes dense, d (v + 4) in CSR (a 32-bit column index per value), d v + 1/8 as a bitmap, and
v/2 + 1/8 in 2:4. CSR skips the zeros in the product. The other two are unpacked to the dense matrix for each product,
because NumPy has no faster product: they save storage, but no time.
Step: `StoreSparse` in `tinyslm/recipes/pruning/masked_layers.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from typing import ClassVar

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.compression.pruning.n_m import PackedNM, index_bytes, n_m_mask, pack_n_m, parse_pattern
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.ops.argument_checks import require_floating
from tinyslm.tree import Array, constant


def csr_matrix(values, columns, row_starts, in_features):
    """The SciPy matrix (out, in) over these arrays, without a copy. columns: int32.

    Raises DataError for indices out of range: SciPy checks only sizes and the two ends of row_starts, and would read
    outside the arrays.
    """
    try:
        if np.any(row_starts[1:] < row_starts[:-1]):
            raise ValueError("a row ends before it starts")
        if columns.size and np.max(columns.view(np.uint32)) >= in_features:  # a negative index is a large unsigned one
            raise ValueError("a column index is out of range")
        return scipy.sparse.csr_array((values, columns, row_starts), shape=(len(row_starts) - 1, in_features))
    except ValueError as error:
        raise DataError(f"the arrays are not a valid CSR matrix with {in_features} columns: {error}") from None


@differentiable
def csr_linear(x, values, columns, row_starts, bias=None):
    """CSR product y = x W^T + b: row i of W has the values and columns from row_starts[i] to row_starts[i + 1] - 1.

    x: (..., in);  values: (n,);  columns: (n,) int32;  row_starts: (out + 1,) int32;  bias: (out,). Raises DataError
    for integers in place of real numbers, and for 0 inputs.
    """
    require_floating(x=x, values=values, bias=bias)
    if not x.shape[-1]:
        raise DataError(f"x must have at least one input per row, found shape {x.shape}")
    matrix = csr_matrix(values, columns, row_starts, x.shape[-1])
    y = (matrix @ x.reshape(-1, x.shape[-1]).T).T  # (N, out)
    if bias is not None:
        y = y + bias

    def vjp(dy):
        dy = dy.reshape(-1, matrix.shape[0])  # (N, out)
        dx = (matrix.T @ dy.T).T  # (N, in)
        return dx.reshape(x.shape), None, None, None, None if bias is None else np.sum(dy, axis=0)

    return y.reshape(*x.shape[:-1], matrix.shape[0]), vjp


class CsrLinear(LinearLayer):
    """Linear layer in compressed sparse row (CSR) format: non-zero values and their column indices.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Non-zero weights, row by row.
    columns : ndarray of int32, shape (n,)
        Column of each value.
    row_starts : ndarray of int32, shape (out + 1,)
        Row i has the values from row_starts[i] to row_starts[i + 1] - 1.
    bias : ndarray, shape (out,), optional
        Bias.
    in_features : int
        Number of inputs.

    Examples
    --------
    >>> layer = CsrLinear.from_linear(Linear(np.array([[0.0, 2.0], [3.0, 0.0]])))
    >>> layer.values, layer.columns.tolist(), layer(np.array([1.0, 10.0]))
    (array([2., 3.]), [1, 0], array([20.,  3.]))
    """

    storage: ClassVar[str] = "values and columns of the non-zero weights"

    values: Array = constant()
    columns: Array = constant()
    row_starts: Array = constant()
    bias: Array | None = None
    in_features: int = 0

    @staticmethod
    def array_forms(shape, settings, arrays):
        """One column per value, one start per row and the end, and the bias."""
        _require_columns(shape, settings)
        count = np.size(arrays.get("values"))
        return {
            "values": (np.floating, (count,)),
            "columns": (np.int32, (count,)),
            "row_starts": (np.int32, (shape[0] + 1,)),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear: Linear):
        """The layer with the non-zero weights of a linear layer."""
        matrix = scipy.sparse.csr_array(linear.dense_weight())
        columns, row_starts = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
        return cls(matrix.data, columns, row_starts, linear.bias, matrix.shape[1])

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        return csr_linear(x, self.values, self.columns, self.row_starts, self.bias)

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return len(self.row_starts) - 1

    def dense_weight(self) -> Array:
        """The (out, in) matrix, with zeros."""
        return csr_matrix(self.values, self.columns, self.row_starts, self.in_features).toarray()

    def multiply_adds(self) -> int:
        """Multiplications per token: one for each value."""
        return self.values.size


class BitmapLinear(LinearLayer):
    """Linear layer with one bit per weight and the values of the non-zero weights.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Non-zero weights, row by row.
    bitmap : ndarray of uint8, shape (out, ceil(in / 8))
        One bit per weight, 1 where it is not 0; eight weights per byte, the first in the highest bit.
    bias : ndarray, shape (out,), optional
        Bias.
    in_features : int
        Number of inputs.

    Examples
    --------
    >>> layer = BitmapLinear.from_linear(Linear(np.array([[0.0, 2.0], [3.0, 0.0]])))
    >>> layer.values, layer.bitmap.tolist(), layer(np.array([1.0, 10.0]))
    (array([2., 3.]), [[64], [128]], array([20.,  3.]))
    """

    storage: ClassVar[str] = "values of the non-zero weights, and a bit per weight"
    matrix: ClassVar[str] = "bitmap"

    values: Array = constant()
    bitmap: Array = constant()
    bias: Array | None = None
    in_features: int = 0

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The values, a whole number of bytes for each row, and the bias."""
        _require_columns(shape, settings)
        return {
            "values": (np.floating, (np.size(arrays.get("values")),)),
            "bitmap": (np.uint8, (shape[0], -(-shape[1] // 8))),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear: Linear):
        """The layer with the non-zero weights of a linear layer."""
        weight = linear.dense_weight()
        present = weight != 0
        return cls(weight[present], np.packbits(present, axis=1), linear.bias, weight.shape[1])

    def dense_weight(self) -> Array:
        """The (out, in) matrix, with zeros."""
        present = np.unpackbits(self.bitmap, axis=1, count=self.in_features).astype(bool)  # (out, in)
        if np.count_nonzero(present) != self.values.size:
            raise DataError(f"the bitmap has {np.count_nonzero(present)} bits for {self.values.size} values")
        weight = np.zeros(present.shape, self.values.dtype)
        weight[present] = self.values
        return weight


class NMLinear(LinearLayer):
    """Linear layer with an N:M pattern: n of every m weights of a row, and their indices, stored as in `PackedNM`.

    Parameters
    ----------
    values : ndarray, shape (out, in / m, n)
        Kept weights.
    places : ndarray of uint8
        Bit-packed indices of the kept weights in their groups.
    bias : ndarray, shape (out,), optional
        Bias.
    m : int
        Size of a group.

    Examples
    --------
    >>> layer = NMLinear.from_linear(Linear(np.array([[5.0, 0.0, 0.0, 7.0]])), "2:4")
    >>> layer.values, layer(np.ones(4))
    (array([[[5., 7.]]]), array([12.]))
    """

    storage: ClassVar[str] = "n of every m weights, and their indices"
    matrix: ClassVar[str] = "values"

    values: Array = constant()
    places: Array = constant()
    bias: Array | None = None
    m: int = 4

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The same number of values in each group, the bytes of their indices, and the bias."""
        m, values = settings.get("m", 4), arrays.get("values")
        if not 2 <= m <= shape[1] or shape[1] % m:
            raise ConfigError(f"m is {m}, expected a divisor of the {shape[1]} inputs")
        kept = values.shape[2] if np.ndim(values) == 3 else 0
        groups = shape[1] // m
        return {
            "values": (np.floating, (shape[0], groups, kept)),
            "places": (np.uint8, (index_bytes(shape[0] * groups * kept, m),)),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear: Linear, pattern: str):
        """The layer with a pattern such as "2:4". Raises DataError if a group has more than n non-zero weights."""
        weight, (n, m) = linear.dense_weight(), parse_pattern(pattern)
        mask = n_m_mask(np.abs(weight), n, m)  # a group with fewer than n non-zero weights keeps zeros
        if np.any(weight[~mask]):
            raise DataError(f"the weights do not have the pattern {pattern}: prune with it first")
        packed = pack_n_m(weight, mask, n, m)
        return cls(packed.values, packed.places, linear.bias, m)

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.values.shape[1] * self.m

    def dense_weight(self) -> Array:
        """The (out, in) matrix, with zeros."""
        return PackedNM(self.values, self.places, self.m).unpack()


def _require_columns(shape, settings):
    """Raise ConfigError unless the setting in_features is the number of columns."""
    if settings.get("in_features") != shape[1]:
        raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
