"""Grading of a student's file: runs the property tests of its exercises and adds up the marks.

Three processes take part. The grader (this module) starts the judge and adds up the marks. The judge (`judge.py`) runs
the property tests and never imports the submission. The worker (`worker.py`) imports the submission and answers the
calls of the judge. Arguments and results are plain data (`messages.py`). So nothing that the submission changes in its
process (NumPy, Hypothesis, pytest, `sys.modules`), prints, or does when it ends gives marks. On Linux everything that
it starts is killed; elsewhere, what stays in its session. This holds for all exercises.

What is still possible: the submission runs with the rights of the person who grades. It can read the library's source
and the tests, paste the answer, use the network, and change files, those of the library included. As root, or where the
system allows to read other processes, it can change the judge itself. Use a container for files that you do not trust.
`remarks` names what a reader of the file should look at, such as imports of the answer. They do not change the marks.

Gradescope: in the autograder's `run_autograder`, call

    tinyslm grade /autograder/submission/magnitude_mask.py --seed 7 --out /autograder/results/results.json

The file has the fields that Gradescope reads: `score`, `max_score`, `output`, and `tests` with `name`, `score`,
`output` and `status`.

nbgrader: a solution cell begins with `%%writefile magnitude_mask.py` and contains the stub, with the function bodies
between `### BEGIN SOLUTION` and `### END SOLUTION`. The test cell is worth the number of marks of the exercise. It
imports `grade` from this module, and ends with `grade("magnitude_mask.py")["score"]`. nbgrader takes this number as
partial credit.
"""

import ast
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinyslm.coursework.exercises import Exercise, exercises, find_exercise, tests_directory
from tinyslm.coursework.messages import MessageError, receive, send
from tinyslm.coursework.remarks import remarks_on
from tinyslm.errors import ConfigError

SECONDS, GIGABYTES = 30.0, 4.0  # limits per property: processor time and memory
LONGEST_FILE = 12  # elapsed time for all properties of a file, as a multiple of the limit of processor time
STARTING_SECONDS = 300.0  # limit for starting pytest
LONGEST_NOTE = 1000  # characters of an error message that concerns the whole file


@dataclass(frozen=True)
class Property:
    """A property test of an exercise: `file::name`, and the marks that it is worth."""

    file: str
    name: str
    marks: int = 1

    @property
    def sentence(self) -> str:
        """The name as words: `test_masks_are_nested` becomes "masks are nested"."""
        return self.name.removeprefix("test_").replace("_", " ")


