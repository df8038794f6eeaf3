"""Lock files: one owner at a time. The operating system releases the lock when its owner dies, also by SIGKILL."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of file systems without locks
MOST_ATTEMPTS = 100  # to open and lock a file that other owners remove in between
LOCKED_BYTE = 1000  # on Windows, where others cannot read a locked byte; the process id is before it


class LockHeld(Exception):
    """Another owner holds the lock. `pid` is the id of its process as text, "" if the file does not tell it."""

    def __init__(self, pid: str):
        super().__init__(pid)
        self.pid = pid


@contextmanager
def lock_file(path: str | Path) -> Iterator[bool]:
    """Create a lock file and hold its lock; remove the file at the end. A file left by a dead owner is taken over.

    Yields False where the file system has no locks: then nothing is locked. Raises LockHeld at once if another process,
    or another thread of this process, holds the lock, and OSError if the file cannot be created.
    """
    descriptor, locked = _open_locked(path)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())
        yield locked
    finally:
        _remove_and_close(path, descriptor)


def _open_locked(path):
    """(descriptor, whether the file system has locks) of the locked file that has this path."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    for _ in range(MOST_ATTEMPTS):
        descriptor = os.open(path, flags, 0o666)
        try:
            locked = _lock(descriptor)
            if _is_open_file(path, descriptor):
                return descriptor, locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the last owner removed the file before it could be locked
    raise OSError(errno.EAGAIN, "the lock file is a link, or other processes remove it again and again")


def _lock(descriptor):
    """True if the file is locked now, False if its file system has no locks. Raises LockHeld."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in NO_LOCKS:
            return False
        if problem.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise
        os.lseek(descriptor, 0, os.SEEK_SET)
        pid = os.read(descriptor, 20).decode("ascii", "replace")
        raise LockHeld(pid if pid.isdecimal() else "") from None
    return True


def _is_open_file(path, descriptor):
    """Whether the path names the file of the descriptor."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_and_close(path, descriptor):
    """Remove the file while it is locked, so that no other process locks it in between.

    Windows cannot remove an open file. There it is closed first, and stays if the next owner has already opened it.
    """
    with suppress(OSError):
        if sys.platform == "win32":
            os.close(descriptor)
            os.unlink(path)
        elif _is_open_file(path, descriptor):
            os.unlink(path)
    if sys.platform != "win32":
        os.close(descriptor)
