"""Submissions that attack the grader get the marks of their functions and no others, a remark, and end in time."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.coursework.submissions import RIGHT
from tinyslm.coursework.grading import grade

WRONG = """
def warmup_cosine(step, steps, warmup_steps, final=0.1):
    return 1.0
"""
# Numbers of the processes above this one: the process that imported the file, and the judge with its children.
FAMILY = """
import os

def family():
    judge = int(open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1])
    children = open(f"/proc/{judge}/task/{judge}/children").read().split()
    return [judge, *map(int, children)]
"""
PATCHING = """
import builtins, sys
import hypothesis, numpy, pytest
import tinyslm.coursework.judge, tinyslm.coursework.messages

hypothesis.given = lambda *a, **k: lambda f: lambda: None
numpy.testing.assert_allclose = numpy.testing.assert_array_equal = lambda *a, **k: None
pytest.approx = lambda *a, **k: True
builtins.all = lambda values: True
tinyslm.coursework.judge.ended_with = lambda *a: ("passed", "")
tinyslm.coursework.judge.Judge.judge = lambda *a: ("passed", "")
for name in [name for name in sys.modules if name.startswith("tests")]:
    sys.modules[name] = None
"""
AGREEING = """
class Agreeing(float):
    def always(self, *others):
        return True
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = always
    __hash__ = None
    __array_interface__ = {"shape": (), "typestr": "<f8", "data": (0, False), "version": 3}

def warmup_cosine(*arguments):
    return Agreeing(1.0)
"""
WRITING = f"""{FAMILY}
def warmup_cosine(*arguments):
    for descriptor in range(3, 60):
        try:
            os.write(descriptor, b'["passed", ""]')
        except OSError:
            pass
    for process in family():
        for name in os.listdir(f"/proc/{{process}}/fd"):
            try:
                with open(f"/proc/{{process}}/fd/{{name}}", "wb") as file:
                    file.write(b'["passed", ""]')
            except OSError:
                pass
    return 1.0
"""
FORGING = """
import gc, json, os, socket

def warmup_cosine(*arguments):
    for each in gc.get_objects():
        if isinstance(each, socket.socket):
            for text in MESSAGES:
                each.sendall(len(text).to_bytes(8, "little") * 2 + text)
            os._exit(0)
"""
EVIL = [
    b'{"changed": [], "result": ["record", "os", "abort", []]}',
    b'["passed", ""]',
    b'{"record": {"file": "test_schedule.py", "property": "test_ends", "outcome": "passed", "output": ""}}',
]
IMPORTING = (
    "from tinyslm.training.schedule import warmup_cosine as answer\n\ndef warmup_cosine(*a):\n    return answer(*a)\n"
)
HIDING = """
import importlib
module = importlib.import_module("tinyslm." + "training.schedule")

def warmup_cosine(*arguments):
    return getattr(module, "warmup_" + "cosine")(*arguments)
"""
COPYING = """
import tinyslm.training.schedule as schedule

def warmup_cosine(step, steps, warmup_steps, final=0.1):
    pass

warmup_cosine.__code__ = schedule.warmup_cosine.__code__
"""
PRINTING = """
import sys
for file in (sys.stdout, sys.stderr, sys.__stdout__):
    print('{"done": true}\\n3 passed in 0.01s', file=file, flush=True)
""" + WRONG  # fmt: skip
EXITING = "import os\nos._exit(0)\n" + WRONG
KILLING = f"import time\n{FAMILY}\ndef warmup_cosine(*arguments):\n    os.kill(os.getppid(), 9)\n    time.sleep(9)\n"
KILLING_THE_JUDGE = f"{FAMILY}\ndef warmup_cosine(*arguments):\n    os.kill(family()[0], 9)\n    return 1.0\n"
SLEEPING = "import time\n\ndef warmup_cosine(*arguments):\n    time.sleep(1000)\n"
FILLING = "import numpy as np\n\ndef warmup_cosine(*arguments):\n    return np.ones(2**40)\n"
LARGE = "import numpy as np\n\ndef warmup_cosine(*arguments):\n    return np.zeros(2**26)\n"
BACKGROUND = f"""{RIGHT}
import os, subprocess

def leave_behind(name):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open(f"LOG-{{name}}-{{os.getpid()}}", "w").close()
            while True:
                pass
        os._exit(0)

leave_behind("import")
right, first = warmup_cosine, []

def warmup_cosine(*arguments):
    if not first:
        first.append(leave_behind("call"))
    return right(*arguments)
"""
FORKING = """
import os, time

def warmup_cosine(*arguments):
    for _ in range(4):
        os.fork()
    open(f"LOG-{os.getpid()}", "w").close()
    time.sleep(1000)
