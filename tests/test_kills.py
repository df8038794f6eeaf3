"""What killed processes leave: a small form of `python -m tests.kills`."""

import os

import pytest

from tests.kills.__main__ import kill_all

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")]


def test_nothing_is_lost_when_processes_are_killed():
    reached, failures = kill_all(kills=7, seed=0)
    assert failures == []
    assert {name: counts.total() for name, counts in reached.items()} == {
        "train": 2,
        "save": 2,
        "compress": 1,
        "export": 1,
        "sweep": 1,
    }
