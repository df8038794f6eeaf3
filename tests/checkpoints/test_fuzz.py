"""The quick form of the fuzzing command, and what it does not draw often enough: large headers, odd indices."""

import json
import tracemalloc

import pytest

from tests.checkpoints import fuzz
from tests.checkpoints.fuzz_oracle import Invalid, decode
from tinyslm.checkpoints import read_safetensors, stored_tensors
from tinyslm.checkpoints.reading import INDEX
from tinyslm.errors import CheckpointError

KINDS = [
    ("files", 600, 10),
    ("directories", 80, 10),
    ("configs", 600, 30),
    ("tokenizers", 150, 1),
    ("templates", 12, 3),
]
KINDS += [("questions", 400, 12), ("quantized", 30, 5), ("gguf", 60, 12)]


@pytest.mark.parametrize(("kind", "inputs", "messages"), KINDS)
def test_damaged_inputs_are_read_as_they_are_or_refused(kind, inputs, messages):
    tally = fuzz.run(kind, inputs, seed=1)
    assert tally.failures == []
    assert tally.accepted > inputs / 10 and len(tally.refused) >= messages


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "inputs"), [("files", 5000), ("directories", 1000)])
def test_many_damaged_inputs(kind, inputs):
    assert fuzz.run(kind, inputs, seed=2).failures == []


def repeated(monkeypatch, read):
    """The failures of one input of a kind that is read so."""

    def trial(rng, place):
        yield 0, place, read

    monkeypatch.setitem(fuzz.KINDS, "files", trial)
    return fuzz.run("files", 1).failures


def test_memory_and_time_that_the_second_reading_does_not_take_are_not_those_of_the_input(monkeypatch):
    """So an input passes or fails alone as after any number of others."""
    calls = []

    def first_only():
        calls.append(1)
        return bytes(2 * fuzz.MEMORY_OF_ANYTHING if len(calls) == 1 else 0)

    assert repeated(monkeypatch, first_only) == []
    assert len(calls) == 2
    ((number, problem),) = repeated(monkeypatch, lambda: bytes(2 * fuzz.MEMORY_OF_ANYTHING))
    assert number == 0 and "bytes of memory for 0" in problem
    monkeypatch.setattr(fuzz, "MOST_SECONDS", -1)
    ((number, problem),) = repeated(monkeypatch, lambda: None)
    assert number == 0 and "took 0.0 s" in problem


HEAVY = ["[]", "{}", '{"":0}', '{"":{"":{"":{}}}}', "[" * 500 + "]" * 500, '"\\u0100"', "1e1", '{"a":0,"a":0}']


@pytest.mark.parametrize("value", HEAVY)
def test_memory_of_a_header_is_a_multiple_of_its_size(tmp_path, value):
    """The header of a large file that is all header: Python's objects are larger than their JSON, but not endless."""
    text = b'{"a":[' + b",".join([value.encode()] * (300_000 // len(value))) + b"]}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_safetensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < fuzz.MEMORY_PER_BYTE * len(text)


@pytest.mark.parametrize("value", [3, None, True, 0.5, ["model.safetensors"], {"a": "b"}])
def test_an_index_of_other_values_than_names_is_refused(tmp_path, value):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": value}}))
    with pytest.raises(CheckpointError, match=rf"{INDEX}: weight_map is .*, expected an object of file names"):
        stored_tensors(tmp_path)


def header_and_data(header, data=b""):
    return len(header).to_bytes(8, "little") + header + data


def test_the_oracle_is_strict():
    """What the fuzzing compares with must itself tell right from wrong."""
    entry = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    assert decode(header_and_data(entry, b"\x80\x3f\x00\xc0")) == {"a": ("BF16", (2,), [1.0, -2.0])}
    for header in (entry.replace(b"4", b"2"), entry.replace(b"BF16", b"F32"), entry.replace(b"[2]", b"[2,2]"), b"[]"):
        with pytest.raises(Invalid):
            decode(header_and_data(header, bytes(4)))
    with pytest.raises(Invalid, match="owner"):
        decode(header_and_data(entry, bytes(5)))
