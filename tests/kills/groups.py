"""Process groups: how many processes of a group run."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path


def group_size(group):
    """Number of running processes of a group. Zombies, whose parent has not asked for their status, do not count."""
    return sum(its_group == group and state[0] != "Z" for its_group, state in _processes())


def _processes():
    """(group, state) of every process."""
    if not Path("/proc/self/stat").exists():
        lines = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        yield from ((int(group), state) for group, state in map(str.split, lines.splitlines()))
        return
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended since
            state, _, its_group = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
            yield int(its_group), state


def wait_for_group(group, seconds):
    """Wait until no process of the group runs. After so many seconds, kill the group and return False."""
    end = time.monotonic() + seconds
    while group_size(group):
        if time.monotonic() > end:
            os.killpg(group, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True
