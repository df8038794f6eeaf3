"""The safetensors format: what is written is read back, and every damage is one clear error."""

import json
import os
import stat
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints.fuzz_json import wide_and_deep
from tests.checkpoints.fuzz_oracle import decode
from tinyslm.checkpoints.safetensors import (
    DTYPES,
    READ_AS,
    read_safetensors,
    round_to_bfloat16,
    upcast_bfloat16,
    write_safetensors,
)
from tinyslm.errors import CheckpointError, Error


def raw_file(header, data=b"", length=None):
    """The bytes of a file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def example_tensors():
    rng = np.random.default_rng(0)
    tensors = {code: rng.integers(0, 100, (3, 2)).astype(code) for name, code in DTYPES.items() if name not in READ_AS}
    return tensors | {
        "boolean": rng.random((2, 5)) < 0.5,
        "scalar": np.array(1.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        "transposed": rng.standard_normal((3, 4)).T,
        "big_endian": np.arange(3, dtype=">i4"),
        'name with spaces, ü and " quotes': np.ones(1, np.int8),
    }


def test_round_trip_of_every_dtype(tmp_path):
    tensors = example_tensors()
    write_safetensors(tmp_path / "x", tensors)
    stored = read_safetensors(tmp_path / "x")
    assert stored.keys() == tensors.keys()
    for name, array in tensors.items():
        found = stored[name].read()
        assert stored[name].shape == found.shape == array.shape
        assert found.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)
        assert found.flags.writeable and type(found) is np.ndarray and found.flags.c_contiguous
    assert np.signbit(stored["special"].read()[3])


def test_layout_of_the_file(tmp_path):
    write_safetensors(tmp_path / "x", {"b": np.arange(3, dtype=np.int8), "a": np.ones((2, 1), np.float64)})
    content = (tmp_path / "x").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert header["__metadata__"] == {"format": "pt"}
    assert header["a"] == entry("F64", (2, 1), (0, 16))  # larger numbers first: all are aligned
    assert header["b"] == entry("I8", (3,), (16, 19))
    assert content[8 + length :] == np.ones(2).tobytes() + bytes([0, 1, 2])


def test_reading_keeps_nothing_of_the_file(tmp_path):
    write_safetensors(tmp_path / "x", {"a": np.ones(4, np.float32)})
    stored = read_safetensors(tmp_path / "x")["a"]
    assert not stored.bits.flags.writeable
    array = stored.read()
    array[:] = 7
    np.testing.assert_array_equal(stored.read(), np.ones(4))


def test_conversion_while_reading(tmp_path):
    write_safetensors(tmp_path / "x", {"half": np.array([1.5, 65504], np.float16), "wide": np.array([0.1, 1e300])})
    stored = read_safetensors(tmp_path / "x")
    assert stored["half"].read().dtype == np.float16
    np.testing.assert_array_equal(stored["half"].read(np.float32), np.array([1.5, 65504], np.float32))
    np.testing.assert_array_equal(stored["wide"].read(np.float32), np.array([0.1, np.inf], np.float32))


def test_every_bfloat16_is_widened_exactly_and_narrowed_back():
    bits = np.arange(2**16, dtype=np.uint16)
    wide = upcast_bfloat16(bits)
    np.testing.assert_array_equal(wide.view(np.uint32), bits.astype(np.uint32) << 16)
    back = round_to_bfloat16(wide)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(back[numbers], bits[numbers])
    assert np.isnan(upcast_bfloat16(back[~numbers])).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126))
def test_narrowing_takes_the_nearest_bfloat16_and_the_even_one_of_two(number):
    number = np.array([number], np.float32)
    bits = round_to_bfloat16(number)
    candidates = np.array([bits - 1, bits, bits + 1]).astype(np.uint16)[:, 0]
    distance = np.abs(upcast_bfloat16(candidates).astype(np.float64) - number)
    distance[~np.isfinite(distance)] = np.inf
    assert distance[1] == distance.min()
    assert np.sum(distance == distance.min()) == 1 or bits[0] % 2 == 0


def test_narrowing_between_two_bfloat16_takes_the_even_one():
    below = np.arange(0x3F00, 0x3F40, dtype=np.uint32)
    halfway = ((below << 16) | 0x8000).view(np.float32)
    np.testing.assert_array_equal(round_to_bfloat16(halfway), below + below % 2)


def test_storing_in_half_precision(tmp_path):
    array = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    write_safetensors(tmp_path / "x", {"f": array, "b": array}, {"f": "F16", "b": "BF16"})
    stored = read_safetensors(tmp_path / "x")
    np.testing.assert_array_equal(stored["f"].read(), array.astype(np.float16))
    assert (stored["b"].dtype, stored["b"].read().dtype) == ("BF16", np.float32)
    np.testing.assert_allclose(stored["b"].read(), array, rtol=2**-8)
    assert os.path.getsize(tmp_path / "x") < 8 + 250 + 2 * 2 * array.size


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_what_does_not_fit_half_precision_is_refused(tmp_path, dtype):
    with pytest.raises(CheckpointError, match=r"tensor 'a': holds .* too large for"):
        write_safetensors(tmp_path / "x", {"a": np.array([1, np.finfo(np.float32).max], np.float32)}, {"a": dtype})
    assert list(tmp_path.iterdir()) == []


DAMAGED = {
    "no header": (b"\x01", "has 1 bytes"),
    "empty file": (b"", "has 0 bytes"),
    "header of 2^60 bytes": (raw_file({}, length=2**60), "header length is 1152921504606846976 bytes"),
    "header cut off": (raw_file({"a": entry()}, bytes(8))[:20], "truncated"),
    "not JSON": (raw_file(b"hello"), "is not JSON"),
    "not UTF-8": (raw_file(b'{"\xff": 1}'), "is not JSON"),
    "deep nesting": (raw_file(b"[" * 100_000), "is not JSON"),
    "not an object": (raw_file(b"[1]"), "expected a JSON object"),
    "huge integer": (raw_file(b'{"a": ' + b"9" * 5000 + b"}"), "is not JSON"),
    "duplicate tensor": (raw_file(b'{"a": 1, "b": 2, "a": 1}'), "'a' occurs 2 times"),
    "duplicate key": (raw_file(b'{"a": {"dtype": "U8", "dtype": "U8"}}'), "'dtype' occurs 2 times"),
    "metadata": (raw_file({"__metadata__": 3}), "__metadata__ is 3, expected an object of strings"),
    "metadata of numbers": (raw_file({"__metadata__": {"epoch": 3}}), r"__metadata__ is \{'epoch': 3\}, expected"),
    "wide and deep entry": (
        raw_file({"a": wide_and_deep(5)}),
        r"tensor 'a': its entry is .*\.\.\., expected an object",
    ),
    "entry": (raw_file({"a": 3}), "tensor 'a': its entry is 3"),
    "unknown dtype": (raw_file({"a": entry("F8")}, bytes(8)), "tensor 'a': dtype is 'F8', expected one of F64, F32"),
    "dtype of a wrong kind": (raw_file({"a": entry(["F32"])}, bytes(8)), "dtype is"),
    "no shape": (raw_file({"a": {"dtype": "U8", "data_offsets": [0, 0]}}), "shape is None"),
    "negative shape": (raw_file({"a": entry(shape=(-2,))}, bytes(8)), r"shape is \[-2\]"),
    "boolean shape": (raw_file({"a": entry("U8", (True,), (0, 1))}, bytes(1)), r"shape is \[True\]"),
    "fractional shape": (raw_file({"a": entry(shape=(2.0,))}, bytes(8)), "shape"),
    "too many axes": (raw_file({"a": entry("U8", [1] * 70, (0, 1))}, bytes(1)), "at most 32"),
    "huge empty shape": (raw_file({"a": entry("U8", (0, 2**62), (0, 0))}), "shape"),
    "huge shape": (raw_file({"a": entry("F32", (2**40, 2**40))}, bytes(8)), "shape"),
    "offsets": (raw_file({"a": entry(offsets=(0, 8, 9))}, bytes(8)), "data_offsets"),
    "offsets backwards": (raw_file({"a": entry(offsets=(8, 0))}, bytes(8)), "data_offsets"),
    "negative offsets": (raw_file({"a": entry(offsets=(-8, 0))}, bytes(8)), "data_offsets"),
    "offsets out of range": (raw_file({"a": entry(offsets=(0, 8))}, bytes(7)), r"within the 7 bytes of data"),
    "length against shape": (
        raw_file({"a": entry(shape=(3,))}, bytes(8)),
        "its length is 8, expected 12 bytes for F32",
    ),
    "overlap": (raw_file({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "'b' begins at 4 and overlaps"),
    "hole": (raw_file({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "'b' begins at 12 and leaves a gap"),
    "hole at the start": (raw_file({"a": entry(offsets=(4, 12))}, bytes(12)), "leaves a gap"),
    "bytes left over": (raw_file({"a": entry()}, bytes(9)), "end at byte 8 of the data, found 9"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_named(tmp_path, damage):
    content, message = DAMAGED[damage]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 700


def test_what_is_not_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_safetensors(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="is a directory"):
        read_safetensors(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no such file"):
        read_safetensors(tmp_path / "file" / "below")
    with pytest.raises(CheckpointError, match="no such file"):
        read_safetensors(tmp_path / ("x" * 5000))


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """(a directory to write in, the bytes of a valid file)."""
    directory = tmp_path_factory.mktemp("fuzz")
    write_safetensors(directory / "valid", example_tensors())
    return directory, (directory / "valid").read_bytes()


@given(st.data())
def test_mutated_files_are_read_or_refused(valid, data):
    """Hypothesis changes, cuts and repeats pieces of a valid file: no other exception, no more memory than the file."""
    directory, content = valid
    header = 8 + int.from_bytes(content[:8], "little")
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, header + 8))
        kind = data.draw(st.sampled_from(["replace", "digit", "insert", "remove", "cut"]))
        if kind == "replace":
            content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=3))
        elif kind == "digit":  # numbers of the header are where the lies are
            digits = [i for i, byte in enumerate(content[:header]) if chr(byte).isdigit() and i >= 8]
            if digits:
                content[data.draw(st.sampled_from(digits))] = ord(data.draw(st.sampled_from("0123456789-.e")))
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "remove":
            del content[place : place + data.draw(st.integers(1, 20))]
        else:
            del content[data.draw(st.integers(0, len(content))) :]
    path = directory / "mutated"
    path.write_bytes(content)
    try:
        tensors = read_safetensors(path)
    except CheckpointError:
        return
    assert sum(tensor.bits.nbytes for tensor in tensors.values()) <= len(content)
    for tensor in tensors.values():
        assert tensor.read().shape == tensor.shape


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([*DTYPES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
entries = st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), json_values) | st.builds(
    entry,
    st.sampled_from([*DTYPES]),
    st.lists(st.integers(0, 2**70) | st.integers(0, 3), max_size=3),
    st.lists(st.integers(-1, 40), min_size=2, max_size=2),
)


@given(st.dictionaries(st.text(max_size=3), entries | json_values, max_size=3), st.binary(max_size=40))
def test_invented_headers_are_read_or_refused(valid, header, data):
    path = valid[0] / "invented"
    path.write_bytes(raw_file(header, data))
    try:
        tensors = read_safetensors(path)
    except CheckpointError:
        return
    assert sum(tensor.bits.nbytes for tensor in tensors.values()) == len(data)


@pytest.mark.parametrize("shape", [(4, 0), (2**40, 0), (2**58, 0, 1), (0, 2**40), (0,)])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "I8", "BOOL"])
def test_tensors_without_numbers(tmp_path, shape, dtype):
    """Of any number of rows: reading takes no time."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw_file({"a": entry(dtype, shape, (0, 0))}))
    tensor = read_safetensors(path)["a"]
    assert tensor.shape == tensor.read().shape == tensor.read(np.float64).shape == shape


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0xFFF4000000000000])
def test_a_signalling_nan_becomes_nan(tmp_path, bits):
    """Without a warning, which NumPy gives for its conversion to float32."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw_file({"a": entry("F64", (1,), (0, 8))}, bits.to_bytes(8, "little")))
    with warnings.catch_warnings(action="error"):
        assert np.isnan(read_safetensors(path)["a"].read(np.float32)).all()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    write_safetensors(path, {"a": np.ones(3, np.float32)})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="dtype complex128 cannot be stored"):
        write_safetensors(path, {"a": np.ones(3, complex)})
    with pytest.raises(CheckpointError, match="too large"):
        write_safetensors(path, {"a": np.zeros(9), "b": np.full(1, 1e9)}, {"b": "F16"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "x", tmp_path / "missing" / "x", tmp_path / ("x" * 5000)):
        with pytest.raises(Error, match="cannot be written"):
            write_safetensors(path, {"a": np.ones(3)})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_never_replaced(tmp_path):
    """Not a pipe, nor a device; a link is followed, so that it stays one."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Error, match="pipe: is not a regular file; choose another name"):
        write_safetensors(tmp_path / "pipe", {"a": np.ones(2)})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "target").write_bytes(b"before")
    (tmp_path / "link").symlink_to("target")
    write_safetensors(tmp_path / "link", {"a": np.ones(2)})
    assert (tmp_path / "link").is_symlink() and "a" in read_safetensors(tmp_path / "target")


@pytest.mark.parametrize(("dtype", "largest"), [("F8_E4M3", 448), ("F8_E5M2", 57344)])
def test_every_number_of_8_bit_floating_point(tmp_path, dtype, largest):
    """As in PyTorch: its numbers of the bytes 1, 8, 56, 126 and 128 + 56, and the largest of all."""
    content = raw_file({"a": entry(dtype, (256,), (0, 256))}, bytes(range(256)))
    (tmp_path / "x").write_bytes(content)
    tensor = read_safetensors(tmp_path / "x")["a"]
    numbers = tensor.read()
    assert (tensor.dtype, numbers.dtype, tensor.zeros().dtype) == (dtype, np.float32, np.float32)
    assert repr(numbers.tolist()) == repr(decode(content)["a"][2])
    assert np.max(numbers[np.isfinite(numbers)]) == largest
    some = {"F8_E4M3": [2.0**-9, 2.0**-6, 1.0, 448.0, -1.0], "F8_E5M2": [2.0**-16, 2.0**-13, 0.5, np.nan, -0.5]}
    np.testing.assert_array_equal(numbers[[1, 8, 56, 126, 184]], some[dtype])
    np.testing.assert_array_equal(tensor.read(np.float64), numbers)
