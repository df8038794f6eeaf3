"""Quantized matrices in a file of another library, decoded a tile of rows at a time.

An `EncodedTensor` takes the place of a `StoredTensor`. Its `Encoding` knows the format; each format has its own class.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tinyslm.checkpoints.upcasting import release_pages
from tinyslm.compression.quantization import PackedLinear, QuantizedArray, QuantizedLinear, pack_codes
from tinyslm.modules import LinearLayer, WeightLayer
from tinyslm.ops.tiles import row_slices
from tinyslm.tree import Array

TILE_BYTES = 2**21  # of float32 numbers


class Storage(NamedTuple):
    """Number format of a stored tensor: its name, bits, scales and zero points."""

    format: str  # such as "GPTQ" or "float16"
    bits: int  # per number
    scales: str = ""  # which numbers share a scale, such as "groups of 128"
    symmetric: bool | None = None  # False: with zero points; None: the format has no zero points


class Encoding(ABC):
    """The stored form of one matrix (out, in). Reads nothing from the file before `dequantize` or `layer`."""

    shape: tuple[int, int]
    storage: Storage

    @abstractmethod
    def arrays(self) -> list[Array]:
        """The arrays in the file: codes, scales and zero points, mapped and not read yet."""

    @abstractmethod
    def dequantize(self, rows: slice) -> Array:
        """The numbers of some rows, float32 (n, in). Raises CheckpointError for damaged codes or scales."""

    def layer(self, rows: slice, bias: Array | None) -> LinearLayer | None:
        """The layer that keeps these rows in their stored form and has exactly their numbers; None if there is none."""
        return None

    def mapped_layer(self, rows: slice, bias: Array | None) -> LinearLayer | None:
        """The layer whose weight stays in the file; None if there is none."""
        return None

    def mapped_embedding(self, rows: slice) -> WeightLayer | None:
        """The embedding whose table stays in the file; None if there is none."""
        return None

    def tiles(self, rows: slice) -> Iterator[slice]:
        """Slices of these rows, of TILE_BYTES each as float32."""
        for tile in row_slices(rows.stop - rows.start, 4 * self.shape[1], TILE_BYTES):
            yield slice(rows.start + tile.start, rows.start + tile.stop)


class AffineEncoding(Encoding):
    """An encoding by integer codes: number = scale (code - zero point)."""

    dynamic_activations: bool = False  # whether the layer quantizes its inputs to 8 bits, see `QuantizedLinear`

    @abstractmethod
    def codes(self, rows: slice) -> QuantizedArray:
        """Codes of some rows, with scales in float32. Either every slice has zero points, or none."""

    def dequantize(self, rows):
        """scale (code - zero point), computed in float32."""
        return self.codes(rows).dequantize()

    def layer(self, rows, bias):
        """A `QuantizedLinear` for 8 bits without groups, otherwise a `PackedLinear`."""
        parts = []
        for tile in self.tiles(rows):
            part = self.codes(tile)
            is_packed = part.bits < 8 or part.group_size is not None
            parts.append(replace(part, codes=pack_codes(part.codes, part.bits)) if is_packed else part)
        codes, scale = np.concatenate([part.codes for part in parts]), _joined([part.scale for part in parts])
        zero_point = None if part.zero_point is None else _joined([part.zero_point for part in parts])
        if not is_packed:
            return QuantizedLinear(codes, scale, zero_point, bias, self.dynamic_activations)
        return PackedLinear(codes, scale, zero_point, bias, self.shape[1], part.bits, self.dynamic_activations)


def _joined(parts):
    """The scales or zero points of all rows. parts: those of slices of rows, or one for the matrix again and again."""
    return parts[0] if parts[0].ndim == 0 else np.concatenate(parts)


@dataclass(frozen=True)
class EncodedTensor:
    """A matrix in quantized form that is not read yet, or some of its rows. Has the methods of a `StoredTensor`."""

    dtype: ClassVar[str] = "F32"  # of the numbers that `read` returns
    rows_are_outputs: ClassVar[bool] = True  # also in families whose dense matrices are stored as (in, out)

    file: Path
    name: str
    shape: tuple[int, int]
    encoding: Encoding
    first: int = 0  # the first row is this one of the encoding

    @property
    def storage(self) -> Storage:
        """Number format in the file."""
        return self.encoding.storage

    @property
    def nbytes(self) -> int:
        """Bytes in the file, of the whole matrix."""
        return sum(array.nbytes for array in self.encoding.arrays())

    def part(self, rows: slice) -> "EncodedTensor":
        """Some rows. Reads nothing."""
        start, stop, _ = rows.indices(self.shape[0])
        return replace(self, shape=(stop - start, self.shape[1]), first=self.first + start)

    def tiles(self) -> Iterator[tuple[slice, Array]]:
        """Yield (rows, dequantized rows in float32)."""
        for rows in self.encoding.tiles(self._rows):
            with np.errstate(over="ignore", invalid="ignore"):  # beyond the range: infinite, as in a dense file
                tile = self.encoding.dequantize(rows)
            yield slice(rows.start - self.first, rows.stop - self.first), tile
        self._release()

    def read(self, dtype: Any = None) -> Array:
        """The dequantized numbers as a new array of `dtype`, or float32 if it is None."""
        array = np.empty(self.shape, np.float32 if dtype is None else dtype)
        for rows, tile in self.tiles():
            array[rows] = tile
        return array

    def zeros(self) -> Array:
        """Zeros with the shape and dtype of `read()` that need no memory. Reads nothing."""
        return np.broadcast_to(np.zeros((), np.float32), self.shape)

    def layer(self, bias: Array | None) -> LinearLayer | None:
        """The layer that keeps the stored form, or None, as of `Encoding`."""
        layer = self.encoding.layer(self._rows, bias)
        self._release()
        return layer

    def mapped_layer(self, bias: Array | None) -> LinearLayer | None:
        """The layer whose weight stays in the file, or None, as of `Encoding`."""
        return self.encoding.mapped_layer(self._rows, bias)

    def mapped_embedding(self) -> WeightLayer | None:
        """The embedding whose table stays in the file, or None, as of `Encoding`."""
        return self.encoding.mapped_embedding(self._rows)

    def _release(self):
        for array in self.encoding.arrays():
            release_pages(array)

    @property
    def _rows(self):
        return slice(self.first, self.first + self.shape[0])
