"""The container of a GGUF file: header, metadata and the table of its tensors.

    4 bytes    "GGUF"
    uint32     version, 2 or 3
    uint64     number of tensors
    uint64     number of metadata entries
    entries    key (a text), type of the value (uint32), value
    tensors    name (a text), number of dimensions (uint32), dimensions (uint64, rows last), type (uint32), offset
               (uint64)
    padding    to a multiple of the alignment, which is the entry "general.alignment", or 32
    data       of the tensors; offsets count from here and are multiples of the alignment

Numbers are little-endian. A text is its length in bytes (uint64) and its UTF-8 bytes.
Source: https://github.com/ggml-org/ggml, docs/gguf.md.

A damaged file can claim any number. Each count is compared with a limit and with the bytes that are left before the
entries are read. Arrays are views of the mapped file; their texts are decoded when they are needed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyslm.checkpoints.json_files import check_file, check_not_pointer, shown
from tinyslm.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 10_000  # published files have fewer than 100
MOST_TENSORS = 100_000
MOST_TEXTS = 4_000_000  # in all arrays: tokens and merges
LONGEST_NAME = 1_000  # bytes of a key, or of the name of a tensor
LONGEST_TEXT = 10_000_000  # bytes of a value, such as a chat template
MOST_DIMENSIONS = 4
SMALLEST_ENTRY, SMALLEST_TENSOR = 13, 32  # bytes
NUMBERS = {0: "|u1", 1: "|i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "|b1", 10: "<u8", 11: "<i8"}
NUMBERS |= {12: "<f8"}  # {type of a value: dtype}
TEXT, ARRAY = 8, 9  # the other types of values


class TensorType(NamedTuple):
    """A type of tensor: rows are divided into blocks of `block` numbers, each of `size` bytes."""

    name: str
    block: int
    size: int


TYPES = {  # {number in the file: type}
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
}
TYPE_NUMBERS = {entry.name: number for number, entry in TYPES.items()}


@dataclass(frozen=True)
class TextArray:
    """An array of texts in the metadata. Iteration decodes them."""

    where: str  # the file and the key, for messages
    content: Any  # ndarray, the bytes of the file
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        view = memoryview(self.content)
        for index, (start, stop) in enumerate(self.spans()):
            try:
                yield str(view[start:stop], "utf-8")
            except UnicodeDecodeError:
                text = shown(bytes(view[start:stop]))
                raise CheckpointError(f"{self.where}: text {index} is not UTF-8: {text}") from None

    def spans(self) -> Iterator[tuple[int, int]]:
        """(first byte, end) of each text. Raises CheckpointError for a text that ends outside the file."""
        view, stop = memoryview(self.content), self.start
        for index in range(self.count):
            start = stop + 8
            stop = start + int.from_bytes(view[start - 8 : start], "little")
            if stop > len(view):
                raise CheckpointError(f"{self.where}: text {index} ends outside the file; damaged or truncated?")
            yield start, stop


class Entry(NamedTuple):
    """One tensor of the table, not read yet."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    content: np.ndarray  # bytes, mapped from the file


