"""Weights quantized by bitsandbytes: NF4 and FP4 in blocks, and LLM.int8().

    weight                                   codes of 4 bits, row after row, two in a byte, the first in the upper half
    weight.absmax                            scale of each block of codes; float32, or uint8 ("nested")
    weight.quant_map                         (16,) level of each code
    weight.quant_state.bitsandbytes__nf4     JSON: {"blocksize": 64, "shape": [out, in], ...}; or ..._fp4
    weight.nested_absmax, .nested_quant_map  scale of each block of nested scales, and the level of each of 256 codes

    weight, SCB, weight_format               (out, in) int8 codes, (out,) largest magnitude of each row, and 0

Source: https://github.com/bitsandbytes-foundation/bitsandbytes (functional.py, class QuantState; nn/modules.py).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import AffineEncoding, Encoding, Storage
from tinyslm.checkpoints.json_files import parse_json, shown
from tinyslm.checkpoints.quantized.parts import FLOATS, Parts, Settings, finite, with_encoded
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.compression.quantization import AbsmaxCodebookLinear, OutlierLinear, QuantizedArray
from tinyslm.errors import CheckpointError

STATES = {f"weight.quant_state.bitsandbytes__{kind}": kind for kind in ("nf4", "fp4")}  # {field: kind of codes}
ABSMAX, LEVELS = "weight.absmax", "weight.quant_map"
NESTED_ABSMAX, NESTED_LEVELS = "weight.nested_absmax", "weight.nested_quant_map"
FIELDS = (*STATES, ABSMAX, LEVELS, NESTED_ABSMAX, NESTED_LEVELS, "SCB", "weight_format")
LARGEST_STATE = 10_000  # bytes of JSON
LARGEST_BLOCK = 2**20
LARGEST = 1e30  # of numbers in JSON
THRESHOLD = 6.0  # default of llm_int8_threshold


def read(tensors: dict[str, StoredTensor], settings: Settings) -> dict[str, Any]:
    """The tensors, with one EncodedTensor for the parts of each quantized weight."""
    threshold = settings.number("llm_int8_threshold", 0, LARGEST, THRESHOLD)

    def encode(parts):
        return _encode_int8(parts, threshold) if "SCB" in parts else _encode_4bit(parts)

    return with_encoded(tensors, FIELDS, ("I8", "U8"), encode)


def _encode_int8(parts, threshold):
    weight, rows, columns = parts.take_matrix("weight", ("I8",))
    scale = parts.take("SCB", ("F32",), (rows,))
    if "weight_format" in parts:
        layout = parts.take("weight_format", ("U8",), ())
        if layout.read() != 0:
            raise CheckpointError(
                f"{layout.file}: tensor {shown(layout.name)} is {layout.read()}, expected 0 (row-major); save the "
                "model again with a newer bitsandbytes"
            )
    return Int8Encoding((rows, columns), Storage("LLM.int8", 8, "row", True), weight, scale, threshold)


@dataclass(frozen=True)
class Int8Encoding(AffineEncoding):
    """One matrix of LLM.int8(): number = code * SCB / 127. threshold: above which an input is an outlier."""

    shape: tuple[int, int]
    storage: Storage
    weight: StoredTensor
    scale: StoredTensor
    threshold: float

    def arrays(self):
        """Codes and scales."""
        return [self.weight.bits, self.scale.bits]

    def codes(self, rows):
        """The codes of some rows, with a scale per row."""
        scale = finite(self.scale, rows)[:, None] * np.float32(1 / 127)  # (n, 1)
        return QuantizedArray(self.weight.part(rows).read(), scale)

    def layer(self, rows, bias):
        """An `OutlierLinear` without stored columns: outlier inputs are found in each product."""
        weight, count = self.codes(rows), rows.stop - rows.start
        columns, outliers = np.zeros(0, np.int32), np.zeros((count, 0), np.float32)
        return OutlierLinear(weight.codes, weight.scale, columns, outliers, bias, self.threshold)


def _encode_4bit(parts: Parts):
    field = next((field for field in STATES if field in parts), next(iter(STATES)))
    kind, stored = STATES[field], parts.take(field, ("U8",), (None,))
    where = f"{stored.file}: tensor {shown(stored.name)}"
    if stored.nbytes > LARGEST_STATE:
        raise CheckpointError(f"{where}: has {stored.nbytes} bytes, expected JSON of at most {LARGEST_STATE}")
    state = Settings(parse_json(stored.read().tobytes(), where), f"{where}: ")
    shape = _shape(state)
    block = state.integer("blocksize", 1, LARGEST_BLOCK)
    weight = parts.take("weight", ("U8", "I8", "F16", "BF16", "F32"))
    numbers = shape[0] * shape[1]
    if weight.nbytes != -(-numbers // 2):
        raise CheckpointError(
            f"{weight.file}: tensor {shown(weight.name)} has {weight.nbytes} bytes, expected {-(-numbers // 2)} for a "
            f"matrix of {shape}"
        )
    absmax = parts.take(ABSMAX, ("F32", "U8"), (-(-numbers // block),))
    levels = parts.take(LEVELS, ("F32",), (16,))
    nested = None
    if absmax.dtype == "U8":
        nested_block = state.integer("nested_blocksize", 1, LARGEST_BLOCK)
        offset = state.number("nested_offset", -LARGEST, LARGEST)
        nested = NestedScales(
            parts.take(NESTED_ABSMAX, FLOATS, (-(-absmax.shape[0] // nested_block),)),
            parts.take(NESTED_LEVELS, ("F32",), (256,)),
            nested_block,
            offset,
        )
    storage = Storage(kind.upper(), 4, f"blocks of {block}" + (", nested" if nested else ""))
    return Float4Encoding(shape, storage, weight, absmax, levels, block, nested)


def _shape(state):
    shape = state.values.get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise CheckpointError(f"{state.prefix}shape is {shown(shape)}, expected two whole numbers above 0")
    return tuple(shape)


@dataclass(frozen=True)
class NestedScales:
    """Scales in 8 bits ("double quantization"): scale = level * absmax of its block + offset."""

    absmax: StoredTensor
    levels: StoredTensor
    block: int
    offset: float


@dataclass(frozen=True)
class Float4Encoding(Encoding):
    """One matrix in 4 bits: number = level * scale of its block. The blocks continue from row to row."""

    shape: tuple[int, int]
    storage: Storage
    weight: StoredTensor
    absmax: StoredTensor
    levels: StoredTensor
    block: int
    nested: NestedScales | None

    def arrays(self):
        """Codes, scales and levels."""
        nested = (self.nested.absmax, self.nested.levels) if self.nested else ()
        return [tensor.bits for tensor in (self.weight, self.absmax, self.levels, *nested)]

    def dequantize(self, rows):
        """level * scale in float32."""
        start, stop = (row * self.shape[1] for row in (rows.start, rows.stop))
        content = self._bytes()[start // 2 : -(-stop // 2)]
        codes = np.stack([content >> 4, content & 15], axis=-1).reshape(-1)  # from an even index
        codes = codes[start % 2 :][: stop - start]
        first = start // self.block
        scales = np.repeat(self.scales(first, -(-stop // self.block)), self.block)
        numbers = finite(self.levels)[codes] * scales[start - first * self.block :][: stop - start]
        return numbers.reshape(-1, self.shape[1])

    def layer(self, rows, bias):
        """An `AbsmaxCodebookLinear`; None if a block belongs to two rows."""
        columns = self.shape[1]
        if columns % self.block or columns % 2:
            return None
        content = self._bytes()[rows.start * columns // 2 : rows.stop * columns // 2]
        codes = (content >> 4 | content << 4).reshape(-1, columns // 2)  # the first code in the lower half
        blocks = columns // self.block
        scales = self.scales(rows.start * blocks, rows.stop * blocks).reshape(-1, blocks)
        return AbsmaxCodebookLinear(codes, finite(self.levels), scales, bias, columns, self.block)

    def scales(self, first, stop):
        """Scales of some blocks, float32."""
        if self.nested is None:
            return finite(self.absmax, slice(first, stop))
        nested, codes = self.nested, self.absmax.bits[first:stop]
        steps = finite(nested.absmax)[np.arange(first, first + len(codes)) // nested.block]
        return finite(nested.levels)[codes] * steps + np.float32(nested.offset)

    def _bytes(self):
        return self.weight.bits.reshape(-1).view(np.uint8)
