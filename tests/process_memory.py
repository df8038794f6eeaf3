"""How much memory this process has. Imports nothing, so that it can be asked before anything is there."""

from pathlib import Path

STATUS = Path("/proc/self/status")  # of Linux only


def resident():
    """What this process has in memory now, in bytes, pages of mapped files included."""
    return _bytes("VmRSS")


def peak():
    """The most that it had so far. `resource.getrusage` counts what its parent had before the start as well."""
    return _bytes("VmHWM")


def _bytes(name):
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
