"""Weights quantized by GPTQ, as AutoGPTQ and GPTQModel store them.

    qweight   (in * bits / 32, out)      codes, packed along the inputs
    qzeros    (groups, out * bits / 32)  zero points, packed along the outputs; the format "gptq" stores them less 1
    scales    (groups, out)
    g_idx     (in,)                      group of every input; may be missing if the groups are neighbouring inputs

Source: https://github.com/AutoGPTQ/AutoGPTQ (auto_gptq/nn_modules/qlinear) and https://github.com/ModelCloud/GPTQModel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import Storage
from tinyslm.checkpoints.quantized.grouped_codes import GroupedEncoding, Groups, unpack_rows, unpack_words, words_of
from tinyslm.checkpoints.quantized.parts import FLOATS, Parts, Settings, finite, groups_of, scales_named, with_encoded
from tinyslm.checkpoints.safetensors import StoredTensor

FIELDS = ("qweight", "qzeros", "scales", "g_idx")
FORMATS = ("gptq", "gptq_v2")


def read(tensors: dict[str, StoredTensor], settings: Settings) -> dict[str, Any]:
    """The tensors, with one EncodedTensor for the parts of each quantized weight."""
    bits = settings.choice("bits", (2, 3, 4, 8))
    version = settings.choice("checkpoint_format", FORMATS, "gptq", "; convert the model with GPTQModel")
    group_size = settings.group_size(-1)
    symmetric = settings.choice("sym", (True, False), True)

    def encode(parts):
        return _encode(parts, bits, group_size, symmetric, offset=1 if version == "gptq" else 0)

    return with_encoded(tensors, FIELDS, (), encode)


def _encode(parts: Parts, bits, group_size, symmetric, offset):
    qweight, words, outputs = parts.take_matrix("qweight", ("I32",))
    columns = words * 32 // bits
    group_of_input = parts.take("g_idx", ("I32", "I64"), (columns,)) if "g_idx" in parts else None
    qweight = parts.take("qweight", ("I32",), (words_of(columns, bits), outputs))
    groups = groups_of(parts, columns, group_size)
    qzeros = parts.take("qzeros", ("I32",), (groups, words_of(outputs, bits)))
    scales = parts.take("scales", FLOATS, (groups, outputs))
    storage = Storage("GPTQ", bits, scales_named(group_size), symmetric)
    return GptqEncoding((outputs, columns), storage, bits, group_of_input, groups, qweight, qzeros, scales, offset)


@dataclass(frozen=True)
class GptqEncoding(GroupedEncoding):
    """One matrix. offset: what is added to the stored zero points."""

    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor
    offset: int

    def arrays(self):
        """Codes, zero points, scales and group indices."""
        optional = () if self.group_of_input is None else (self.group_of_input,)
        return [tensor.bits for tensor in (self.qweight, self.qzeros, self.scales, *optional)]

    def groups(self, rows):
        """The codes of some rows. A stored zero point of all ones becomes 0 with the offset, as in AutoGPTQ."""
        codes = unpack_words(self.qweight.bits[:, rows].T, self.bits, self.shape[1])  # (n, in)
        half = 2 ** (self.bits - 1)
        stored = unpack_rows(self.qzeros.bits, self.bits, rows).astype(np.int32) + half  # (n, groups), from 0
        zero_point = (stored + self.offset) % (2 * half) - half
        scale = finite(self.scales.transposed(), rows)  # (n, groups)
        return Groups(codes, scale, zero_point)
