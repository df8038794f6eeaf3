"""Reading and writing of the safetensors format: a JSON header, then the values of all tensors.

    8 bytes     n, the length of the header, as a little-endian integer
    n bytes     {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {...}}
    the rest    little-endian numbers in row-major order; offsets count from here, without gaps or overlaps

Source: https://github.com/huggingface/safetensors, "Format". The file is memory-mapped, so a tensor needs memory only
when it is read. bfloat16 is the upper half of a float32 and is read as float32.
"""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.checkpoints.encoded_tensor import Storage
from tinyslm.checkpoints.json_files import LARGEST_JSON, check_file, check_not_pointer, parse_json, shown
from tinyslm.checkpoints.upcasting import TILE_BYTES, release_pages, row_slices, upcast, upcast_tiles
from tinyslm.errors import CheckpointError

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the bits; see upcast_bfloat16
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|u1",  # one byte each, 0 or 1
    "F8_E4M3": "|u1",  # the bits; see float8_numbers
    "F8_E5M2": "|u1",
}
READ_AS = {"BF16": np.float32, "BOOL": bool, "F8_E4M3": np.float32, "F8_E5M2": np.float32}  # those stored as bits
FLOAT8 = ("F8_E4M3", "F8_E5M2")
STORED_AS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}  # {dtype in config.json: dtype of the format}
FLOATING = ("F64", "F32", "F16", "BF16")
NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name not in READ_AS} | {np.dtype(bool): "BOOL"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a mapped file, not read yet. `dtype` is the format's name, such as "BF16"."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    bits: np.ndarray  # mapped from the file, read-only; those of READ_AS as unsigned integers

    rows_are_outputs: ClassVar[bool] = False  # a matrix is (out, in) or (in, out), as its family stores it

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.bits.nbytes

    @property
    def storage(self) -> Storage:
        """Number format in the file: the dtype."""
        return Storage(self.dtype, 8 * self.bits.dtype.itemsize)

    def part(self, rows: slice) -> "StoredTensor":
        """Some rows. Reads nothing."""
        return replace(self, shape=self.bits[rows].shape, bits=self.bits[rows])

    def transposed(self) -> "StoredTensor":
        """The transposed matrix. Reads nothing."""
        return replace(self, shape=self.shape[::-1], bits=self.bits.T)

    def tiles(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, these rows in float32) of a floating-point tensor, as `upcast_tiles`."""
        return upcast_tiles(self.bits, TILE_BYTES // 2)  # what is done with a tile can need arrays of its size

    def read(self, dtype: Any = None) -> np.ndarray:
        """The numbers as a new array: converted to `dtype`, or as stored if it is None.

        bfloat16 and 8-bit floating point are then float32.
        """
        array = np.empty(self.shape, self.zeros().dtype if dtype is None else dtype)
        stored, out = np.atleast_1d(self.bits, array)
        for rows in row_slices(stored):
            if self.dtype in FLOAT8:
                upcast(float8_numbers(self.dtype)[stored[rows]], out[rows])
            elif self.dtype in FLOATING:
                upcast(stored[rows], out[rows])
            else:
                np.copyto(out[rows], stored[rows], casting="unsafe")
        return array

    def zeros(self) -> np.ndarray:
        """Zeros with the shape and dtype of `read()` that need no memory. Reads nothing."""
        dtype = np.dtype(READ_AS[self.dtype]) if self.dtype in READ_AS else self.bits.dtype
        return np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), self.shape)


@functools.cache
def float8_numbers(dtype: str) -> np.ndarray:
    """The float32 number of each of the 256 bytes of an 8-bit floating-point format: (256,).

    F8_E4M3 has a sign, 4 bits of exponent with bias 7 and 3 of mantissa; all ones are NaN, and there is no infinity.
    F8_E5M2 is the upper byte of a float16.
    Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning" (arXiv 2209.05433), table 1.
    """
    bits = np.arange(256)
    if dtype == "F8_E5M2":
        return upcast((bits << 8).astype(np.uint16).view(np.float16), np.empty(256, np.float32))
    sign, exponent, mantissa = np.where(bits < 128, 1.0, -1.0), bits >> 3 & 15, bits & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return np.where(bits & 127 == 127, np.nan, sign * magnitude).astype(np.float32)


def upcast_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits (uint16) as float32, exactly: the bits followed by sixteen zeros."""
    return upcast(bits, np.empty(bits.shape, np.float32))


def round_to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of every float32, ties to even, as bits (uint16)."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16  # a carry into the exponent is correct
    quiet = (bits >> 16) | 0x40  # NaN stays NaN
    return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)


def read_safetensors(path: str | Path) -> dict[str, StoredTensor]:
    """{name: tensor} of a file, in the order of its header. Reads only the header.

    Raises CheckpointError, naming file, tensor, found and expected, for a damaged file.
    """
    path = Path(path)
    check_file(path)
    try:
        size = path.stat().st_size
        if size < 8:
            raise CheckpointError(f"{path}: has {size} bytes, expected at least the 8 of a safetensors header")
        content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror})") from problem
    check_not_pointer(path, content[:64].tobytes())
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > min(size - 8, LARGEST_JSON):
        raise CheckpointError(
            f"{path}: the header length is {length} bytes, expected at most {min(size - 8, LARGEST_JSON)}; "
            "the file is truncated or not a safetensors file"
        )
    header = parse_json(content[8 : 8 + length].tobytes(), f"{path}: header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is {shown(metadata)}, expected an object of strings")
    data = content[8 + length :]
    tensors = {name: _tensor(path, name, entry, data) for name, entry in header.items()}
    _check_coverage(path, header, len(data))
    return tensors


