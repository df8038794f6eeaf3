"""Validated reading of JSON files. Every error becomes one CheckpointError."""

import json
import os
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any

from tinyslm.errors import CheckpointError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxlevel = 3
LONGEST_SHOWN = 200  # characters

POINTER = b"version https://git-lfs.github.com/spec/"  # the first bytes of a Git LFS pointer
LINK = b"../../blobs/"  # the first bytes of a link in a cache of the hub, where a copy stored the link as a text
LARGEST_JSON = 100_000_000  # bytes; the limit of the safetensors library for its header


def parse_json(text: bytes, where, unique: bool = True, kind: type = dict) -> Any:
    """The object in UTF-8 encoded JSON (bytes), or the list if `kind` is list. Raises CheckpointError naming `where`.

    unique: refuse a key that occurs twice in an object. Otherwise its last value counts, as in Python's json.
    """

    def without_duplicates(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            twice, count = Counter(name for name, _ in pairs).most_common(1)[0]
            raise CheckpointError(f"{where}: the key {shown(twice)} occurs {count} times, expected once")
        return found

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates if unique else None)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{where}: is not JSON ({problem})") from None
    if not isinstance(value, kind):
        wanted = "object" if kind is dict else "list"
        raise CheckpointError(f"{where}: holds a {type(value).__name__}, expected a JSON {wanted}")
    return value


def read_json(path: str | Path) -> dict:
    """The object in a JSON file. Of equal keys the last one counts. Raises CheckpointError naming the file."""
    return _read(path, dict)


def read_json_list(path: str | Path) -> list:
    """The list in a JSON file. Raises CheckpointError naming the file."""
    return _read(path, list)


def _read(path, kind):
    path = Path(path)
    check_file(path)
    if path.stat().st_size > LARGEST_JSON:
        raise CheckpointError(f"{path}: has {path.stat().st_size} bytes, expected at most {LARGEST_JSON}")
    try:
        text = path.read_bytes()
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror})") from problem
    check_not_pointer(path, text)
    return parse_json(text, path, unique=False, kind=kind)


def shown(value) -> str:
    """The repr of a value for a message, shortened to LONGEST_SHOWN characters."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def check_file(path: str | Path) -> None:
    """Raise CheckpointError unless path is a file."""
    if os.path.isdir(path):
        raise CheckpointError(f"{path}: is a directory, expected a file")
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file")


def check_not_pointer(path: str | Path, start: bytes) -> None:
    """Raise CheckpointError if a file that begins with `start` is a text in place of the file: a pointer, or a link."""
    if start.startswith(POINTER):
        raise CheckpointError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if start.startswith(LINK):
        raise CheckpointError(
            f"{path}: is the text of a link in a cache of the hub, not the file itself; copy the cache with its links"
        )
