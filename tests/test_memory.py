"""Keeping freed memory: a request to the system's allocator, which not every system has."""

import ctypes
import sys

import pytest

from tinyslm.memory import keep_freed_memory


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
