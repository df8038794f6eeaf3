"""Atomic writing: a temporary file beside the target is filled, flushed to disk, then renamed.

The temporary of `NAME` is `.NAME.XXXXXXXX.partial`. Its lock file, with `.lock` at the end, is locked as long as the
temporary exists. A temporary without a locked lock file is a leftover of a killed process. The next writing of the same
name removes it.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinyslm.checkpoints.file_lock import LockHeld, lock_file
from tinyslm.errors import Error

TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial(\.lock)?")


@contextmanager
def _temporary_beside(path):
    """The path of a new temporary beside `path`, for a file or directory. What is there at the end is removed."""
    with ExitStack() as lock:
        temporary = None
        while temporary is None:
            candidate = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
            with suppress(LockHeld):  # by a process that removes leftovers, and took the new lock file for one
                lock.enter_context(lock_file(f"{candidate}.lock"))
                temporary = candidate
        try:
            yield temporary
        finally:
            _remove(temporary)


def _remove(path):
    """Remove a file or directory if it exists and can be removed."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


def remove_leftovers(directory: str | Path, name: str | None = None) -> None:
    """Remove the temporaries in a directory that killed processes left, for the target `name` or for every target.

    Temporaries of living processes are kept. So are all temporaries on a file system without locks.
    """
    with suppress(OSError):
        for entry in os.listdir(directory):
            found = TEMPORARY.fullmatch(entry)
            if found and name in (None, found["name"]):
                temporary = os.path.join(directory, entry.removesuffix(".lock"))
                with suppress(OSError, LockHeld), lock_file(f"{temporary}.lock") as locked:
                    if locked:
                        _remove(temporary)


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
    remove_leftovers(path.parent, path.name)
    with _reported(path, "written"), _temporary_beside(path) as temporary:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_to_disk(path.parent)


def check_new_directory(path: str | Path) -> None:
    """Raise Error unless a new directory can be made: it is absent or empty, and its parent can be written."""
    path = Path(os.path.abspath(path))
    check_parent(path)
    with _reported(path, "read"):
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            raise Error(f"{path}: exists already; choose another path or remove it first")


def check_parent(path: str | Path) -> None:
    """Raise Error unless the nearest existing parent is a directory that can be written."""
    path = Path(os.path.abspath(path))
    parents = path.parents or [path]  # the root directory has no parent
    parent = next(parent for parent in parents if os.path.lexists(parent))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise Error(f"{path}: cannot be written ({parent} is not a writable directory)")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Make a temporary directory beside `path`; when the block ends without an exception it becomes `path`.

    Raises Error if `path` exists and is not an empty directory, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    remove_leftovers(path.parent, path.name)
    with _reported(path, "written"):
        check_new_directory(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            temporary.mkdir()
            yield temporary
            flush_to_disk(temporary)
            os.replace(temporary, path)  # replaces an empty directory
            flush_to_disk(path.parent)


def remove_directory(path: str | Path) -> None:
    """Remove a directory. A killed process leaves the complete directory or a temporary. Raises Error if it cannot."""
    path = Path(os.path.abspath(path))
    with _reported(path, "removed"), _temporary_beside(path) as temporary:
        os.replace(path, temporary)
