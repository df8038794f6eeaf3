"""The judge of a submission: runs the property tests, and never imports the submission.

Each property runs in a child process of the judge with limits of time and memory. Its calls of the submission go to the
worker (`remote.py`, `worker.py`).
"""

import gc
import json
import math
import os
import re
import resource
import select
import signal
import socket
import time
import traceback
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from tinyslm.coursework import implementation
from tinyslm.coursework.messages import receive, send
from tinyslm.coursework.remote import Remote, Session
from tinyslm.coursework.worker_process import Worker, protect

PATIENCE = 3  # the limit of elapsed time of a property is this multiple of the limit of processor time
FILE_PATIENCE = 10  # and this is the multiple for all properties of a file together
LONGEST_OUTPUT = 3000  # characters of a failure that are kept
SMALLEST = ("Falsifying example", "Failing test case")  # how Hypothesis announces the smallest input
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


class Judge:
    """Runs the properties on the functions of a submission and sends the results to the process that asked."""

    def __init__(self, grader):
        grader.set_inheritable(False)
        self.grader, self.session = grader, Session()
        self.task, _ = receive(grader)
        self.seconds, self.gigabytes = self.task["seconds"], self.task["gigabytes"]
        protect()
        implementation.use({name: Remote(self.session, name) for name in self.task["required"]})
        self.start()

    def start(self):
        """Start the process of the submission. It imports the file while this one imports the tests."""
        self.worker, self.defined = Worker(self.task), None

    def restart(self):
        """Kill the process of the submission and all that it started, start it again, and return its exit status."""
        status = self.worker.stop(seconds=1.0)
        self.start()
        return status

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Run the properties, then tell the grader that these were all."""
        items = [item for item in session.items if item.get_closest_marker("ungraded") is None]
        gc.freeze()  # the child processes do not search the objects of this one for garbage, which Hypothesis asks for
        self.end = time.monotonic() + FILE_PATIENCE * self.seconds
        try:
            for item in items:
                outcome, output = self.judge(item)
                record = {"file": item.path.name, "property": item.originalname, "outcome": outcome}
                send(self.grader, {"record": record | {"output": output[:LONGEST_OUTPUT]}})
            send(self.grader, {"done": True})
        finally:
            self.worker.stop()
        return True

    def judge(self, item):
        """(outcome, message) of a property. The outcome is "passed" or the reason for which it did not pass."""
        left = min(self.end - time.monotonic(), PATIENCE * self.seconds)
        if left <= 0:
            return "not run", f"the properties before this one took more than {FILE_PATIENCE * self.seconds:g} seconds"
        end = time.monotonic() + left
        if self.defined is None:
            self.defined = self.worker.answer(left)
            if not self.defined:
                slow, status = self.defined is None, self.restart()
                return ("too slow", too_slow(left)) if slow else ended_with(status, self.seconds)
        if "error" in self.defined:
            return "failed", str(self.defined["error"])
        self.session.connection = self.worker.connect()
        outcome, output = self.in_child(item, end)
        self.session.connection.close()
        answer = self.worker.answer(min(1.0, self.seconds))  # about the process that answered the calls
        status = answer.get("status") if answer else self.restart()
        return (outcome, output) if outcome else ended_with(status, self.seconds)

    def in_child(self, item, end):
        """(outcome, message) of a property that runs in a child process until a time."""
        reading, writing = socket.socketpair()  # unlike a pipe, the worker cannot open it
        child = os.fork()
        if child == 0:
            reading.close()
            self.run_and_report(item, writing)
        writing.close()
        received = b""
        with reading:
            while (left := end - time.monotonic()) > 0:
                if select.select([reading], [], [], left)[0]:
                    part = reading.recv(65536)
                    if not part:
                        break
                    received += part
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "too slow", too_slow(PATIENCE * self.seconds)
        _, status = os.waitpid(child, 0)
        try:
            return json.loads(received)
        except ValueError:
            return ended_with(os.waitstatus_to_exitcode(status), self.seconds)

    def run_and_report(self, item, writing):
        """In the child process: run the test, send the outcome to the parent, and exit."""
        size = int(self.gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # 0 on systems where a child does not inherit it
        limit = math.ceil(used + self.seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))

        def report(outcome, message):
            writing.sendall(json.dumps([outcome, message]).encode())
            os._exit(0)

        def stop(outcome, message):
            report(outcome, "\n".join([message, *running_line(item)]))

        self.session.stop = stop
        try:
            reports = runtestprotocol(item, log=False, nextitem=None)
            failed = next((each for each in reports if each.failed), None)
            if failed:
                report("failed", explanation(failed, item))
            report("skipped" if any(each.skipped for each in reports) else "passed", "")
        finally:
            os._exit(1)


def too_slow(seconds):
    """The message about a limit of elapsed time."""
    return f"more than {seconds:g} seconds"


def ended_with(status, seconds):
    """(outcome, message) of a property during which a process ended with this exit status."""
    if status == -signal.SIGXCPU:
        return "too slow", f"more than {seconds:g} seconds of the processor"
    return "crashed", "the process ended" if status is None else f"the process ended with status {status}"


def explanation(report, item) -> str:
    """The message of a failure for students: the smallest failing input, the failing line, then the error."""
    lines = [line[1:].strip() if line.startswith("E") else "" for line in report.longreprtext.splitlines()]
    said = [line.partition("  # or any other")[0] for line in lines if line and not line.startswith("# ")]
    start = next((i for i, line in enumerate(said) if line.startswith(SMALLEST)), None)
    if start is not None:
        end = next((i for i in range(start, len(said)) if said[i] == ")"), len(said) - 1)
        said = [*said[start : end + 1], *failing_line(report, item), *said[:start]]
    else:
        said = [*failing_line(report, item), *said]
    return ADDRESS.sub("", "\n".join(said) or report.longreprtext[-LONGEST_OUTPUT:])


def failing_line(report, item) -> list[str]:
    """The last line of the property's file in the traceback, as a list of one line, or an empty list."""
    chain = getattr(report.longrepr, "reprtraceback", None)
    for entry in reversed(getattr(chain, "reprentries", ())):
        place = getattr(entry, "reprfileloc", None)
        if place is not None and Path(place.path).name == item.path.name:
            return [source_line(item, place.lineno)]
    return []


def running_line(item) -> list[str]:
    """The line of the property's file that is running, as a list of one line, or an empty list."""
    for frame, number in traceback.walk_stack(None):
        if frame.f_code.co_filename == str(item.path):
            return [source_line(item, number)]
    return []


def source_line(item, number) -> str:
    """A line of the property's file, with its number."""
    return f"line {number} of {item.path.name}: {item.path.read_text('utf-8').splitlines()[number - 1].strip()}"
