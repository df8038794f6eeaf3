"""Read the user's own text files."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from tinyslm.errors import ConfigError, DataError

DOCUMENT_KINDS = ("paragraph", "line", "file")


def read_documents(paths: Iterable[str | Path], documents: str = "paragraph") -> list[str]:
    """The documents of text files (UTF-8).

    A .jsonl or .json file has one document per line, an object with the key "text". documents: what a document of any
    other file is, one of DOCUMENT_KINDS: a paragraph (empty lines separate paragraphs), a line, or the whole file.
    Raises DataError for a file that is missing, not UTF-8 or without text, and for a line that is not such an object.
    Raises ConfigError for another kind of document, and for "file" with a .jsonl or .json file.
    """
    if documents not in DOCUMENT_KINDS:
        raise ConfigError(f"documents is {documents!r}, expected one of {', '.join(DOCUMENT_KINDS)}")
    texts = []
    for path in map(Path, paths):
        is_json = path.suffix.lower() in (".jsonl", ".json")
        if is_json and documents == "file":
            raise ConfigError(
                f"{path}: has one document per line; use documents line or paragraph, or a plain text file"
            )
        text = _read(path)
        found = [document for document in (_json_lines(path, text) if is_json else _cut(text, documents)) if document]
        if not found:
            raise DataError(f"{path}: contains no text")
        texts += found
    return texts


def read_prompt(path: str | Path) -> str:
    """The text of a file (UTF-8), or of standard input for "-", without the newline at its end.

    Raises DataError for a file that is missing, not UTF-8 or without text.
    """
    text = _read(path).replace("\r\n", "\n").removesuffix("\n")
    if not text:
        raise DataError(f"{path}: contains no text")
    return text


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file (UTF-8), or of standard input for "-". Empty lines are kept: line i is text i.

    Raises DataError for a file that is missing, not UTF-8 or without text.
    """
    lines = [line.strip() for line in _read(path).split("\n")]
    if not any(lines):
        raise DataError(f"{path}: contains no text")
    return lines if lines[-1] else lines[:-1]  # a newline at the end begins no further line


def _read(path):
    """The text of a file without its byte order mark, or of standard input for "-"."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _cut(text, documents):
    """The documents of a plain text, stripped."""
    text = text.replace("\r\n", "\n")
    parts = [text] if documents == "file" else re.split(r"\n\s*\n" if documents == "paragraph" else "\n", text)
    return [part.strip() for part in parts]


def _json_lines(path, text):
    """The string under "text" of every line. Only newlines end lines: JSON strings can hold U+2028 and similar."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)["text"]
            document.encode()  # a lone surrogate, such as "\\ud800", is valid JSON but not valid text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            document = None
        if not isinstance(document, str):
            raise DataError(f'{path}, line {number}: expected a JSON object with a string under "text"')
        yield document.strip()
