"""Which tests execute a line of the library, and how long each takes; recorded once with coverage.py.

    python -m tests.mutation.covering_tests OUT FILE ...         # one share of the test files, in a process of its own

Tests that fail, and the lines that only an import executes, are left out.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.mutation.mutants import ROOT, Mutant, files

EXCLUDED = {"benchmarks", "commands", "coursework", "mutation", "reporting", "text"}  # slow, and no mathematics
CACHE = ROOT / ".mutation"
INTERFACE = "tests/test_defaults.py::test_defaults_are_the_stated_ones"  # reads what an import defines
MARKERS = "not slow and not lessons and not mistakes"


def test_files() -> list[str]:
    """The files of tests that may find a mutant, relative to the root."""
    found = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))
    return [path.as_posix() for path in found if path.parts[1] not in EXCLUDED and path.name != "test_lessons.py"]


class CoveringTests:
    """lines: {file: {line: [test]}};  seconds: {test: duration}. A test is pytest's node id."""

    def __init__(self, lines, seconds):
        self.lines, self.seconds = lines, seconds

    def of(self, mutant: Mutant) -> list[str]:
        """Tests of a mutant, those of the same name and the fastest first.

        For a line that is executed by the import (a default, a constant, the checks of a decorator): INTERFACE, and all
        tests in the test files that execute the file. A call that a decorator refuses executes no line of its file.
        """
        lines = self.lines.get(mutant.file, {})
        tests = lines.get(mutant.line) or self._in_test_files(lines) | {INTERFACE}
        stem = Path(mutant.file).stem

        def cost(test):
            return test != INTERFACE, stem not in test.partition("::")[0], self.seconds[test], test

        return sorted(tests, key=cost)

    def _in_test_files(self, lines):
        """All recorded tests in the test files of the tests of `lines`."""
        test_files = {test.partition("::")[0] for found in lines.values() for test in found}
        return {test for test in self._recorded if test.partition("::")[0] in test_files}

    @functools.cached_property
    def _recorded(self):
        """All tests that execute some line."""
        return {test for lines in self.lines.values() for found in lines.values() for test in found}


def covering_tests(processes: int = 2) -> CoveringTests:
    """Read the record of these sources, or make it, which takes as long as the tests."""
    content = hashlib.sha256()
    for path in [*files(), *(ROOT / name for name in test_files())]:
        content.update(path.read_bytes())
    record = CACHE / f"{content.hexdigest()[:16]}.json"
    if not record.exists():
        CACHE.mkdir(exist_ok=True)
        shares = [test_files()[i::processes] for i in range(processes)]
        parts = [CACHE / f"part{i}.json" for i in range(processes)]
        print("recording which tests execute which line ...", file=sys.stderr, flush=True)
        running = [_start(part, share) for part, share in zip(parts, shares, strict=True)]
        statuses = [each.wait() for each in running]
        if any(statuses):
            raise SystemExit("the tests could not be recorded")
        record.write_text(json.dumps([json.loads(part.read_text()) for part in parts]))
    lines, seconds = defaultdict(lambda: defaultdict(list)), {}
    for part in json.loads(record.read_text()):
        tests = list(part["seconds"])
        seconds |= part["seconds"]
        for file, found in part["lines"].items():
            for line, numbers in found.items():
                lines[file][int(line)] += [tests[number] for number in numbers]
    return CoveringTests(lines, seconds)


def _start(part, share):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "few", "COVERAGE_CORE": "ctrace"}
    command = [sys.executable, "-m", "tests.mutation.covering_tests", str(part), *share]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


class Recorder:
    """pytest plugin: a coverage context per test, its duration, and whether it passed."""

    def __init__(self, coverage):
        self.coverage, self.seconds, self.failed = coverage, defaultdict(float), set()

    def pytest_runtest_logstart(self, nodeid, location):
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self, nodeid, location):
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.failed.add(report.nodeid)


def main(out, *share):
    """Run a share of the test files and write their record."""
    from coverage import Coverage

    coverage = Coverage(data_file=f"{out}.coverage", source=["tinyslm"], config_file=False)
    coverage.erase()
    recorder = Recorder(coverage)
    coverage.start()
    import pytest

    options = ("-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", MARKERS)
    pytest.main([*options, *share], plugins=[recorder])
    coverage.stop()
    data = coverage.get_data()
    numbers = {test: number for number, test in enumerate(recorder.seconds) if test not in recorder.failed}
    lines = {}
    for path in files():
        found = data.contexts_by_lineno(str(path))
        kept = {line: [numbers[test] for test in tests if test in numbers] for line, tests in found.items()}
        lines[path.relative_to(ROOT).as_posix()] = {line: tests for line, tests in kept.items() if tests}
    Path(out).write_text(json.dumps({"lines": lines, "seconds": recorder.seconds}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
