"""The process of a submission, seen from the judge: start, messages, and the end of all that it started."""

import ctypes
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from tinyslm.coursework import worker
from tinyslm.coursework.messages import MessageError, receive

SET_DUMPABLE, SET_CHILD_SUBREAPER = 4, 36  # operations of Linux' prctl


class Worker:
    """The process that runs the submission. task: path, directory, answers, seconds, gigabytes."""

    def __init__(self, task):
        self.socket, there = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            worker.run(there, task)
        there.close()

    def answer(self, seconds):
        """The next message of the process about itself, {} if it has ended, or None if it does not answer in time."""
        if not select.select([self.socket], [], [], max(seconds, 0))[0]:
            return None
        self.socket.settimeout(max(seconds, 1))
        try:
            message = receive(self.socket)
        except (OSError, MessageError):
            return None
        return message[0] if message and isinstance(message[0], dict) else {}

    def connect(self):
        """A connection to a new process that answers the calls of one property."""
        here, there = socket.socketpair()
        with there, suppress(OSError):
            socket.send_fds(self.socket, [b"p"], [there.fileno()])
        return here

    def stop(self, seconds=0.0):
        """Kill the process and everything that the submission started.

        Returns its exit status if it ends by itself within `seconds`, or None.
        """
        self.socket.close()
        end = time.monotonic() + seconds
        ended, status = os.waitpid(self.process, os.WNOHANG)
        while not ended and time.monotonic() < end:
            time.sleep(0.01)
            ended, status = os.waitpid(self.process, os.WNOHANG)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, signal.SIGKILL)
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        kill_descendants()
        return os.waitstatus_to_exitcode(status) if ended else None


def protect():
    """On Linux: end with the grader, become the parent of orphaned processes, and hide this process from the worker."""
    worker.die_with_parent()
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(SET_DUMPABLE, 0, 0, 0, 0)


def kill_descendants(seconds=5.0):
    """On Linux: kill every process below this one, those that left its session included, until none is left."""
    end = time.monotonic() + seconds
    while sys.platform == "linux" and time.monotonic() < end:
        found = descendants(os.getpid())
        if not found:
            return
        for process in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def descendants(process) -> list[int]:
    """Numbers of all processes below a process, from /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, new = [], [process]
    while new:
        new = [child for each in new for child in children.get(each, ())]
        found += new
    return found
