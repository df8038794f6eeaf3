"""Pytest plugin for grading: `--implementation FILE` runs the property tests on the functions of a file.

With `--grade-results FILE` each property runs in a new process with limits of time and memory, and its outcome is
written to FILE, one JSON object per line. So a slow or crashing solution, or one that prints, does not affect the marks
of other properties. This is not a sandbox: a malicious solution can manipulate the grader from inside its process.
"""

import json
import math
import os
import re
import select
import signal
import time

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tinyslm.coursework import implementation
from tinyslm.coursework.grading import PATIENCE

LONGEST_OUTPUT = 3000  # characters of a failure that are kept
SMALLEST = ("Falsifying example", "Failing test case")  # how Hypothesis announces the smallest input
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
GENERATE = (Phase.explicit, Phase.generate, Phase.target)

# Both profiles draw the same examples. Neither explains a failure (a comment per argument, after hundreds of further
# runs); `first-failure` does not shrink either: only whether a test fails matters for a mistake.
PROFILE = settings(derandomize=False, database=None, deadline=None, max_examples=50, print_blob=False)
settings.register_profile("grade", PROFILE, phases=(*GENERATE, Phase.shrink))
settings.register_profile("first-failure", PROFILE, phases=GENERATE)


def pytest_addoption(parser):
    """Options of grading."""
    group = parser.getgroup("tinyslm", "coursework")
    group.addoption("--implementation", metavar="FILE", help="test the functions of this file instead of the library's")
    group.addoption(
        "--required", metavar="NAMES", default="", help="names that are not taken from the library, separated by commas"
    )
    group.addoption("--grade-results", metavar="FILE", help="write the outcome of each property there, as JSON lines")
    group.addoption("--property-seconds", type=float, default=30.0, help="processor time limit per property")
    group.addoption("--property-gigabytes", type=float, default=4.0, help="memory limit per property")


def pytest_configure(config):
    """Import the file before any test module imports its functions."""
    config.addinivalue_line("markers", "marks(n): marks of a property in an exercise (default: 1)")
    config.addinivalue_line("markers", "ungraded: a property that does not count in any exercise")
    if config.getoption("--grade-results"):
        settings.load_profile("grade")
    if path := config.getoption("--implementation"):
        try:
            implementation.use(path, filter(None, config.getoption("--required").split(",")))
        except BaseException as error:  # anything that the file raises, SystemExit included
            raise pytest.UsageError(f"{path}: {type(error).__name__}: {error}") from error


def pytest_collection_modifyitems(config, items):
    """When grading: drop properties that do not count."""
    if config.getoption("--grade-results"):
        items[:] = [item for item in items if item.get_closest_marker("ungraded") is None]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """When grading: run the property in a child process and write its outcome to the results."""
    path = item.config.getoption("--grade-results")
    if not path:
        return None
    outcome, output = in_child(item)
    with open(path, "a", encoding="utf-8") as file:
        marker = item.get_closest_marker("marks")
        record = {
            "file": item.path.name,
            "property": item.originalname,
            "marks": marker.args[0] if marker else 1,
            "outcome": outcome,
            "output": output[:LONGEST_OUTPUT],
        }
        file.write(json.dumps(record) + "\n")
    return True


def in_child(item):
    """("passed" | "failed" | "skipped" | "too slow" | "crashed", message) of a property run in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_and_report(item, writing)
    os.close(writing)
    seconds = item.config.getoption("--property-seconds")
    deadline = time.monotonic() + PATIENCE * seconds
    received = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            part = os.read(reading, 65536)
            if not part:
                break
            received += part
    os.close(reading)
    if left <= 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "too slow", f"more than {PATIENCE * seconds:g} seconds"
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGXCPU:
        return "too slow", f"more than {seconds:g} seconds of the processor"
    try:
        return json.loads(received)
    except ValueError:
        return "crashed", f"the process ended with status {os.waitstatus_to_exitcode(status)}"


def run_and_report(item, writing):
    """In the child process: run the test, send the outcome to the parent, and exit."""
    import resource

    size = int(item.config.getoption("--property-gigabytes") * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # 0 on systems where a child does not inherit it
    seconds = math.ceil(used + item.config.getoption("--property-seconds"))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    status = 1
    try:
        reports = runtestprotocol(item, log=False, nextitem=None)
        failed = next((report for report in reports if report.failed), None)
        skipped = any(report.skipped for report in reports)
        found = ["failed", explanation(failed)] if failed else ["skipped" if skipped else "passed", ""]
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(found).encode())
        status = 0
    finally:
        os._exit(status)


def explanation(report) -> str:
    """The message of a failure for students: the smallest failing input, then the error."""
    lines = [line[1:].strip() if line.startswith("E") else "" for line in report.longreprtext.splitlines()]
    said = [line.partition("  # or any other")[0] for line in lines if line and not line.startswith("# ")]
    start = next((i for i, line in enumerate(said) if line.startswith(SMALLEST)), None)
    if start is not None:
        end = next((i for i in range(start, len(said)) if said[i] == ")"), len(said) - 1)
        said = said[start : end + 1] + said[:start]
    return ADDRESS.sub("", "\n".join(said) or report.longreprtext[-LONGEST_OUTPUT:])