def _tensor(path, name, entry, data):
    def require(condition, what, found, expected):
        if not condition:
            raise CheckpointError(f"{path}: tensor {shown(name)}: {what} is {shown(found)}, expected {expected}")

    def counts(values):
        return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)

    require(isinstance(entry, dict), "its entry", entry, "an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    require(isinstance(dtype, str) and dtype in DTYPES, "dtype", dtype, f"one of {', '.join(DTYPES)}")
    require(counts(shape) and len(shape) <= 32, "shape", shape, "at most 32 sizes of at least 0")
    require(math.prod(max(n, 1) for n in shape) < 2**59, "shape", shape, "less than 2^59 numbers")
    require(counts(offsets) and len(offsets) == 2, "data_offsets", offsets, "[begin, end]")
    begin, end = offsets
    require(begin <= end <= len(data), "data_offsets", offsets, f"within the {len(data)} bytes of data; truncated?")
    expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    require(end - begin == expected, "its length", end - begin, f"{expected} bytes for {dtype} {shape}")
    return StoredTensor(path, name, dtype, tuple(shape), data[begin:end].view(DTYPES[dtype]).reshape(shape))


def _check_coverage(path, header, size):
    """Raise CheckpointError unless every byte of the data belongs to exactly one tensor."""
    position = 0
    for (begin, end), name in sorted((entry["data_offsets"], name) for name, entry in header.items()):
        if begin != position:
            problem = "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            raise CheckpointError(f"{path}: tensor {shown(name)} begins at {begin} and {problem}, expected {position}")
        position = end
    if position != size:
        raise CheckpointError(f"{path}: the tensors end at byte {position} of the data, found {size} bytes")


def write_safetensors(
    path: str | Path, tensors: dict[str, np.ndarray], stored_as: dict[str, str] | None = None
) -> None:
    """Write {name: array} atomically.

    stored_as: {name: floating dtype of the format, such as "F16"} for arrays that are converted.
    Raises CheckpointError for a dtype that the format does not have and for numbers too large for the stored dtype,
    Error if the file cannot be written.
    """
    stored_as = stored_as or {}
    pending_tensors = {
        name: pending(array, f"{path}: tensor {name!r}", stored_as.get(name)) for name, array in tensors.items()
    }
    write_tensors(path, pending_tensors)


@dataclass(frozen=True)
class PendingTensor:
    """A tensor that is computed while it is written.

    parts: returns arrays that together have the rows of the tensor, in order. Each is used before the next is computed.
    """

    dtype: str  # of the format
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


def pending(array: np.ndarray, where: str, dtype: str | None = None) -> PendingTensor:
    """An array that is written in a dtype of the format, by default its own.

    Raises CheckpointError that begins with `where` if the format does not have the dtype of the array.
    """
    array = np.asarray(array)
    own = NAMES.get(array.dtype.newbyteorder("<") if array.dtype.kind != "b" else array.dtype)
    if own is None:
        raise CheckpointError(f"{where}: dtype {array.dtype} cannot be stored")
    return PendingTensor(dtype or own, array.shape, lambda: [array])


def write_tensors(path: str | Path, tensors: dict[str, PendingTensor]) -> None:
    """Write {name: tensor} atomically, one tensor after the other. Raises the errors of `write_safetensors`."""
    # Larger dtypes first: every tensor then begins at a multiple of its item size.
    order = sorted(tensors, key=lambda name: (-np.dtype(DTYPES[tensors[name].dtype]).itemsize, name))
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in order:
        tensor = tensors[name]
        end = position + tensor.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            _write(file, tensors[name], f"{path}: tensor {name!r}")


def _write(file, tensor, where):
    """Append the numbers of a tensor to an open file. Keeps no part of it in memory."""
    written = 0
    for part in tensor.parts():
        written += file.write(_bytes(part, tensor.dtype, where))
        release_pages(part)
    if written != tensor.nbytes:
        raise CheckpointError(f"{where}: has {written} bytes, expected {tensor.nbytes}")


def is_exact(array: np.ndarray, dtype: str) -> bool:
    """Whether a floating dtype of the format, such as "F16", holds every number of an array exactly."""
    bits = _rounded(array, dtype)
    return np.array_equal(upcast_bfloat16(bits) if dtype == "BF16" else bits, array)


def _rounded(array, dtype):
    """The nearest numbers of the dtype; bfloat16 as its bits."""
    with np.errstate(over="ignore"):
        return round_to_bfloat16(array) if dtype == "BF16" else np.ascontiguousarray(array, DTYPES[dtype])


def _bytes(array, dtype, where):
    bits = _rounded(array, dtype)
    if dtype in FLOATING and array.dtype.itemsize > bits.dtype.itemsize:
        stored = upcast_bfloat16(bits) if dtype == "BF16" else bits
        if np.any(np.isinf(stored) & np.isfinite(array)):
            largest = np.max(np.abs(array), where=np.isfinite(array), initial=0)
            raise CheckpointError(f"{where}: holds {largest:.4g}, too large for {dtype}; store it as float32")
    return bits.reshape(-1).view(np.uint8)
