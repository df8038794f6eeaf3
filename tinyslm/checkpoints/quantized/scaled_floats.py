"""8-bit floating-point numbers with scales: for the matrix, for each row, or for blocks of rows and inputs."""

from dataclasses import dataclass

import numpy as np

from tinyslm.checkpoints.encoded_tensor import Encoding, Storage
from tinyslm.checkpoints.quantized.parts import finite
from tinyslm.checkpoints.safetensors import StoredTensor

DTYPES = ("F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class ScaledFloatEncoding(Encoding):
    """One matrix: number = stored number * scale of its block.

    scale: (ceil(out / block_rows), ceil(in / block_columns)), or one number. The last blocks can be smaller.
    """

    shape: tuple[int, int]
    storage: Storage
    weight: StoredTensor
    scale: StoredTensor
    block_rows: int
    block_columns: int

    def arrays(self):
        """Stored numbers and scales."""
        return [self.weight.bits, self.scale.bits]

    def dequantize(self, rows):
        """The products of numbers and scales in float32."""
        numbers = self.weight.part(rows).read(np.float32)  # (n, in)
        if self.scale.bits.size == 1:
            numbers *= finite(self.scale).reshape(())
            return numbers
        first = rows.start // self.block_rows
        blocks = finite(self.scale, slice(first, -(-rows.stop // self.block_rows)))
        per_row = blocks[np.arange(rows.start, rows.stop) // self.block_rows - first]  # (n, blocks of inputs)
        numbers *= np.repeat(per_row, self.block_columns, axis=1)[:, : self.shape[1]]
        return numbers
