"""Process settings: what import changes, and that it can be switched off."""

import ctypes
import os
import subprocess
import sys

import pytest

from tinyslm.runtime import keep_freed_memory


def test_a_system_without_the_request_goes_on_without(monkeypatch):
    def missing(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_freed_memory() is False
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a library without mallopt
    assert keep_freed_memory() is False


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="glibc"
)
def test_glibc_agrees():
    assert keep_freed_memory() is True


WATCH = """
import ctypes, os, sys

class Watch:
    def find_spec(name, *rest):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

sys.meta_path.insert(0, Watch)
library = ctypes.CDLL
calls = []
ctypes.CDLL = lambda name: calls.append(name) or library(name)
import tinyslm
print(calls == [None])
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, "20\nTrue\n"),
        ({"OPENBLAS_THREAD_TIMEOUT": "4"}, "4\nTrue\n"),
        ({"TINYSLM_RUNTIME": "off"}, "None\nFalse\n"),
    ],
)
def test_import_changes_settings_before_numpy_is_loaded_or_leaves_them_alone(chosen, expected):
    """The request to OpenBLAS does not overrule the user's, and one variable switches everything off."""
    names = ("OPENBLAS_THREAD_TIMEOUT", "TINYSLM_RUNTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    ran = subprocess.run([sys.executable, "-c", WATCH], env=environment | chosen, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, expected, "")
