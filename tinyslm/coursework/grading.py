"""Marks for a student's file: the properties of its exercises, run in another process and added up."""

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

SECONDS, GIGABYTES = 30.0, 4.0  # of the processor, and of memory, that one property may take
PATIENCE = 10  # times the limit of processor time, for a property that waits, on a machine that is busy
STARTING_SECONDS = 300.0  # that reading the file may take, and what surrounds the properties
LONGEST_NOTE = 1000  # characters of what went wrong as a whole


@dataclass(frozen=True)
class Property:
    """A property of an exercise: `file::name`, what it counts, and its name as a sentence."""

    file: str
    name: str
    marks: int = 1

    @property
    def sentence(self) -> str:
        """ "test_masks_are_nested" says "masks are nested"."""
        return self.name.removeprefix("test_").replace("_", " ")


def properties_of(exercise: Exercise) -> list[Property]:
    """The properties that mark an exercise, in their order, read from the files without running them."""
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
    """The exercises whose functions a file defines, found without running it.

    Raises ConfigError if there are none, or if the file is not Python.
    """
    try:
        tree = ast.parse(Path(path).read_text("utf-8"))
    except (SyntaxError, ValueError) as error:  # ValueError: not text, or with null bytes
        raise ConfigError(f"{path} is not a Python file: {error}") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = [e for e in exercises().values() if not e.writes_tests and defined & set(e.names)]
    if not found:
        raise ConfigError(f"{path} defines no function that an exercise asks for (`tinyslm exercise list`)")
    return found


def grade(path, *, exercise=None, seed=0, seconds=SECONDS, gigabytes=GIGABYTES) -> dict:
    """Marks of a file, as Gradescope reads them: score, max_score, output, and tests with name, score and output.

    exercise: its name, by default found from the functions in the file;  seed: which inputs are drawn;  seconds,
    gigabytes: limits of each property, of processor time, so that a busy machine gives the same marks. The same file,
    seed and versions do.
    """
    chosen = [find_exercise(exercise)] if exercise else exercises_in(path)
    if any(each.writes_tests for each in chosen):
        raise ConfigError(f"{exercise} asks for properties: use grade-tests")
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
    """One line of the result: a property with parameters counts only if all of its cases passed."""
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
    """({(file, property): records}, what went wrong as a whole or ""). required: names that the file has to define."""
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
    """(exit status, or None when it took longer than `seconds`; what it said) of pytest in a process of its own."""
    root = tests_directory().parent
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    quiet = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", f"--rootdir={root}")
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


def last_lines(said) -> str:
    """The end of what pytest said, without its decoration."""
    lines = [line for line in said.strip().splitlines() if line.strip() and not line.startswith(("=", "-"))]
    return "\n".join(lines[-5:])[-LONGEST_NOTE:]


def as_text(result) -> str:
    """A result for a terminal: a line per property, and below it what a failed one says."""
    lines = []
    for test in result["tests"]:
        mark = "✓" if test["status"] == "passed" else "✗"
        lines.append(f"{mark} {test['score']}/{test['max_score']}  {test['name']}")
        lines += [f"          {line}" for line in test["output"].splitlines()]
    if result["output"] and not any(result["output"] in test["output"] for test in result["tests"]):
        lines.append(result["output"])
    return "\n".join([*lines, f"{result['score']} of {result['max_score']} marks"])
