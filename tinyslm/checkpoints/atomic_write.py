"""Writing that is either complete or did not happen: a temporary neighbour is filled, flushed to disk, then renamed."""

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyslm.errors import Error


def _neighbour(path):
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def flush_to_disk(path):
    """Wait until what was written to a file or directory is on the disk."""
    if os.name == "nt":  # Windows opens no directories; its file system keeps renames in order
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path):
    """Open a temporary binary file beside `path`; when the block ends without an exception it becomes `path`.

    A symbolic link is followed. Raises Error if it cannot be written, or is a device or another thing than a file.
    """
    path = Path(os.path.realpath(path))
    if os.path.lexists(path) and not os.path.isfile(path):
        raise Error(f"{path}: is not a file that can be replaced; choose another name")
    temporary = _neighbour(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    except OSError as problem:
        raise Error(f"{path}: cannot be written ({problem.strerror or problem})") from problem
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_new_directory(path):
    """Raise Error where a directory could not be written: something is there already, or there is no place for it."""
    path = Path(os.path.abspath(path))
    try:
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            raise Error(f"{path}: exists already; choose another place or remove it first")
    except OSError as problem:
        raise Error(f"{path}: cannot be read ({problem.strerror or problem})") from problem
    parent = next(parent for parent in path.parents if os.path.lexists(parent))
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise Error(f"{path}: cannot be written ({parent} is not a directory that can be written in)")


@contextmanager
def atomic_directory(path):
    """Make a temporary directory beside `path`; when the block ends without an exception it becomes `path`.

    Raises Error if `path` exists and is not an empty directory, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    temporary = _neighbour(path)
    try:
        check_new_directory(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)  # an empty directory may stand there
        flush_to_disk(path.parent)
    except OSError as problem:
        raise Error(f"{path}: cannot be written ({problem.strerror or problem})") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
