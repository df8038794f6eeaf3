"""A process to be killed: `python -m tests.kills.victim CALL COUNT ARGUMENT ...`.

It runs `tinyslm ARGUMENT ...`, or for `save MODEL PATH` loads a model and calls `tinyslm.save`. At the start of system
call number CALL of those that change files it kills itself; 0 means never. At the end the number of calls is written
to the file COUNT.
"""

import os
import signal
import sys
from pathlib import Path

import tinyslm
from tinyslm.cli import main

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock", "os.listdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Calls:
    """Counts the calls; the process dies at the start of one of them."""

    def __init__(self, deadly):
        self.deadly = deadly
        self.count = 0
        self.fsync = os.fsync

    def start(self):
        os.fsync = self.counted_fsync
        sys.addaudithook(self.audit)

    def audit(self, event, arguments):
        if event in EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            self.tick()

    def counted_fsync(self, descriptor):
        self.tick()
        self.fsync(descriptor)

    def tick(self):
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def run(arguments):
    """The exit status."""
    if arguments[0] != "save":
        return main(arguments)
    tinyslm.save(arguments[2], *tinyslm.load(arguments[1]))
    return 0


if __name__ == "__main__":
    calls = Calls(int(sys.argv[1]))
    calls.start()
    status = run(sys.argv[3:])
    Path(sys.argv[2]).write_text(str(calls.count))
    sys.exit(status)
