"""corpus.json: written, read strictly, and its files checked."""

import json
import os

import pytest

from tinyslm.errors import CheckpointError, DataError
from tinyslm.load_save import find_directory
from tinyslm.text.text_source import CORPUS_RECORD, TextSource, read_text_source, source_of_files


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b \u00e9.txt").write_text("three\n")
    return source_of_files([tmp_path / "a.txt", tmp_path / "b \u00e9.txt"], "line", 64)


def write_record(directory, record):
    (directory / CORPUS_RECORD).write_text(record if isinstance(record, str) else json.dumps(record))


@pytest.mark.parametrize("town", [True, False])
def test_a_record_is_read_back(tmp_path, source, town):
    source = TextSource() if town else source
    write_record(tmp_path, source.record())
    assert read_text_source(tmp_path) == source
    assert source.is_town == town


def test_the_files_are_absolute_and_read_as_recorded(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    monkeypatch.chdir(tmp_path)
    source = source_of_files(["a.txt"], "line")
    monkeypatch.chdir("/")
    assert source.files == (str(tmp_path / "a.txt"),)
    assert source.texts() == ["one", "two"]


def test_a_model_without_a_record(tmp_path):
    assert read_text_source(tmp_path) is None


def test_the_built_in_model_was_trained_on_the_town():
    assert read_text_source(find_directory("teacher")).is_town


def test_a_changed_or_missing_file_is_named(tmp_path, source):
    (tmp_path / "a.txt").write_text("one\ntwO\n")
    with pytest.raises(DataError, match=r"a\.txt: has changed, .*; give a text with --text FILE"):
        source.texts()
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.txt: cannot be read .*; give a text with --text FILE"):
        source.texts()


def test_a_pipe_cannot_be_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is not a regular file"):
        source_of_files([tmp_path / "pipe"])
    with pytest.raises(DataError, match="cannot be read"):
        source_of_files([tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "city"}, "name is 'city'"),
        ({"documents": "word"}, "documents is 'word'"),
        ({"documents": ["line"]}, "documents is"),
        *(({"pack_length": value}, f"pack_length is {value!r}") for value in (1, True, 64.0, 2**40)),
        *(({"files": value}, "files is") for value in ("a", [], [3], [""], ["a\0b", "b"], ["\ud800", "b"])),
        *(({"sha256": value}, "sha256 is") for value in ([], ["0" * 64], ["0" * 63] * 2, [0, 0])),
        ({"other": 1}, "unknown key 'other'"),
        *(({key: "absent"}, f"{key} is missing") for key in ("name", "files", "documents", "pack_length", "sha256")),
    ],
)
def test_a_wrong_record_is_refused(tmp_path, source, change, message):
    record = {key: value for key, value in (source.record() | change).items() if value != "absent"}
    write_record(tmp_path, record)
    with pytest.raises(CheckpointError, match=rf"corpus\.json: .*{message}"):
        read_text_source(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"name": "town", "name": "text"}', '{"name": "town", "files": []}'])
def test_no_record_at_all(tmp_path, content):
    write_record(tmp_path, content)
    with pytest.raises(CheckpointError, match=r"corpus\.json"):
        read_text_source(tmp_path)