def properties_of(exercise: Exercise) -> list[Property]:
    """The property tests that grade an exercise, in the order of the files, found without importing them."""
    found = []
    for wanted in exercise.properties:
        file, _, only = wanted.partition("::")
        tree = ast.parse((tests_directory() / "properties" / file).read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and only in ("", node.name):
                decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
                if "pytest.mark.ungraded" not in decorators:
                    marks = [re.fullmatch(r"pytest\.mark\.marks\((\d+)\)", text) for text in decorators]
                    found.append(Property(file, node.name, next((int(m[1]) for m in marks if m), 1)))
    return found


def exercises_in(path) -> list[Exercise]:
    """The exercises whose functions a file defines, found without importing it.

    Raises ConfigError if there are none, or if the file is not valid Python.
    """
    try:
        tree = ast.parse(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        raise ConfigError(f"{path} is not a Python file: {error.msg}{line}") from None
    except ValueError as error:  # not UTF-8, or null bytes
        raise ConfigError(f"{path} is not a Python file: {error}") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = [e for e in exercises().values() if not e.writes_tests and defined & set(e.names)]
    if not found:
        raise ConfigError(f"{path} defines no function of an exercise (`tinyslm exercise list`)")
    return found


def require_test_tools():
    """Raise ConfigError unless pytest and Hypothesis, which grading needs, are installed."""
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'{missing[0]} is missing, needed for grading: pip install "tinyslm[coursework]"')


def grade(path, *, exercise=None, seed=0, seconds=SECONDS, gigabytes=GIGABYTES) -> dict:
    """The result of a file in Gradescope's format: score, max_score, output, and tests with name, score and output.

    exercise: name of the exercise; by default the exercises whose functions the file defines.  seed: determines the
    drawn inputs.  seconds, gigabytes: limits per property. Seconds are processor time, so that the result does not
    depend on the load of the machine. It is the same for the same file, seed and versions.

    Raises ConfigError if the file cannot be graded; `ungraded` makes a result of its message.
    """
    require_test_tools()
    chosen = [find_exercise(exercise)] if exercise else exercises_in(path)
    if any(each.writes_tests for each in chosen):
        raise ConfigError(f"the solution of {exercise} is a file of properties: use grade-tests")
    if not Path(path).is_file():
        raise ConfigError(f"{path} is not a file")
    began = time.monotonic()
    wanted = list(dict.fromkeys(found for each in chosen for found in properties_of(each)))
    answers = list(dict.fromkeys(name for each in chosen for name in (*each.functions, *each.equivalent)))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        task = {
            "path": str(Path(path).resolve()),
            "directory": directory,
            "required": list(dict.fromkeys(name for each in chosen for name in each.names)),
            "answers": answers,
            "seconds": seconds,
            "gigabytes": gigabytes,
        }
        records, note = judge(task, wanted, seed)
    tests = [marked(found, records.get(f"{found.file}::{found.name}", []), note) for found in wanted]
    return result_of(chosen, seed, tests, note, remarks_on(path, answers), time.monotonic() - began)


def ungraded(path, message, *, exercise=None, seed=0) -> dict:
    """The result of a file that cannot be graded: score 0, and the message instead of tests.

    The maximum is that of `exercise`, or of the exercise whose file has this name; 0 if there is none.
    """
    named = [each for each in exercises().values() if exercise in (None, each.name) and not each.writes_tests]
    chosen = [each for each in named if exercise or each.file_name == Path(path).name]
    tests = [marked(found, [], message) for each in chosen for found in properties_of(each)]
    return result_of(chosen, seed, tests, message, [], 0.0)


def result_of(chosen, seed, tests, note, remarks, seconds) -> dict:
    """The result as a dictionary. note: what concerns the whole file."""
    return {
        "exercises": [each.name for each in chosen],
        "seed": seed,
        "score": sum(test["score"] for test in tests),
        "max_score": sum(test["max_score"] for test in tests),
        "execution_time": round(seconds, 2),
        "output": "\n".join([*filter(None, [note]), *(f"remark: {remark}" for remark in remarks)]),
        "note": note,
        "remarks": remarks,
        "tests": tests,
    }


def marked(found: Property, records, note) -> dict:
    """The entry of one property in the result. A parametrized property passes only if all of its cases pass.

    reason: "" if it passed, or else "failed", "too slow", "crashed", "out of memory", "skipped", "library's answer",
    or "not run".
    """
    failed = next((record for record in records if record["outcome"] != "passed"), None)
    if failed is not None:
        reason, output = failed["outcome"], failed["output"]
    else:
        reason, output = ("", "") if records else ("not run", note or "was not run")
    if reason not in ("", "failed", "not run"):
        output = f"{reason}: {output}"
    return {
        "name": found.sentence,
        "score": 0 if reason else found.marks,
        "max_score": found.marks,
        "status": "failed" if reason else "passed",
        "reason": reason,
        "output": output,
    }


def judge(task, wanted, seed):
    """({"file::property": records}, error of the whole file or "")."""
    folder = tests_directory() / "properties"
    nodes = [f"{folder / found.file}::{found.name}" for found in wanted]
    here, there = socket.socketpair()  # unlike a file or a pipe, another process cannot open it
    with here, there, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        options = ("--grade", str(there.fileno()), f"--hypothesis-seed={seed}")
        process = start_pytest([*nodes, *options], said, pass_fds=[there.fileno()])
        there.close()
        records = None
        try:
            records = received_records(here, task, STARTING_SECONDS + LONGEST_FILE * task["seconds"])
        finally:
            stop(process, 1 if records is None else STARTING_SECONDS)
        said.seek(0)
        note = "" if records is not None else last_lines(said.read()) or "the tests could not be run"
    return records or {}, note


def received_records(connection, task, seconds):
    """The records that the judge sends for the task, by property, or None if it ended before it had sent all."""
    end = time.monotonic() + seconds
    records: dict[str, list] = {}
    with suppress(OSError, MessageError):
        send(connection, task)
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            message = receive(connection)
            if message is None or "done" in message[0]:
                return records if message else None
            record = message[0]["record"]
            records.setdefault(f"{record['file']}::{record['property']}", []).append(record)
    return None


def run_pytest(arguments, seconds, program=("-m", "pytest")):
    """(exit status, output) of pytest in a new process; the status is None if it took longer than `seconds`."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = start_pytest(arguments, said, program)
        status = stop(process, seconds)
        said.seek(0)
        return status, said.read()


def start_pytest(arguments, said, program=("-m", "pytest"), **options):
    """Start pytest in a new session. said: the file of its output; a background process may keep it open."""
    root = tests_directory().parent
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # installed plugins neither slow pytest down nor change its output
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(tempfile.gettempdir()) / f"tinyslm-hypothesis-{os.getuid()}"),
    }
    if root.name == "_data":  # of an installed package: only what was installed is removed with it
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    plugins = ("-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider")
    quiet = ("-q", "--no-header", *plugins, "-o", "addopts=", f"--rootdir={root}")
    return subprocess.Popen(
        [sys.executable, *program, *arguments, *quiet],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )


def stop(process, seconds):
    """The exit status of a process, or None if it did not end in time. Its session is killed in any case."""
    status = None
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also after Ctrl-C, which a process of another session does not receive
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return status


def last_lines(output) -> str:
    """The last lines of pytest's output, without separators."""
    lines = [line for line in output.strip().splitlines() if line.strip() and not line.startswith(("=", "-"))]
    return "\n".join(lines[-5:])[-LONGEST_NOTE:]


def as_text(result) -> str:
    """A result for the terminal: one line per property, followed by the message of a failed one."""
    lines = []
    for test in result["tests"]:
        mark = "✓" if test["status"] == "passed" else "✗"
        lines.append(f"{mark} {test['score']}/{test['max_score']}  {test['name']}")
        lines += [f"          {line}" for line in test["output"].splitlines()]
    if result["note"] and not any(result["note"] in test["output"] for test in result["tests"]):
        lines.append(result["note"])
    lines += [f"remark: {remark}" for remark in result["remarks"]]
    return "\n".join([*lines, f"{result['score']} of {result['max_score']} marks"])
