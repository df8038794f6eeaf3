"""Grading of a student's file: runs the property tests of its exercises in another process and adds up the marks.

Gradescope: in the autograder's `run_autograder`, call

    tinyslm grade /autograder/submission/magnitude_mask.py --seed 7 --out /autograder/results/results.json

The file has the fields that Gradescope reads: `score`, `max_score`, and `tests` with `name`, `score`, `output` and
`status`.

nbgrader: a solution cell begins with `%%writefile magnitude_mask.py` and contains the stub, with the function bodies
between `### BEGIN SOLUTION` and `### END SOLUTION`. The test cell is worth the number of marks of the exercise. It
imports `grade` from this module, and ends with `grade("magnitude_mask.py")["score"]`. nbgrader takes this number as
partial credit.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tinyslm.coursework.exercises import Exercise, exercises, find_exercise, tests_directory
from tinyslm.errors import ConfigError

SECONDS, GIGABYTES = 30.0, 4.0  # limits per property: processor time and memory
PATIENCE = 10  # the limit of elapsed time is this multiple of the limit of processor time
STARTING_SECONDS = 300.0  # limit for importing the file and starting pytest
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
    except (SyntaxError, ValueError) as error:  # ValueError: not UTF-8, or null bytes
        raise ConfigError(f"{path} is not a Python file: {error}") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = [e for e in exercises().values() if not e.writes_tests and defined & set(e.names)]
    if not found:
        raise ConfigError(f"{path} defines no function of an exercise (`tinyslm exercise list`)")
    return found


def grade(path, *, exercise=None, seed=0, seconds=SECONDS, gigabytes=GIGABYTES) -> dict:
    """The result of a file in Gradescope's format: score, max_score, output, and tests with name, score and output.

    exercise: name of the exercise; by default the exercises whose functions the file defines.  seed: determines the
    drawn inputs.  seconds, gigabytes: limits per property. Seconds are processor time, so that the result does not
    depend on the load of the machine. It is the same for the same file, seed and versions.
    """
    chosen = [find_exercise(exercise)] if exercise else exercises_in(path)
    if any(each.writes_tests for each in chosen):
        raise ConfigError(f"the solution of {exercise} is a file of properties: use grade-tests")
    began = time.monotonic()
    wanted = list(dict.fromkeys(found for each in chosen for found in properties_of(each)))
    required = [name for each in chosen for name in each.names]
    records, note = run_properties(path, wanted, required, seed, seconds, gigabytes)
    tests = [marked(found, records.get((found.file, found.name), []), note) for found in wanted]
    return {
        "exercises": [each.name for each in chosen],
        "seed": seed,
        "score": sum(test["score"] for test in tests),
        "max_score": sum(test["max_score"] for test in tests),
        "execution_time": round(time.monotonic() - began, 2),
        "output": note,
        "tests": tests,
    }


def marked(found: Property, records, note) -> dict:
    """The entry of one property in the result. A parametrized property passes only if all of its cases pass."""
    failed = next((record for record in records if record["outcome"] != "passed"), None)
    passed = bool(records) and failed is None
    if failed is None:
        output = "" if passed else note or "was not run"
    elif failed["outcome"] == "failed":
        output = failed["output"]
    else:
        output = f"{failed['outcome']}: {failed['output']}"
    return {
        "name": found.sentence,
        "score": found.marks if passed else 0,
        "max_score": found.marks,
        "status": "passed" if passed else "failed",
        "output": output,
    }


def run_properties(path, wanted, required, seed, seconds, gigabytes):
    """({(file, property): records}, error of the whole file or ""). required: names that the file must define."""
    folder = tests_directory() / "properties"
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory) / "results.jsonl"
        results.touch()
        options = (
            *("--implementation", str(Path(path).resolve()), "--required", ",".join(required)),
            *("--grade-results", str(results)),
            *("--property-seconds", str(seconds), "--property-gigabytes", str(gigabytes)),
            f"--hypothesis-seed={seed}",
        )
        nodes = [f"{folder / found.file}::{found.name}" for found in wanted]
        status, said = run_pytest([*nodes, *options], STARTING_SECONDS + PATIENCE * seconds * len(wanted))
        records = {}
        for line in results.read_text("utf-8").splitlines():
            record = json.loads(line)
            records.setdefault((record["file"], record["property"]), []).append(record)
    if status == 0 and records:
        return records, ""
    if status is None:
        return records, "the file took too long before a property could be tried"
    return records, last_lines(said) or f"the tests ended with status {status}"


def run_pytest(arguments, seconds, program=("-m", "pytest")):
    """(exit status, output) of pytest in a new process; the status is None if it took longer than `seconds`."""
    root = tests_directory().parent
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # installed plugins neither slow pytest down nor change its output
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    plugins = ("-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider")
    quiet = ("-q", "--no-header", *plugins, "-o", "addopts=", f"--rootdir={root}")
    process = subprocess.Popen(
        [sys.executable, *program, *arguments, *quiet],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        said, _ = process.communicate()
        return None, said
    return process.returncode, said


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
    if result["output"] and not any(result["output"] in test["output"] for test in result["tests"]):
        lines.append(result["output"])
    return "\n".join([*lines, f"{result['score']} of {result['max_score']} marks"])