@dataclass(frozen=True)
class Container:
    """The content of a GGUF file. metadata: {key: number, text, ndarray or TextArray};  tensors: in their order."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Entry]


def shortest_decimal(value: np.float32) -> float:
    """The shortest decimal number that float32 rounds to this value: 1e-05, where the exact value is 9.9999997e-06."""
    return float(str(value))


def is_gguf(path: str | Path) -> bool:
    """Whether a path is a file that begins like a GGUF file."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_container(path: str | Path) -> Container:
    """The metadata and the table of tensors. Reads no numbers of tensors.

    Raises CheckpointError, naming file, entry, found and expected, for a damaged file.
    """
    path = Path(path)
    check_file(path)
    try:
        if not path.stat().st_size:
            raise CheckpointError(f"{path}: is empty, expected a GGUF file")
        content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror})") from problem
    start = content[:64].tobytes()
    check_not_pointer(path, start)
    if not start.startswith(MAGIC):
        raise CheckpointError(f"{path}: begins with {shown(start[:4])}, expected {MAGIC!r}; it is not a GGUF file")
    cursor = _Cursor(path, content, len(MAGIC))
    version = cursor.number(4, "the version")
    if version not in VERSIONS:
        other = " (big-endian)" if version >> 24 in VERSIONS and not version & 0xFFFFFF else ""
        raise CheckpointError(
            f"{path}: GGUF version {version}{other}, expected {' or '.join(map(str, VERSIONS))}, little-endian; "
            "convert the model again"
        )
    tensor_count = cursor.count("the number of tensors", MOST_TENSORS, SMALLEST_TENSOR)
    entry_count = cursor.count("the number of metadata entries", MOST_ENTRIES, SMALLEST_ENTRY)
    metadata: dict[str, Any] = {}
    for _ in range(entry_count):
        key = cursor.text("a key", LONGEST_NAME)
        if key in metadata:
            raise CheckpointError(f"{path}: the key {shown(key)} occurs twice, expected once")
        metadata[key] = cursor.value(f"the value of {shown(key)}")
    table: dict[str, tuple[TensorType, tuple[int, ...], int]] = {}
    for _ in range(tensor_count):
        name, *entry = _read_tensor(cursor)
        if name in table:
            raise CheckpointError(f"{path}: the tensor {shown(name)} occurs twice, expected once")
        table[name] = tuple(entry)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise CheckpointError(f"{path}: general.alignment is {shown(alignment)}, expected a power of two up to 2^20")
    data = content[-(-cursor.position // alignment) * alignment :]
    return Container(path, metadata, _located(path, table, data, alignment))


def _read_tensor(cursor):
    """(name, type, shape, offset) of the next entry of the table."""
    name = cursor.text("the name of a tensor", LONGEST_NAME)
    where = f"{cursor.path}: tensor {shown(name)}"
    dimensions = cursor.number(4, "a number of dimensions")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise CheckpointError(f"{where}: has {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}")
    shape = tuple(cursor.number(10, "a dimension") for _ in range(dimensions))[::-1]
    if not all(shape) or math.prod(shape) >= 2**59:
        raise CheckpointError(f"{where}: shape is {shape}, expected sizes of at least 1 and less than 2^59 numbers")
    number = cursor.number(4, "the type of a tensor")
    if number not in TYPES:
        names = ", ".join(entry.name for entry in TYPES.values())
        raise CheckpointError(f"{where}: type {number} is not supported, expected one of {names}")
    found = TYPES[number]
    if shape[-1] % found.block:
        raise CheckpointError(
            f"{where}: rows have {shape[-1]} numbers, expected a multiple of {found.block} ({found.name})"
        )
    if found.block > 1 and dimensions < 2:
        raise CheckpointError(f"{where}: {found.name} with one dimension is not supported, expected a matrix")
    return name, found, shape, cursor.number(10, "the offset of a tensor")


def _located(path, table, data, alignment):
    """{name: Entry}. Raises CheckpointError for a tensor that is outside the data or overlaps another."""
    entries = {}
    for name, (kind, shape, offset) in table.items():
        end = offset + math.prod(shape) // kind.block * kind.size
        if offset % alignment:
            raise CheckpointError(
                f"{path}: tensor {shown(name)}: offset is {offset}, expected a multiple of the alignment {alignment}"
            )
        if end > len(data):
            raise CheckpointError(
                f"{path}: tensor {shown(name)}: ends at byte {end} of the data, but there are {len(data)}; truncated?"
            )
        entries[name] = Entry(name, kind, shape, data[offset:end])
    position, before = 0, ""
    for offset, name in sorted((offset, name) for name, (_, _, offset) in table.items()):
        if offset < position:
            raise CheckpointError(f"{path}: tensor {shown(name)} overlaps the tensor {shown(before)}")
        position, before = offset + len(entries[name].content), name
    return entries


class _Cursor:
    """A position in the mapped bytes. Methods read a value and advance. Raises CheckpointError at the end."""

    def __init__(self, path, content, position):
        self.path, self.content, self.position = path, content, position
        self.texts = 0  # in arrays so far

    def take(self, size, what):
        """The next bytes."""
        if size > len(self.content) - self.position:
            left = len(self.content) - self.position
            raise CheckpointError(f"{self.path}: {what} needs {size} bytes, but {left} are left; truncated?")
        self.position += size
        return self.content[self.position - size : self.position]

    def number(self, kind, what):
        """A number of a type of NUMBERS."""
        dtype = np.dtype(NUMBERS[kind])
        value = self.take(dtype.itemsize, what).view(dtype)[0]
        return shortest_decimal(value) if dtype == np.float32 else value.item()

    def count(self, what, most=2**63, smallest=1):
        """A number of things of at least `smallest` bytes each."""
        count = self.number(10, what)
        allowed = min(most, (len(self.content) - self.position) // smallest)
        if count > allowed:
            raise CheckpointError(f"{self.path}: {what} is {count}, expected at most {allowed}; damaged or truncated?")
        return count

    def text(self, what, longest):
        """A text of at most `longest` bytes."""
        content = self.take(self.count(f"the length of {what}", longest), what).tobytes()
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: {what} is not UTF-8: {shown(content)}") from None

    def value(self, what):
        """A metadata value of any type."""
        kind = self.number(4, f"the type of {what}")
        if kind in NUMBERS:
            return self.number(kind, what)
        if kind == TEXT:
            return self.text(what, LONGEST_TEXT)
        if kind != ARRAY:
            raise CheckpointError(f"{self.path}: {what} has the unknown type {kind}")
        kind = self.number(4, f"the type of {what}")
        if kind in NUMBERS:
            dtype = np.dtype(NUMBERS[kind])
            count = self.count(f"the length of {what}", smallest=dtype.itemsize)
            return self.take(count * dtype.itemsize, what).view(dtype)
        if kind != TEXT:
            raise CheckpointError(f"{self.path}: {what} is an array of type {kind}, expected numbers or texts")
        count = self.count(f"the length of {what}", MOST_TEXTS - self.texts, smallest=8)
        array = TextArray(f"{self.path}: {what}", self.content, self.position, count)
        for _, stop in array.spans():
            self.position = stop
        self.texts += count
        return array
