"""GGUF files, valid and damaged, and what must hold for a file that is accepted.

A second reader, that of the package `gguf`, must find the same tensors.
"""

import struct
import warnings
from dataclasses import dataclass, field

import gguf
import numpy as np

from tests.checkpoints.fuzz_bytes import damage_bytes, random_bytes
from tinyslm.checkpoints.gguf.container import TYPE_NUMBERS, TYPES, read_container
from tinyslm.errors import DataError
from tinyslm.text import decode, encode

CODES = {"B": 0, "b": 1, "H": 2, "h": 3, "I": 4, "i": 5, "f": 6, "?": 7, "Q": 10, "q": 11, "d": 12}  # {struct: type}
TEXT, ARRAY = 8, 9
SIZES = [0, 1, 2, 3, 5, 31, 32, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**40, 2**63, 2**64 - 1]
VALUES = [("I", 0), ("I", 1), ("I", 2**32 - 1), ("i", -1), ("f", float("nan")), ("f", 1e30), ("?", 1), ("Q", 2**64 - 1)]
VALUES += ["", "llama", "gpt2", "default", "\0", "x" * 5000, [], [("I", 1)], ["a", ""], ["a"] * 50, [("f", -1.0)] * 17]
C, F, LAYERS, HEADS = 32, 32, 1, 2
TEXTS = ["", "a", "ab ba", "▁", "</s>", "é漢\0", "ab " * 300]
PIECES = [
    "<unk>",
    "<s>",
    "</s>",
    "a",
    "b",
    "c",
    "ab",
    "▁",
    "▁a",
    "Ġ",
    "Ġa",
    "abc",
    "user",
    "<0x61>",
    "<0xC3>",
    "é",
    "x",
]


@dataclass
class File:
    """The parts of a GGUF file, valid or not. entries: [key, value];  tensors: [name, dimensions, type, offset]."""

    entries: list
    tensors: list
    data: bytes
    version: int = 3
    magic: bytes = b"GGUF"
    counts: list = field(default_factory=lambda: [None, None])  # in place of the true ones

    def content(self):
        """The bytes of the file."""
        true = [len(self.tensors), len(self.entries)]
        counts = [real if other is None else other for real, other in zip(true, self.counts, strict=True)]
        head = self.magic + struct.pack("<IQQ", self.version, *counts)
        head += b"".join(text_bytes(key) + value_bytes(value) for key, value in self.entries)
        for name, dimensions, kind, offset in self.tensors:
            head += text_bytes(name) + struct.pack("<I", len(dimensions))
            head += b"".join(struct.pack("<Q", size % 2**64) for size in dimensions)
            head += struct.pack("<IQ", kind, offset % 2**64)
        return head + bytes(-len(head) % 32) + self.data


def text_bytes(text):
    """A text: its length and its bytes."""
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(content)) + content


