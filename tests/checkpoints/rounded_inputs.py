"""Products as llama.cpp computes them: the inputs of a matrix in Q8_0, Q4_0 or Q4_1 are rounded to 8 bits.

A block of 32 inputs has one scale in float16. For Q4_1, the sum of the block is in float16 too.
Source: https://github.com/ggml-org/ggml, quantize_row_q8_0 and quantize_row_q8_1 in src/ggml-cpu.
"""

import numpy as np

from tinyslm import ops
from tinyslm.checkpoints import load_model
from tinyslm.checkpoints.gguf.mapped_blocks import MappedBlocksEmbedding, MappedBlocksLinear
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, map_modules

BLOCK = 32


def half(x):
    """x rounded to float16, as float32."""
    return x.astype(np.float16).astype(np.float32)


def codes_of(x):
    """(codes before rounding (..., blocks, 32), scales (..., blocks, 1)) of inputs (..., C)."""
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = np.max(np.abs(blocks), axis=-1, keepdims=True)
    return blocks * (np.float32(127) / np.where(largest == 0, np.float32(1), largest)), largest / np.float32(127)


class RoundedInputs(LinearLayer):
    """y = round(x) W^T + b. weight: (out, in);  minima: of the blocks of Q4_1, (out, in / 32), or None."""

    weight: Array
    bias: Array | None = None
    minima: Array | None = None

    def dense_weight(self):
        """The weight matrix W, (out, in)."""
        return self.weight

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        codes, scale = codes_of(x)
        codes = np.rint(codes)
        y = ops.linear((codes * half(scale)).reshape(x.shape), self.weight, self.bias)
        if self.minima is not None:
            sums = np.sum(codes, axis=-1)  # (..., blocks)
            y = y + (half(scale[..., 0] * sums) - half(scale[..., 0]) * sums) @ self.minima.T
        return y


def with_rounded_inputs(path):
    """The decoder of a GGUF file, which rounds the inputs of all matrices in blocks, that of the logits included."""
    model = load_model(path, weights="mapped")
    is_rounded = model.head is None and isinstance(model.embedding, MappedBlocksEmbedding)
    head = RoundedInputs(model.embedding.dense_weight()) if is_rounded else model.head
    model = map_modules(lambda _, layer: _rounding(layer), model, MappedBlocksLinear)
    return model.replace(head=head) if is_rounded else model


def _rounding(layer):
    minima = None
    if layer.type_name == "Q4_1":
        blocks = layer.weight.reshape(len(layer.weight), -1, 4 + BLOCK // 2)  # scale, minimum, codes
        minima = np.ascontiguousarray(blocks[..., 2:4]).view("<f2")[..., 0].astype(np.float32)
    return RoundedInputs(layer.dense_weight(), layer.bias, minima)
