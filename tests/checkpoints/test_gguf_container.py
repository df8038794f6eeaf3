"""Damaged GGUF files: one line that says what is wrong, in little time and memory."""

import random
import struct
import tracemalloc

import numpy as np
import pytest

from tests.checkpoints.fuzz_gguf import ARRAY, TEXT, File, add_tensor, valid_file
from tests.commands.files import assert_one_line
from tinyslm.checkpoints import load_model, stored_tensors
from tinyslm.checkpoints.gguf import container
from tinyslm.checkpoints.gguf.container import read_container
from tinyslm.cli import main
from tinyslm.errors import CheckpointError


def small_file():
    """Two entries, and two matrices of 4 rows of 8 numbers."""
    file = File(
        [["general.architecture", "llama"], ["a.list", [("i", 1), ("i", -2)]], ["a.texts", ["x", "é", ""]]], [], b""
    )
    add_tensor(file, "one", (4, 8), 0, np.arange(32, dtype=np.float32).tobytes())
    add_tensor(file, "two", (4, 8), 1, np.ones(32, np.float16).tobytes())
    return file


def write(path, file):
    path.write_bytes(file if isinstance(file, bytes) else file.content())
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_is_read_as_it_is(tmp_path, version):
    file = small_file()
    file.version = version
    found = read_container(write(tmp_path / "model.gguf", file))
    assert list(found.metadata) == ["general.architecture", "a.list", "a.texts"]
    assert found.metadata["a.list"].tolist() == [1, -2] and list(found.metadata["a.texts"]) == ["x", "é", ""]
    assert {name: (entry.type.name, entry.shape) for name, entry in found.tensors.items()} == {
        "one": ("F32", (4, 8)),
        "two": ("F16", (4, 8)),
    }
    assert found.tensors["one"].content.tobytes() == np.arange(32, dtype=np.float32).tobytes()


def test_another_alignment(tmp_path):
    """The data begins at a multiple of it, and so does each tensor."""
    file = small_file()
    file.entries.append(["general.alignment", ("I", 128)])
    head = file.content()[: -len(file.data)]
    content = head + bytes(-len(head) % 128) + file.data
    found = read_container(write(tmp_path / "model.gguf", content))
    assert found.tensors["one"].content.tobytes() == np.arange(32, dtype=np.float32).tobytes()
    file.entries[-1][1] = ("I", 256)
    with pytest.raises(CheckpointError, match="tensor 'two': offset is 128, expected a multiple of the alignment 256"):
        read_container(write(tmp_path / "model.gguf", file.content() + bytes(256)))


def claimed(kind, count):
    """The bytes of an array that claims a number of elements and has none."""
    return struct.pack("<IIQ", ARRAY, kind, count)


def with_entry(value):
    return lambda file: file.entries.append(["key", value])


def with_tensor(index, value):
    """A change of the second tensor: of its name, dimensions, type or offset."""
    return lambda file: file.tensors[1].__setitem__(index, value)


def with_counts(tensors=None, entries=None):
    return lambda file: setattr(file, "counts", [tensors, entries])