def value_bytes(value):
    """The type and the bytes of a value: a text, (code of struct, number), bytes as they are, or a list."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + text_bytes(value)
    if isinstance(value, tuple):
        return struct.pack(f"<I{value[0]}", CODES[value[0]], value[1])
    if not value:
        return struct.pack("<IIQ", ARRAY, TEXT, 0)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, TEXT, len(value)) + b"".join(map(text_bytes, value))
    code = value[0][0]
    numbers = struct.pack(f"<{len(value)}{code}", *(number for _, number in value))
    return struct.pack("<IIQ", ARRAY, CODES[code], len(value)) + numbers


def valid_file(rng):
    """A Llama of one layer with a tokenizer, in any types of tensors."""
    entries = [["general.architecture", "llama"]]
    sizes = {"block_count": LAYERS, "context_length": 64, "embedding_length": C, "feed_forward_length": F}
    sizes |= {"attention.head_count": HEADS, "rope.dimension_count": C // HEADS}
    entries += [[f"llama.{name}", ("I", size)] for name, size in sizes.items()]
    entries += [["llama.attention.layer_norm_rms_epsilon", ("f", 1e-5)]]
    entries += [[f"tokenizer.ggml.{key}", value] for key, value in tokenizer_entries(rng).items()]
    file = File(entries, [], b"")
    matrices = {
        "token_embd": (len(PIECES), C),
        "blk.0.ffn_gate": (F, C),
        "blk.0.ffn_up": (F, C),
        "blk.0.ffn_down": (C, F),
    }
    matrices |= {f"blk.0.attn_{name}": (C, C) for name in ("q", "k", "v", "output")}
    for name, shape in matrices.items():
        numbers = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.1, shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType[rng.choice(["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])]
        add_tensor(file, f"{name}.weight", shape, kind, gguf.quants.quantize(numbers, kind).tobytes())
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        add_tensor(file, f"{name}.weight", (C,), 0, np.ones(C, np.float32).tobytes())
    return file


def add_tensor(file, name, shape, kind, content):
    """Add a tensor and its data."""
    file.tensors.append([name, list(shape[::-1]), int(kind), len(file.data)])
    file.data += content + bytes(-len(content) % 32)


def tokenizer_entries(rng):
    """{key without its prefix: value} of a tokenizer of either model."""
    special = {"<unk>": 2, "<s>": 3, "</s>": 3, "user": 4, "<0x61>": 6, "<0xC3>": 6}
    entries = {"tokens": PIECES, "token_type": [("i", special.get(piece, 1)) for piece in PIECES]}
    entries |= {"bos_token_id": ("I", 1), "eos_token_id": ("I", 2), "unknown_token_id": ("I", 0)}
    if rng.random() < 0.5:
        return entries | {"model": "llama", "scores": [("f", -float(index)) for index in range(len(PIECES))]}
    pre = rng.choice(["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o"])
    return entries | {"model": "gpt2", "pre": pre, "merges": ["a b", "ab c", "Ġ a"]}


def change_entry(rng, file):
    """Another value for a key."""
    rng.choice(file.entries)[1] = rng.choice(VALUES)


def change_array(rng, file):
    """A few changes of an array, such as the tokens."""
    arrays = [entry for entry in file.entries if isinstance(entry[1], list)]
    if arrays:
        entry = rng.choice(arrays)
        values = list(entry[1])
        for _ in range(rng.choice([1, 1, 3])):
            kind, place = rng.choice(["remove", "repeat", "change", "exchange"]), rng.randrange(max(len(values), 1))
            if values and kind == "remove":
                del values[place]
            elif values and kind == "repeat":
                values.append(values[place])
            elif values and isinstance(values[place], str):
                values[place] = rng.choice(["", " ", "a", "a b", "a  b", "\0", "é", "<0x41>", "y" * 1500, "\ud800"])
            elif values:
                values[place] = (values[place][0], rng.choice([0, 1, 3, 7, 100]))
        entry[1] = values


def remove_entry(rng, file):
    """A key is missing."""
    del file.entries[rng.randrange(len(file.entries))]


def repeat_entry(rng, file):
    """A key, or another name for its value, occurs twice."""
    key, value = rng.choice(file.entries)
    file.entries.append([rng.choice([key, "general.alignment", "general.type", "split.count", b"\xff"]), value])


def claim_length(rng, file):
    """An array or text with another length than it has."""
    kind = rng.choice([struct.pack("<I", TEXT), struct.pack("<II", ARRAY, rng.choice([0, 4, 6, TEXT, ARRAY, 99]))])
    rng.choice(file.entries)[1] = kind + struct.pack("<Q", rng.choice(SIZES)) + rng.randbytes(rng.choice([0, 4, 40]))


def change_counts(rng, file):
    """Another number of tensors or entries."""
    place = rng.randrange(2)
    file.counts[place] = rng.choice([*SIZES, len(file.entries) - 1, len(file.tensors) + 1]) % 2**64


def change_tensor(rng, file):
    """Another name, shape, type or offset."""
    tensor = rng.choice(file.tensors)
    kind = rng.choice(["name", "size", "dimensions", "type", "offset", "offset", "repeat", "remove"])
    if kind == "name":
        tensor[0] = rng.choice(
            ["", "x", "blk.7.ffn_up.weight", "output.weight", "rope_freqs.weight", b"\xff", "n" * 2000]
        )
    elif kind == "size":
        tensor[1][rng.randrange(len(tensor[1]))] = rng.choice(SIZES)
    elif kind == "dimensions":
        tensor[1] = rng.choice([[], [1], tensor[1][::-1], [*tensor[1], 1], [2**32, 2**32], [2**63, 2], [1] * 9])
    elif kind == "type":
        tensor[2] = rng.choice([*TYPES, 4, 5, 24, 99, 2**32 - 1])
    elif kind == "offset":
        tensor[3] = rng.choice([*SIZES, tensor[3] + 32, tensor[3] - 32, tensor[3] + 4, rng.choice(file.tensors)[3]])
    elif kind == "repeat":
        file.tensors.append(list(tensor))
    else:
        file.tensors.remove(tensor)
        file.tensors = file.tensors or [tensor]


def change_data(rng, file):
    """Shorter, longer or other data."""
    size = len(file.data)
    file.data = rng.choice([file.data[: rng.randrange(size + 1)], file.data + bytes(32), rng.randbytes(size), b""])


def change_start(rng, file):
    """Another version or magic."""
    file.version = rng.choice([0, 1, 2, 3, 4, 2**31, 3 << 24])
    file.magic = rng.choice([b"GGUF", b"GGUF", b"GGML", b"FUGG", b""])


DAMAGES = [change_entry, change_entry, change_array, change_array, remove_entry, repeat_entry, claim_length]
DAMAGES += [change_counts, change_tensor, change_tensor, change_data, change_start]


def damaged_gguf(rng):
    """The bytes of a GGUF file that may be valid, damaged or nonsense."""
    if rng.random() < 0.03:
        return b"GGUF" + random_bytes(rng)
    file = valid_file(rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        rng.choice(DAMAGES)(rng, file)
    content = file.content()
    return damage_bytes(rng, content) if rng.random() < 0.1 else content


def check_gguf(path, model, tokenizer):
    """Raise AssertionError unless the second reader finds the same tensors, and the model and the tokenizer work."""
    expected = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    container = read_container(path)
    assert list(container.tensors) == list(expected)
    for name, entry in container.tensors.items():
        assert TYPE_NUMBERS[entry.type.name] == expected[name].tensor_type, name
        assert entry.shape == tuple(expected[name].shape[::-1].tolist()), name
        assert entry.content.tobytes() == expected[name].data.tobytes(), name
    for text in TEXTS if tokenizer else ():
        try:
            assert isinstance(decode(tokenizer, encode(tokenizer, text, vocab_size=model.config.vocab_size)), str)
        except DataError as problem:
            assert "the text" in str(problem) or "tokenizer" in str(problem), str(problem)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of threads, to which errstate does not apply
        try:
            assert model(np.zeros((1, 1), int)).shape == (1, 1, model.config.vocab_size)
        except DataError as problem:  # numbers that are not finite
            assert "cannot quantize" in str(problem) or "overflow" in str(problem), str(problem)
