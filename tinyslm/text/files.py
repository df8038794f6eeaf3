"""Reading the user's own text."""

import json
import re
import sys
from pathlib import Path

from tinyslm.errors import DataError


def read_documents(paths) -> list[str]:
    """The documents of text files (UTF-8): one per line of a .jsonl or .json file under its key "text", one per
    paragraph of any other file (paragraphs are separated by empty lines).

    Raises DataError for a file that is missing, not UTF-8, without any text, or with a line that is not such JSON.
    """
    documents = []
    for path in map(Path, paths):
        text = _read(path)
        found = _json_lines(path, text) if path.suffix.lower() in (".jsonl", ".json") else _paragraphs(text)
        found = [document for document in found if document]
        if not found:
            raise DataError(f"{path}: contains no text")
        documents += found
    return documents


def read_lines(path) -> list[str]:
    """The lines of a text file (UTF-8), of standard input for "-". Empty lines are among them: line i is text i.

    Raises DataError for a file that is missing, not UTF-8, or without any text.
    """
    lines = [line.strip() for line in _read(path).split("\n")]
    if not any(lines):
        raise DataError(f"{path}: contains no text")
    return lines if lines[-1] else lines[:-1]  # the last newline ends a line, and begins none


def _read(path):
    """The text of a file, without the byte order mark that some editors write; of standard input for "-"."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _paragraphs(text):
    """Paragraphs without the space around them."""
    return [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n"))]


def _json_lines(path, text):
    """The string under "text" of every line. Only newlines end lines: JSON strings may hold U+2028 and the like."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)["text"]
            document.encode()  # half of a surrogate pair, such as "\\ud800", is JSON but no text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            document = None
        if not isinstance(document, str):
            raise DataError(f'{path}, line {number}: expected a JSON object with a string under "text"')
        yield document.strip()
