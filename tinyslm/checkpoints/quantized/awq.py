"""Weights quantized by AWQ in 4 bits, in the layout "gemm" of AutoAWQ.

    qweight   (in, out / 8)      codes, packed along the outputs
    qzeros    (groups, out / 8)  zero points, packed in the same way
    scales    (groups, out)

The 4-bit parts of a word, lowest first, belong to the outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight.
Source: https://github.com/casper-hansen/AutoAWQ (awq/modules/linear/gemm.py, awq/utils/packing_utils.py).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import Storage
from tinyslm.checkpoints.quantized.grouped_codes import GroupedEncoding, Groups, unpack_words
from tinyslm.checkpoints.quantized.parts import FLOATS, Parts, Settings, finite, groups_of, scales_named, with_encoded
from tinyslm.checkpoints.safetensors import StoredTensor

FIELDS = ("qweight", "qzeros", "scales")
BITS, PER_WORD = 4, 8
PART_OF_OUTPUT = (0, 4, 1, 5, 2, 6, 3, 7)  # index of the 4-bit part of each of eight outputs


def read(tensors: dict[str, StoredTensor], settings: Settings) -> dict[str, Any]:
    """The tensors, with one EncodedTensor for the parts of each quantized weight."""
    settings.choice("bits" if "bits" in settings.values else "w_bit", (BITS,), BITS)
    settings.choice("version", ("gemm", "GEMM"), "gemm", "; convert the model with AutoAWQ")
    group_size = settings.group_size(settings.values.get("q_group_size", 128))
    symmetric = not settings.choice("zero_point", (True, False), True)
    return with_encoded(tensors, FIELDS, (), lambda parts: _encode(parts, group_size, symmetric))


def _encode(parts: Parts, group_size, symmetric):
    qweight, columns, words = parts.take_matrix("qweight", ("I32",))
    outputs = words * PER_WORD
    groups = groups_of(parts, columns, group_size)
    qzeros = parts.take("qzeros", ("I32",), (groups, words))
    scales = parts.take("scales", FLOATS, (groups, outputs))
    storage = Storage("AWQ", BITS, scales_named(group_size), symmetric)
    return AwqEncoding((outputs, columns), storage, BITS, None, groups, qweight, qzeros, scales)


@dataclass(frozen=True)
class AwqEncoding(GroupedEncoding):
    """One matrix."""

    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor

    def arrays(self):
        """Codes, zero points and scales."""
        return [self.qweight.bits, self.qzeros.bits, self.scales.bits]

    def groups(self, rows):
        """The codes of some rows."""
        zero_point = _unpack(self.qzeros.bits, rows).astype(np.int32)  # (n, groups)
        scale = finite(self.scales.transposed(), rows)  # (n, groups)
        return Groups(np.ascontiguousarray(_unpack(self.qweight.bits, rows)), scale, zero_point)


def _unpack(words, rows):
    """Codes of some outputs: (k, out / 8) words -> (n, k) int8."""
    first = rows.start // PER_WORD
    some = words[:, first : -(-rows.stop // PER_WORD)]  # (k, w)
    parts = unpack_words(some, BITS, some.shape[1] * PER_WORD).reshape(len(words), -1, PER_WORD)
    codes = parts[..., PART_OF_OUTPUT].reshape(len(words), -1)  # (k, 8 w)
    return codes[:, rows.start - PER_WORD * first : rows.stop - PER_WORD * first].T
