"""Linear layers that store only the weights that are not 0, in three forms. For inference: none of it can be trained.

Which one is smallest depends on the sparsity. With values of v bytes, of which the fraction d is kept, a weight of the
matrix takes v bytes dense, d (v + 4) in CSR (a 32-bit column beside each value), d v + 1/8 as a bitmap, and v/2 + 1/8
in 2:4. CSR multiplies only what is there; the other two are widened to the dense matrix for every product, since NumPy
has nothing faster: they save bytes and no time.
"""

from typing import ClassVar

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.compression.pruning.n_m import PackedNM, n_m_mask, pack_n_m, packed_bytes, parse_pattern
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


def csr_matrix(values, columns, row_starts, in_features):
    """The scipy matrix (out, in) over these arrays, which are not copied. columns: int32.

    Raises DataError for places outside, which scipy would read: it looks at sizes and at the two ends of row_starts.
    """
    try:
        if np.any(row_starts[1:] < row_starts[:-1]):
            raise ValueError("a row ends before it starts")
        if columns.size and np.max(columns.view(np.uint32)) >= in_features:  # as unsigned, negative ones are large
            raise ValueError("a column is outside")
        return scipy.sparse.csr_array((values, columns, row_starts), shape=(len(row_starts) - 1, in_features))
    except ValueError as error:
        raise DataError(f"the arrays are no CSR matrix with {in_features} columns: {error}") from None


@differentiable
def csr_linear(x, values, columns, row_starts, bias=None):
    """y = x W^T + b with W in CSR: row i holds values[row_starts[i]:row_starts[i + 1]] in the columns of that name.

    x: (..., in);  values: (n,);  columns: (n,) int32;  row_starts: (out + 1,) int32;  bias: (out,).
    """
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
    """Compressed sparse rows: values (n,), their columns (n,) int32, and where each row starts (out + 1,) int32."""

    storage: ClassVar[str] = "values and columns of what is not 0"

    values: Array = constant()
    columns: Array = constant()
    row_starts: Array = constant()
    bias: Array | None = None
    in_features: int = 0

    @staticmethod
    def array_forms(shape, settings, arrays):
        """As many values as columns, one start per row and the end, and the bias."""
        _require_columns(shape, settings)
        count = np.size(arrays.get("values"))
        return {
            "values": (np.floating, (count,)),
            "columns": (np.int32, (count,)),
            "row_starts": (np.int32, (shape[0] + 1,)),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear):
        """The layer with those weights that are not 0."""
        weight = linear.dense_weight()
        matrix = scipy.sparse.csr_array(weight)
        places = [array.astype(np.int32) for array in (matrix.indices, matrix.indptr)]
        return cls(matrix.data, *places, linear.bias, weight.shape[1])

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return csr_linear(x, self.values, self.columns, self.row_starts, self.bias)

    @property
    def out_features(self) -> int:
        return len(self.row_starts) - 1

    def dense_weight(self) -> Array:
        """The (out, in) matrix with its zeros."""
        return csr_matrix(self.values, self.columns, self.row_starts, self.in_features).toarray()

    def multiply_adds(self) -> int:
        """One for each value: zeros are not multiplied."""
        return self.values.size


class BitmapLinear(LinearLayer):
    """One bit for every weight, and the values (n,) of those whose bit is 1, in the order of the rows.

    bitmap: (out, ceil(in / 8)) uint8, eight weights per byte, the first in the highest bit.
    """

    storage: ClassVar[str] = "values of what is not 0, and a bit per weight"
    matrix: ClassVar[str] = "bitmap"

    values: Array = constant()
    bitmap: Array = constant()
    bias: Array | None = None
    in_features: int = 0

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The values, whole bytes for each row, and the bias."""
        _require_columns(shape, settings)
        return {
            "values": (np.floating, (np.size(arrays.get("values")),)),
            "bitmap": (np.uint8, (shape[0], -(-shape[1] // 8))),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear):
        """The layer with those weights that are not 0."""
        weight = linear.dense_weight()
        present = weight != 0
        return cls(weight[present], np.packbits(present, axis=1), linear.bias, weight.shape[1])

    def dense_weight(self) -> Array:
        """The (out, in) matrix with its zeros."""
        present = np.unpackbits(self.bitmap, axis=1, count=self.in_features).astype(bool)  # (out, in)
        if np.count_nonzero(present) != self.values.size:
            raise DataError(f"the bitmap has {np.count_nonzero(present)} bits for {self.values.size} values")
        weight = np.zeros(present.shape, self.values.dtype)
        weight[present] = self.values
        return weight


class NMLinear(LinearLayer):
    """n of every m weights of a row: values (out, in / m, n), and packed places (bytes,) uint8, as in `PackedNM`."""

    storage: ClassVar[str] = "n of every m weights, and their places"
    matrix: ClassVar[str] = "values"

    values: Array = constant()
    places: Array = constant()
    bias: Array | None = None
    m: int = 4

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The same number of values in every group, the bytes of their places, and the bias."""
        m, values = settings.get("m", 4), arrays.get("values")
        if not 2 <= m <= shape[1] or shape[1] % m:
            raise ConfigError(f"m is {m}, expected a divisor of the {shape[1]} inputs")
        kept = values.shape[2] if np.ndim(values) == 3 else 0
        groups = shape[1] // m
        return {
            "values": (np.floating, (shape[0], groups, kept)),
            "places": (np.uint8, (packed_bytes(shape[0] * groups * kept, m),)),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear, pattern):
        """The layer in a pattern such as "2:4". Raises DataError if a group has more than n weights besides 0."""
        weight, (n, m) = linear.dense_weight(), parse_pattern(pattern)
        mask = n_m_mask(np.abs(weight), n, m)  # a group with fewer than n keeps zeros beside them
        if np.any(weight[~mask]):
            raise DataError(f"the weights do not have the pattern {pattern}: prune with it first")
        packed = pack_n_m(weight, mask, n, m)
        return cls(packed.values, packed.places, linear.bias, m)

    @property
    def in_features(self) -> int:
        return self.values.shape[1] * self.m

    def dense_weight(self) -> Array:
        """The (out, in) matrix with its zeros."""
        return PackedNM(self.values, self.places, self.m).unpack()


def _require_columns(shape, settings):
    if settings.get("in_features") != shape[1]:
        raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
