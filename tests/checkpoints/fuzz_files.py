"""Safetensors files, valid ones and damaged ones, from a seeded `random.Random`."""

import json
import math
from dataclasses import dataclass

from tests.checkpoints.fuzz_bytes import damage_bytes, random_bytes
from tests.checkpoints.fuzz_json import (
    DTYPE_NAMES,
    OTHER_DTYPES,
    TEXTS,
    Pairs,
    Raw,
    damage_value,
    json_bytes,
    odd_number,
    odd_value,
    pairs_of,
)

ITEM_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
ITEM_SIZES |= {"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}


@dataclass
class File:
    """A safetensors file in its parts, so that one can be changed and the others still fit."""

    header: Pairs
    data: bytes
    before: bytes = b""  # in the header, around the JSON
    after: bytes = b""
    length: int | None = None  # what the first eight bytes say; None: the truth
    ascii_only: bool = True

    def content(self):
        text = self.before + json_bytes(self.header, self.ascii_only) + self.after
        length = len(text) if self.length is None else self.length
        return (length % 2**64).to_bytes(8, "little") + text + self.data

    def tensors(self):
        """The entries that still have the form of a tensor."""
        return [entry for name, entry in self.header if isinstance(entry, Pairs) and name != "__metadata__"]


def parsed_file(content):
    """The File of the bytes of a valid file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return File(pairs_of(json.loads(content[8:end])), content[end:])


def valid_file(rng):
    """A few small tensors of any dtype, in any order."""
    names = rng.sample(["a", "b.weight", "ü", 'quote"', "\ud800", "", "layers.0.x", "null\0"], rng.randrange(6))
    header, position = Pairs(), 0
    for name in names:
        dtype = rng.choice(DTYPE_NAMES)
        shape = [rng.choice([0, 1, 1, 2, 2, 3, 4]) for _ in range(rng.randrange(4))]
        end = position + math.prod(shape) * ITEM_SIZES[dtype]
        entry = Pairs([["dtype", dtype], ["shape", shape], ["data_offsets", [position, end]]])
        rng.shuffle(entry)
        header.append([name, entry])
        position = end
    rng.shuffle(header)
    if rng.random() < 0.3:
        header.insert(0, ["__metadata__", Pairs([["format", "pt"]])])
    return File(header, rng.randbytes(position), after=b" " * rng.choice([0, 0, 3, 8]))


def _offsets(rng, file):
    """The data_offsets of some tensor that has two of them, or a pair that belongs to none."""
    pairs = [entry.get("data_offsets") for entry in file.tensors()]
    pairs = [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    pairs = [pair for pair in pairs if all(type(number) is int for number in pair)]
    return rng.choice(pairs) if pairs else [0, 0]


def shift_tensor(rng, file):
    """One tensor begins and ends elsewhere: it overlaps, or leaves a hole."""
    pair, by = _offsets(rng, file), rng.choice([1, -1, 4, -4, 8, -8, 2**32, 2**63, -(2**63)])
    pair[:] = [pair[0] + by, pair[1] + by]


def move_end(rng, file):
    pair = _offsets(rng, file)
    pair[rng.randrange(2)] += rng.choice([1, -1, 4, -4, 8, -8, 2**32, 2**64])


def swap_offsets(rng, file):
    one, other = _offsets(rng, file), _offsets(rng, file)
    if rng.random() < 0.5:
        one[:], other[:] = list(other), list(one)  # changes nothing that can be seen if the lengths agree
    else:
        one.reverse()


def share_offsets(rng, file):
    """Two tensors on the same bytes."""
    one, other = _offsets(rng, file), _offsets(rng, file)
    one[:] = other


def open_hole(rng, file):
    """Everything from some place on moves, and the data with it: only the hole is wrong."""
    hole, start = rng.choice([1, 4, 8]), rng.randrange(len(file.data) + 1)
    for entry in file.tensors():
        pair = entry.get("data_offsets")
        if isinstance(pair, list) and pair and type(pair[0]) is int and pair[0] >= start:
            pair[:] = [number + hole if type(number) is int else number for number in pair]
    file.data = file.data[:start] + rng.randbytes(hole) + file.data[start:]


def change_dtype(rng, file):
    if file.tensors():
        name = rng.choice(DTYPE_NAMES if rng.random() < 0.5 else OTHER_DTYPES)
        rng.choice(file.tensors()).set("dtype", name)


def change_shape(rng, file):
    """Another shape; in some cases one of the same size, which is no damage."""
    if file.tensors():
        entry = rng.choice(file.tensors())
        shape = entry.get("shape")
        shape = list(shape) if isinstance(shape, list) else [1]
        kind = rng.choice(["reverse", "add one", "many", "odd", "huge", "factors"])
        if kind == "odd":
            shape.insert(rng.randrange(len(shape) + 1), odd_number(rng))
        elif kind == "factors":  # their product is 0, or the true size modulo 2**64
            shape = rng.choice([[0, 2**62], [2**62, 0, 2**62], [2**32, 2**32, *shape], [2**63, 2, *shape]])
        else:
            shape = {"reverse": shape[::-1], "add one": [*shape, 1], "many": shape + [1] * 33, "huge": [2**60]}[kind]
        entry.set("shape", shape)


def change_number(rng, file):
    if file.tensors():
        entry = rng.choice(file.tensors())
        numbers = entry.get(rng.choice(["shape", "data_offsets"]))
        if type(numbers) is list and numbers:
            numbers[rng.randrange(len(numbers))] = odd_number(rng)


def repeat_tensor(rng, file):
    """The same entry again, under the same name or another."""
    if file.header:
        name, entry = rng.choice(file.header)
        file.header.append([rng.choice([name, *TEXTS]), entry])


def exchange_entries(rng, file):
    if file.header:
        one, other = rng.choice(file.header), rng.choice(file.header)
        one[1], other[1] = other[1], one[1]


def change_metadata(rng, file):
    value = odd_value(rng) if rng.random() < 0.5 else Pairs([[rng.choice(TEXTS), odd_value(rng)]])
    file.header.set("__metadata__", value)


def change_length(rng, file):
    true = len(file.content()) - 8 - len(file.data)
    near = [true + step for step in (-8, -1, 1, 2, 8)]
    file.length = rng.choice([*near, 0, 1, len(file.content()), 10**8, 10**8 + 1, 2**32, 2**60, 2**63, 2**64 - 1])


def change_data(rng, file):
    kind = rng.choice(["longer", "shorter", "none", "others"])
    if kind == "longer":
        file.data += rng.randbytes(rng.choice([1, 4, 8, 100]))
    elif kind == "shorter":
        file.data = file.data[: rng.randrange(len(file.data) + 1)]
    else:
        file.data = b"" if kind == "none" else rng.randbytes(len(file.data))


def change_padding(rng, file):
    odd = [b" ", b"\n\t ", b"\0", b"\xef\xbb\xbf", b"\xff", b"//", b",", b"{}", b"[", b'"']
    if rng.random() < 0.5:
        file.before = rng.choice(odd)
    else:
        file.after = rng.choice(odd)


def change_encoding(rng, file):
    file.ascii_only = False
    if rng.random() < 0.2:
        text = json_bytes(file.header).decode("utf-8", "surrogatepass")
        file.header = Raw("")
        file.before = text.encode(rng.choice(["utf-16", "utf-32", "utf-16-le"]))


def damage_header(rng, file):
    damage_value(rng, file.header)


DAMAGES = [shift_tensor, move_end, swap_offsets, share_offsets, open_hole, change_dtype, change_shape, change_number]
DAMAGES += [repeat_tensor, exchange_entries, change_metadata, change_length, change_data, change_padding]
DAMAGES += [change_encoding, damage_header, damage_header, damage_header]


def heavy_header(rng):
    """A header whose values cost Python much more memory than bytes: the worst known ones."""
    pieces = ["[]", "{}", '{"":0}', '{"":{"":{"":{}}}}', "1e1", '"\u0100"', "[" * 500 + "]" * 500, "[" * 6 + "]" * 6]
    piece, size = rng.choice(pieces), rng.choice([10_000, 100_000])
    if rng.random() < 0.5:
        values = Raw("[" + ",".join([piece] * (size // len(piece))) + "]")
        return File(Pairs([["a", values]]), b"")
    entry = Pairs([["dtype", "U8"], ["shape", [0]], ["data_offsets", [0, 0]]])
    value = rng.choice([entry, "", Pairs(), 0, Raw(piece)])
    pairs = Pairs([str(number), value] for number in range(size // (20 + len(piece))))
    return File(rng.choice([pairs, Pairs([["__metadata__", pairs]])]), b"")


def damaged_content(rng, file):
    """The bytes of a file after a few changes, or after none."""
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2, 3])):
        if isinstance(file.header, Pairs):
            rng.choice(DAMAGES)(rng, file)
    content = file.content()
    for _ in range(rng.choice([0, 0, 0, 0, 0, 0, 1, 2])):
        content = damage_bytes(rng, content)
    return content


def damaged_file(rng):
    """The bytes of a safetensors file that may be valid, damaged or nonsense."""
    kind = rng.random()
    if kind < 0.05:
        return random_bytes(rng)
    return heavy_header(rng).content() if kind < 0.055 else damaged_content(rng, valid_file(rng))
