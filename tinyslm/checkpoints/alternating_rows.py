"""Every n-th block of rows of a stored tensor, for tensors in which the rows of several arrays alternate."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError
from tinyslm.tree import Array


@dataclass(frozen=True)
class AlternatingRows:
    """The blocks number first, first + every, first + 2 every ... of a tensor that is not read yet, one after another.

    tensor: StoredTensor or EncodedTensor of (n every size, ...);  size: rows of a block. Has the methods of a
    `StoredTensor` that make an array or a layer.
    """

    tensor: Any
    first: int
    every: int
    size: int

    @property
    def file(self) -> Path:
        """The file of the tensor."""
        return self.tensor.file

    @property
    def name(self) -> str:
        """The name of the tensor in the file."""
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        """(n size, ...)."""
        return self.tensor.shape[0] // self.every, *self.tensor.shape[1:]

    @property
    def bits(self) -> Array:
        """A copy of the rows as they are stored, see `StoredTensor.bits`. Raises ConfigError for a quantized tensor."""
        if isinstance(self.tensor, EncodedTensor):
            raise ConfigError(
                f"{self.file}: tensor {shown(self.name)} is quantized, and its rows alternate between layers, so that "
                'it cannot be mapped; use the weights "int8" or "float32"'
            )
        return np.concatenate([part.bits for _, part in self._parts()])

    def read(self, dtype: Any) -> Array:
        """The numbers as a new array of `dtype`."""
        array = np.empty(self.shape, dtype)
        for rows, part in self._parts():
            array[rows] = part.read(dtype)
        return array

    def tiles(self) -> Iterator[tuple[slice, Array]]:
        """Yield (rows, these rows in float32)."""
        for rows, part in self._parts():
            yield rows, part.read(np.float32)

    def _parts(self):
        """(rows in the result, part of the tensor) of each block."""
        for i in range(self.shape[0] // self.size):
            start = (i * self.every + self.first) * self.size
            yield slice(i * self.size, (i + 1) * self.size), self.tensor.part(slice(start, start + self.size))
