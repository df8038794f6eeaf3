"""Text files become documents, and what is no text is named with its file, line or byte."""

import json

import pytest

from tinyslm.errors import ConfigError, DataError
from tinyslm.text import read_documents, read_lines


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_paragraphs_of_a_text_file(tmp_path):
    path = written(tmp_path / "a.txt", "\n\n one\ntwo \n\n\n\nthrée\n \t\nfour\n\n  \n")
    assert read_documents([path]) == ["one\ntwo", "thrée", "four"]


@pytest.mark.parametrize("content", [b"one\r\ntwo\r\n\r\nthree\r\n", b"\xef\xbb\xbfone\ntwo\n\nthree"])
def test_windows_line_ends_and_byte_order_mark(tmp_path, content):
    assert read_documents([written(tmp_path / "a.txt", content)]) == ["one\ntwo", "three"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.json"])
def test_json_lines_hold_one_document_each(tmp_path, name):
    """Also with empty lines, other keys, and characters that end a line elsewhere."""
    texts = ["one\n\ntwo", "a\u2028b\x85c", "é"]
    lines = [json.dumps({"text": text, "id": 3}, ensure_ascii=False) for text in texts]
    assert read_documents([written(tmp_path / name, "\r\n\n".join(lines) + "\n")]) == texts


@pytest.mark.parametrize(
    ("documents", "texts"),
    [
        ("paragraph", ["one\ntwo", "thrée"]),
        ("line", ["one", "two", "thrée"]),
        ("file", ["one\ntwo \n\n\tthrée"]),
    ],
)
def test_what_a_document_is(tmp_path, documents, texts):
    path = written(tmp_path / "a.txt", "\n one\r\ntwo \n\n\tthrée\n\n")
    assert read_documents([path], documents) == texts


def test_only_newlines_end_a_line(tmp_path):
    path = written(tmp_path / "a.txt", "a\u2028b\x85c\nd\n")
    assert read_documents([path], "line") == ["a\u2028b\x85c", "d"]


def test_a_json_file_has_one_document_per_line(tmp_path):
    plain, lines = written(tmp_path / "a.txt", "one\ntwo"), written(tmp_path / "b.jsonl", '{"text": "three\\nfour"}\n')
    assert read_documents([plain, lines], "line") == ["one", "two", "three\nfour"]
    assert read_documents([plain, lines]) == ["one\ntwo", "three\nfour"]
    with pytest.raises(ConfigError, match=r"b\.jsonl: has one document per line"):
        read_documents([plain, lines], "file")


def test_another_kind_of_document_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="documents is 'word', expected one of paragraph, line, file"):
        read_documents([written(tmp_path / "a.txt", "one")], "word")


def test_files_follow_each_other(tmp_path):
    paths = [written(tmp_path / name, name) for name in ("b", "a")]
    assert read_documents(paths) == ["b", "a"]


@pytest.mark.parametrize("content", ["", " \n\n \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_file_without_text(tmp_path, name, content):
    with pytest.raises(DataError, match=rf"{name}: contains no text"):
        read_documents([written(tmp_path / "full", "text"), written(tmp_path / name, content)])


def test_what_is_not_utf8_is_named_with_the_first_wrong_byte(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 text \(byte 3\)"):
        read_documents([written(tmp_path / "a.txt", "caf\xe9".encode("latin-1"))])


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: cannot be read \(No such file"):
        read_documents([tmp_path / "a.txt"])
    with pytest.raises(DataError, match="cannot be read"):
        read_documents([tmp_path])


@pytest.mark.parametrize(
    "line",
    [
        *("no json", '{"txt": "a"}', '{"text": 3}', '{"text": null}', '["text"]', '"text"', "3"),
        '{"text": "\\ud800"}',  # half a surrogate pair
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, line):
    with pytest.raises(DataError, match=r'a\.jsonl, line 3: expected a JSON object with a string under "text"'):
        read_documents([written(tmp_path / "a.jsonl", '{"text": "fine"}\n\n' + line)])


def test_lines_keep_their_numbers(tmp_path):
    """Empty ones stay; the last newline begins no line; only newlines end one."""
    path = tmp_path / "a.txt"
    for content in ("one\n\n two \u2028 halves\n", "\ufeffone\r\n\r\ntwo \u2028 halves"):
        path.write_bytes(content.encode())
        assert read_lines(path) == ["one", "", "two \u2028 halves"]
    path.write_text("one\n\n")
    assert read_lines(path) == ["one", ""]
    for content in (b"", b"\n\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.txt: contains no text"):
            read_lines(path)