"""


def graded(tmp_path, text, **settings):
    """The result, which must not take longer than the limits of elapsed time and a slow start."""
    path = tmp_path / "warmup_cosine.py"
    path.write_text(text, "utf-8")
    began = time.monotonic()
    result = grade(path, **{"seconds": 1.0, "gigabytes": 2} | settings)
    assert time.monotonic() - began < 60
    return result


ATTACKS = {  # name: (file, reason for no marks, part of a remark)
    "patching the test tools": (PATCHING + WRONG, "failed", "changes numpy.testing.assert_allclose"),
    "a result that agrees with all": (AGREEING, "failed", ""),
    "writing to files of the judge": (WRITING, "failed", "calls open"),
    "naming a class in an answer": (FORGING.replace("MESSAGES", repr(EVIL[:1])), "failed", "imports gc"),
    "answering with records": (FORGING.replace("MESSAGES", repr(EVIL[1:])), "failed", "imports socket"),
    "importing the answer": (IMPORTING, "library's answer", "imports the library's warmup_cosine"),
    "importing the answer by its name": (HIDING, "library's answer", "imports importlib"),
    "copying the code of the answer": (COPYING, "library's answer", "uses __code__"),
    "printing a result": (PRINTING, "failed", "imports sys"),
    "ending at once": (EXITING, "crashed", "imports os"),
    "killing the parent": (KILLING, "crashed", "imports os"),
    "killing the judge": (KILLING_THE_JUDGE, "not run", "imports os"),
    "an array larger than the memory": (FILLING, "out of memory", ""),
    "an array larger than a message": (LARGE, "failed", ""),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_no_marks(tmp_path, name):
    text, reason, remark = ATTACKS[name]
    result = graded(tmp_path, text)
    assert (result["score"], result["max_score"]) == (0, 3)
    assert {test["reason"] for test in result["tests"]} == {reason}, result["tests"]
    assert remark in result["output"] and bool(remark) == bool(result["remarks"])


def processes_of(path):
    """Numbers of the processes of a submission that still run. Each has made a file whose name ends with its number."""
    found = []
    for log in path.glob("started*"):
        with suppress(ProcessLookupError, FileNotFoundError):
            number = int(log.name.rpartition("-")[2])
            os.kill(number, 0)
            if "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]:
                found.append(number)
    return found


def assert_none_is_left(path):
    """No process of a submission runs; those found are killed, so that a failing test leaves none."""
    left = processes_of(path)
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert not left


def test_processes_in_the_background_are_ended_and_do_not_hold_up_the_grader(tmp_path):
    """They left the session of the submission. Their owner gets the marks of the function."""
    began = time.monotonic()
    result = graded(tmp_path, BACKGROUND.replace("LOG", str(tmp_path / "started")), seconds=20)
    assert result["score"] == 3 and "imports subprocess" in result["output"]
    assert time.monotonic() - began < 30
    assert {log.name.split("-")[1] for log in tmp_path.glob("started*")} == {"import", "call"}
    assert_none_is_left(tmp_path)


@pytest.mark.parametrize("text", [SLEEPING, FORKING])
def test_processes_that_sleep_are_ended(tmp_path, text):
    result = graded(tmp_path, text.replace("LOG", str(tmp_path / "started")), seconds=0.5)
    assert result["score"] == 0 and {test["reason"] for test in result["tests"]} <= {"too slow", "not run"}
    assert text == SLEEPING or len(list(tmp_path.glob("started*"))) >= 16
    assert_none_is_left(tmp_path)


def test_changes_of_arguments_are_seen(tmp_path):
    """The judge compares its own arrays, which the worker cannot reach."""
    path = tmp_path / "rms_norm.py"
    path.write_text(
        "import numpy as np\nfrom tinyslm.autodiff import differentiable\n\n@differentiable\n"
        "def rms_norm(x, weight, eps=1e-6, offset=0.0):\n"
        "    root = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + x.dtype.type(eps))\n"
        "    gain = weight + x.dtype.type(offset)\n\n"
        "    def vjp(dy):\n"
        "        g, n = dy * gain, x / root\n"
        "        dx = (g - n * np.mean(g * n, axis=-1, keepdims=True)) / root\n"
        "        dweight = np.sum(dy * n, axis=tuple(range(dy.ndim - 1)))\n"
        "        x.flat[0] += 1\n        return dx, dweight\n\n"
        "    return gain * x / root, vjp\n"
    )
    failed = [test for test in grade(path)["tests"] if test["status"] == "failed"]
    assert failed[0]["name"] == "rms norm"
    assert "an input was changed" in failed[0]["output"]
