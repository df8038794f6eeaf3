"""Tests of a mistake in a forked process, which starts with NumPy, SciPy, pytest and Hypothesis already imported."""

import gc
import importlib
import os
import sys
import tempfile
import time
import traceback

import pytest

from tinyslm.coursework.exercises import tests_directory
from tinyslm.coursework.insert_mistake import ReplacingFinder

ROOT = tests_directory().parent
PLUGINS = ("cacheprovider", "xdist", "faulthandler")  # the last one waits for a thread, which a forked process has not
OPTIONS = ("-q", "--no-header", *(f"-pno:{name}" for name in PLUGINS), "-o", "addopts=", f"--rootdir={ROOT}")


def try_in_fork(mistake, tests, *, options=(), seconds=600.0):
    """(exit status, output) of pytest on the library with a mistake, or on the unchanged library if mistake is None.

    The same as `tinyslm.coursework.mistakes.try_mistake`, without the time to start Python and to import the tools.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        child = os.fork()
        if child == 0:
            run_and_exit(mistake, [str(ROOT / test) for test in tests], options, said)
        status = wait(child, seconds)
        said.seek(0)
        return status, said.read()


def run_and_exit(mistake, tests, options, said):
    """In the child process: import the library again, with the mistake, and run pytest. Never returns."""
    gc.freeze()  # what the parent has made is never searched for garbage here
    status = -1
    try:
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = open(1, "w", closefd=False)  # noqa: SIM115
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tinyslm", "tests")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        if mistake is not None:
            sys.meta_path.insert(0, ReplacingFinder(mistake.module, mistake.old, mistake.new))
        os.chdir(ROOT)
        status = pytest.main([*tests, *options, *OPTIONS])
        sys.stdout.flush()
    except BaseException:  # a piece of source that does not occur ends with SystemExit
        traceback.print_exc(file=sys.__stderr__)
        sys.__stderr__.flush()
    finally:
        os._exit(status)


def wait(child, seconds):
    """The exit status of a process, or None if it did not end in time and was killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None
