"""Atomic writing: a temporary file beside the target is filled, flushed to disk, then renamed."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinyslm.errors import Error


def _temporary_beside(path):
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


@contextmanager
def _reported(path, action):
    """Convert an OSError in the block to Error. The message names the path and the failed action."""
    try:
        yield
    except OSError as problem:
        raise Error(f"{path}: cannot be {action} ({problem.strerror or problem})") from problem


def flush_to_disk(path: str | Path) -> None:
    """Wait until the contents of a file or directory are on the disk."""
    if os.name == "nt":  # Windows cannot open directories; its file system keeps renames in order
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary binary file beside `path`; when the block ends without an exception it becomes `path`.

    Symbolic links are followed. Raises Error if it cannot be written, or exists and is not a regular file.
    """
    path = Path(os.path.realpath(path))
    if os.path.lexists(path) and not os.path.isfile(path):
        raise Error(f"{path}: is not a regular file; choose another name")
    temporary = _temporary_beside(path)
    try:
        with _reported(path, "written"):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            flush_to_disk(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_new_directory(path: str | Path) -> None:
    """Raise Error unless a new directory can be made: it is absent or empty, and its parent can be written."""
    path = Path(os.path.abspath(path))
    with _reported(path, "read"):
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            raise Error(f"{path}: exists already; choose another path or remove it first")
    parent = next(parent for parent in path.parents if os.path.lexists(parent))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise Error(f"{path}: cannot be written ({parent} is not a writable directory)")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Make a temporary directory beside `path`; when the block ends without an exception it becomes `path`.

    Raises Error if `path` exists and is not an empty directory, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    temporary = _temporary_beside(path)
    try:
        with _reported(path, "written"):
            check_new_directory(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            flush_to_disk(temporary)
            os.replace(temporary, path)  # replaces an empty directory
            flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
