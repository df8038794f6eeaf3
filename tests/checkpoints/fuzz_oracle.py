"""A second reader of safetensors: slow, strict, without NumPy's dtypes, and sharing no code with the first.

It follows https://github.com/huggingface/safetensors, "Format", and the two limits that tinyslm states: at most 32
axes, and less than 2^59 numbers even where another size is 0.
"""

import json
import struct

LETTERS = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "I8": "b"}
LETTERS |= {"U64": "Q", "U32": "I", "U16": "H", "U8": "B", "BOOL": "?", "BF16": "H", "F8_E4M3": "B", "F8_E5M2": "B"}


class Invalid(Exception):
    """The content is not a valid safetensors file."""


def demand(condition, reason):
    if not condition:
        raise Invalid(reason)


def unique(pairs):
    demand(len({name for name, _ in pairs}) == len(pairs), "a key occurs twice")
    return dict(pairs)


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def decode(content):
    """{name: (dtype, shape, flat list of numbers)} of the bytes of a file. Raises Invalid."""
    demand(len(content) >= 8, "too short")
    (length,) = struct.unpack("<Q", content[:8])
    demand(length <= min(len(content) - 8, 100_000_000), "header too long")
    try:
        header = json.loads(str(content[8 : 8 + length], "utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as problem:
        raise Invalid("not JSON") from problem
    demand(isinstance(header, dict), "not an object")
    metadata = header.pop("__metadata__", {})
    demand(isinstance(metadata, dict), "metadata is not an object")
    demand(all(isinstance(value, str) for value in metadata.values()), "metadata are not texts")
    data = content[8 + length :]
    owners = [0] * len(data)
    tensors = {name: decode_tensor(entry, data, owners) for name, entry in header.items()}
    demand(owners == [1] * len(data), "a byte without owner, or with two")
    edges = {begin for _, begin, end, _, _ in tensors.values() if begin < end} | {len(data)}
    for _, begin, _, _, _ in tensors.values():  # an empty tensor owns nothing, but it may not lie within another
        demand(begin in edges, "an empty tensor within another")
    return {name: (dtype, shape, numbers) for name, (dtype, _, _, shape, numbers) in tensors.items()}


def decode_tensor(entry, data, owners):
    demand(isinstance(entry, dict), "the entry is not an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    demand(isinstance(dtype, str) and dtype in LETTERS, "dtype")
    demand(isinstance(shape, list) and all(map(is_count, shape)) and len(shape) <= 32, "shape")
    demand(isinstance(offsets, list) and all(map(is_count, offsets)) and len(offsets) == 2, "offsets")
    begin, end = offsets
    demand(begin <= end <= len(data), "out of range")
    size, without_zeros = 1, 1
    for axis in shape:
        size, without_zeros = size * axis, without_zeros * (axis or 1)
    demand(without_zeros < 2**59, "too many numbers")
    width = struct.calcsize("<" + LETTERS[dtype])
    demand(size * width == end - begin, "length")
    for place in range(begin, end):
        owners[place] += 1
    piece = data[begin:end]
    if dtype == "BF16":  # the upper half of a float32
        wide = b"".join(b"\0\0" + piece[i : i + 2] for i in range(0, len(piece), 2))
        numbers = list(struct.unpack(f"<{size}f", wide))
    elif dtype == "F8_E5M2":  # the upper half of a float16
        numbers = list(struct.unpack(f"<{size}e", b"".join(bytes([0, byte]) for byte in piece)))
    elif dtype == "F8_E4M3":
        numbers = [decode_e4m3(byte) for byte in piece]
    else:
        numbers = list(struct.unpack(f"<{size}{LETTERS[dtype]}", piece))
    return dtype, begin, end, tuple(shape), numbers


def decode_e4m3(byte):
    """A sign, 4 bits of exponent and 3 bits of mantissa; NaN if all of the last seven are ones."""
    sign = -1.0 if byte >= 128 else 1.0
    exponent, mantissa = byte % 128 // 8, byte % 8
    if (exponent, mantissa) == (15, 7):
        return float("nan")
    return sign * (mantissa / 512 if exponent == 0 else (8 + mantissa) * 2.0**exponent / 1024)
