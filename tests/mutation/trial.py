"""Trials of mutants: each runs its tests in a forked process, which imports the library with the mutant in it.

The parent imports the slow libraries once, never `tinyslm`, so that a trial starts within a second. No file is changed.
"""

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutation.covering_tests import CoveringTests
from tests.mutation.mutants import ROOT, Mutant

STAGES = (6.0, 60.0)  # seconds of tests, as recorded, in the first and in the second process of a trial
STARTING_SECONDS = 40.0
MEMORY = 6 * 2**30  # bytes of address space
SURVIVED = 0  # exit status of pytest


@dataclass
class Trial:
    """A mutant, the tests left for it, and the process that runs the first of them."""

    mutant: Mutant
    stages: list[list[str]]
    process: int = 0
    deadline: float = 0.0


def stages(tests: CoveringTests, mutant: Mutant) -> list[list[str]]:
    """The tests of a mutant, in the order of `CoveringTests.of`: those that fit into the seconds of each stage."""
    found, left = [], tests.of(mutant)
    for limit in STAGES:
        total, chosen, longer = 0.0, [], []
        for test in left:
            if not chosen or total + tests.seconds[test] <= limit:
                chosen.append(test)
                total += tests.seconds[test]
            else:
                longer.append(test)
        left = longer
        if chosen:
            found.append(chosen)
    return found


def try_mutants(mutants, tests: CoveringTests, processes: int) -> Iterator[tuple[Mutant, bool]]:
    """(mutant, whether a test found it), in the order of the ends. A trial that takes too long counts as found."""
    _import_libraries()
    waiting = [Trial(mutant, stages(tests, mutant)) for mutant in mutants]
    running: dict[int, Trial] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            trial = waiting.pop(0)
            if not trial.stages:
                yield trial.mutant, False
                continue
            _start(trial, tests)
            running[trial.process] = trial
        for trial in list(running.values()):
            ended, status = os.waitpid(trial.process, os.WNOHANG)
            if not ended and time.monotonic() < trial.deadline:
                continue
            if not ended:
                os.killpg(trial.process, signal.SIGKILL)
                os.waitpid(trial.process, 0)
            del running[trial.process]
            if ended and os.waitstatus_to_exitcode(status) == SURVIVED and trial.stages:
                waiting.insert(0, trial)
            else:
                yield trial.mutant, not ended or os.waitstatus_to_exitcode(status) != SURVIVED
        time.sleep(0.02)


def _start(trial, tests):
    """Fork the process of the next stage."""
    chosen = trial.stages.pop(0)
    trial.deadline = time.monotonic() + STARTING_SECONDS + 20 * sum(tests.seconds[test] for test in chosen)
    trial.process = os.fork()
    if trial.process == 0:
        import resource  # which Windows has not; it cannot fork either

        status = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            status = _run(trial.mutant, chosen)
        finally:
            os._exit(status)


def _run(mutant, chosen) -> int:
    """Exit status of pytest on the chosen tests with the mutant."""
    import pytest

    path = ROOT / mutant.file
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    sys.meta_path.insert(0, _replacing_finder()(module, path.read_text("utf-8"), mutant.source()))
    order = {test: number for number, test in enumerate(chosen)}

    class Selection:
        def pytest_collection_modifyitems(self, items):
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    share = sorted({test.partition("::")[0] for test in chosen})
    options = ("-x", "-q", "--no-header", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "")
    return int(pytest.main([*options, *share], plugins=[Selection()]))


def _replacing_finder():
    """The import hook of `tinyslm.coursework.insert_mistake`, loaded without importing the library."""
    path = ROOT / "tinyslm" / "coursework" / "insert_mistake.py"
    spec = importlib.util.spec_from_file_location("insert_mistake", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ReplacingFinder


def _import_libraries():
    """What every trial needs besides the library, imported before the first fork."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "mistakes", "TINYSLM_RUNTIME": "off"}
    import hypothesis.extra.numpy
    import pytest
    import scipy.linalg
    import scipy.special
    import threadpoolctl
    import tokenizers

    _ = hypothesis, pytest, scipy, threadpoolctl, tokenizers