HOSTILE = {  # {name: (change of a file, part of the message)}
    "a billion keys": (with_counts(entries=10**9), "number of metadata entries is 1000000000, expected at most"),
    "keys beyond all": (with_counts(entries=2**64 - 1), "number of metadata entries is 18446744073709551615"),
    "a billion tensors": (with_counts(tensors=10**9), "number of tensors is 1000000000, expected at most"),
    "an endless array": (with_entry(claimed(4, 10**12)), "the length of the value of 'key' is 1000000000000, expected"),
    "endless texts": (with_entry(claimed(TEXT, 10**12)), "the length of the value of 'key' is 1000000000000, expected"),
    "an overflowing array": (with_entry(claimed(10, 2**61)), "the length of the value of 'key' is 2305843009213693952"),
    "nested arrays": (with_entry(claimed(ARRAY, 1)), "value of 'key' is an array of type 9, expected numbers or texts"),
    "an endless text": (with_entry(struct.pack("<IQ", TEXT, 2**40)), "length of the value of 'key' is 1099511627776"),
    "an unknown type": (with_entry(struct.pack("<I", 77)), "the value of 'key' has the unknown type 77"),
    "a repeated key": (lambda file: file.entries.append(file.entries[0]), "key 'general.architecture' occurs twice"),
    "a long key": (
        lambda file: file.entries.append(["k" * 3000, "x"]),
        "the length of a key is 3000, expected at",
    ),
    "a key not in UTF-8": (lambda file: file.entries.append([b"\xff", "x"]), r"a key is not UTF-8: b'\\xff'"),
    "a repeated tensor": (with_tensor(0, "one"), "the tensor 'one' occurs twice, expected once"),
    "overlapping tensors": (with_tensor(3, 96), "tensor 'two' overlaps the tensor 'one'"),
    "the same data": (with_tensor(3, 0), "overlaps the tensor"),
    "an offset outside": (with_tensor(3, 2**40), "'two': ends at byte 1099511627840 of the data, but there are 192"),
    "an odd offset": (with_tensor(3, 130), "tensor 'two': offset is 130, expected a multiple of the alignment 32"),
    "overflowing sizes": (with_tensor(1, [2**32, 2**32]), r"shape is \(4294967296, 4294967296\), expected sizes"),
    "a size of zero": (with_tensor(1, [0, 2**62]), r"tensor 'two': shape is \(4611686018427387904, 0\), expected"),
    "no dimensions": (with_tensor(1, []), "tensor 'two': has 0 dimensions, expected 1 to 4"),
    "an unknown type of tensor": (with_tensor(2, 4), "tensor 'two': type 4 is not supported, expected one of F32"),
    "half a block": (with_tensor(2, 8), r"'two': rows have 8 numbers, expected a multiple of 32 \(Q8_0\)"),
    "no data": (lambda file: setattr(file, "data", b""), "'one': ends at byte 128 of the data, but there are 0"),
    "another version": (lambda file: setattr(file, "version", 1), "GGUF version 1, expected 2 or 3, little-endian"),
    "big-endian": (lambda file: setattr(file, "version", 3 << 24), r"version 50331648 \(big-endian\), expected 2 or 3"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    change, message = HOSTILE[name]
    file = small_file()
    change(file)
    path = write(tmp_path / "model.gguf", file)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=f"model.gguf: .*{message}"):
            read_container(path)
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_tensors_are_located_to_the_byte(tmp_path):
    """With the alignment 1. The second tensor begins where the first ends, and ends with the file."""
    file = small_file()
    file.entries.append(["general.alignment", ("I", 1)])
    head = file.content()[: -len(file.data)]
    true = head.rstrip(b"\0") + bytes(7)  # the offset 128 is the last number, of 8 bytes
    assert read_container(write(tmp_path / "model.gguf", true + file.data)).tensors["two"].shape == (4, 8)
    with pytest.raises(CheckpointError, match=r"tensor 'two': ends at byte 192 of the data, but there are 191"):
        read_container(write(tmp_path / "model.gguf", true + file.data[:-1]))
    overlapping = true[:-8] + struct.pack("<Q", 127)
    with pytest.raises(CheckpointError, match=r"tensor 'two' overlaps the tensor 'one'"):
        read_container(write(tmp_path / "model.gguf", overlapping + file.data))


def test_every_shortened_file_is_refused(tmp_path):
    content = small_file().content()
    for size in [*range(0, len(content), 7), len(content) - 33]:
        with pytest.raises(CheckpointError, match=r"model.gguf: .*(truncated\?|is empty|not a GGUF)"):
            read_container(write(tmp_path / "model.gguf", content[:size]))


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("MOST_ENTRIES", 3, "the number of metadata entries is 3, expected at most 2"),
        ("MOST_TENSORS", 2, "the number of tensors is 2, expected at most 1"),
        ("MOST_TEXTS", 3, "the length of the value of 'a.texts' is 3, expected at most 2"),
    ],
)
def test_counts_are_limited(tmp_path, monkeypatch, name, count, message):
    path = write(tmp_path / "model.gguf", small_file())
    monkeypatch.setattr(container, name, count)
    read_container(path)
    monkeypatch.setattr(container, name, count - 1)
    with pytest.raises(CheckpointError, match=message):
        read_container(path)


@pytest.mark.parametrize("command", ["generate", "inspect", "evaluate"])
def test_commands_refuse_in_one_line(tmp_path, capsys, command):
    file = valid_file(random.Random(0))
    file.tensors[3][3] = file.tensors[2][3]
    path = write(tmp_path / "model.gguf", file)
    arguments = {"generate": ["generate", "a", "--model", str(path)]}.get(command, [command, str(path)])
    assert main(arguments) == 2
    assert_one_line(capsys.readouterr(), "model.gguf: tensor", "overlaps the tensor")


def test_a_pointer_of_git_lfs(tmp_path):
    write(tmp_path / "model.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    for read in (load_model, stored_tensors):
        with pytest.raises(CheckpointError, match=r"model.gguf: is a Git LFS pointer"):
            read(tmp_path)
