"""The lock of an output: one process at a time writes it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tinyslm.checkpoints.atomic_write import check_parent, remove_leftovers
from tinyslm.checkpoints.file_lock import LockHeld, lock_file
from tinyslm.errors import Error


@contextmanager
def output_lock(path: str | Path) -> Iterator[None]:
    """Hold the lock of an output directory, and remove what killed processes left of it.

    The lock file `.NAME.lock` is beside the directory that `path` names after symbolic links. Missing parents are made
    for it, and removed at the end if they are empty. Where a file system has no locks, nothing is locked.
    Raises Error if another process holds the lock, or the lock file cannot be written.
    """
    path, real = Path(path), Path(os.path.realpath(path))
    lock = _lock_path(real)
    missing = [parent for parent in real.parents if not os.path.lexists(parent)]  # the innermost first
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.callback(_remove_empty, missing)
            held.enter_context(lock_file(lock))
        except LockHeld as problem:
            owner = f"another process ({problem.pid})" if problem.pid else "another process"
            raise Error(f"{path}: {owner} is writing it; wait until it has finished, or choose another path") from None
        except OSError as problem:
            check_parent(real)
            raise Error(f"{path}: cannot be written ({lock}: {problem.strerror or problem})") from problem
        remove_leftovers(real.parent, real.name)
        remove_leftovers(real)
        yield


def _lock_path(real):
    """Beside the output. Inside it for the root directory, and for a directory whose parent cannot be written."""
    if real.is_dir() and not (real.name and os.access(real.parent, os.W_OK)):
        return real / ".lock"
    return real.with_name(f".{real.name}.lock")


def _remove_empty(directories):
    """Remove directories that are empty."""
    with suppress(OSError):
        for directory in directories:
            directory.rmdir()
