"""Grading of correct, wrong, slow, crashing, memory-hungry, empty and cheating files."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.coursework.submissions import RIGHT, SOLUTIONS
from tests.processes import start_with_ctrl_c
from tinyslm.cli import main
from tinyslm.coursework import exercises
from tinyslm.coursework.grading import as_text, exercises_in, grade, run_pytest
from tinyslm.errors import ConfigError

WRONG = RIGHT.replace("(step + 1) / warmup_steps", "step / warmup_steps")
SLOW = "def warmup_cosine(step, steps, warmup_steps, final=0.1):\n    while True:\n        pass\n"
CRASHING = "import os\n\ndef warmup_cosine(step, steps, warmup_steps, final=0.1):\n    os._exit(0)\n"
GREEDY = "def warmup_cosine(step, steps, warmup_steps, final=0.1):\n    return [0] * 10**12\n"
LYING = (
    'print(\'{"file": "test_schedule.py", "outcome": "passed"}\')\nprint("3 passed in 0.01s")\n'
    "def warmup_cosine(step, steps, warmup_steps, final=0.1):\n    print('passed', flush=True)\n    return 1.0\n"
)
SPYING = """
def warmup_cosine(*arguments, **settings):
    with open("LOG", "a") as file:
        print(arguments, settings, file=file)
    return _right(*arguments, **settings)
"""
EXITING = "raise SystemExit(0)\ndef warmup_cosine(): pass\n"
HANGING = "import time\ntime.sleep(10**6)\ndef warmup_cosine(): pass\n"
BROKEN = "def warmup_cosine(step, steps:\n"
EMPTY = ""


def graded(tmp_path, text, **settings):
    path = tmp_path / "warmup_cosine.py"
    path.write_text(text, "utf-8")
    return grade(path, **settings)


def groups(paths):
    """The paths in groups. No two files of a group solve the same exercise."""
    found = []
    for path in paths:
        names = {each.name for each in exercises_in(path)}
        group = next((group for group in found if not names & group.keys()), None)
        if group is None:
            found.append(group := {})
        group |= dict.fromkeys(names, path)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("group", groups(SOLUTIONS), ids=len)
def test_correct_solutions_that_are_written_differently_score_everything(tmp_path, group):
    """A group in one file, because starting the judge takes longer than most properties."""
    text = "\n".join(path.read_text("utf-8") for path in dict.fromkeys(group.values()))
    result = graded(tmp_path, text)
    assert set(result["exercises"]) == group.keys()
    assert result["score"] == result["max_score"] >= len(group), as_text(result)
    assert len(SOLUTIONS) >= 10 and len({each.name for p in SOLUTIONS for each in exercises_in(p)}) >= 5


def test_a_right_one_scores_all_and_a_wrong_one_loses_what_it_breaks(tmp_path):
    right, wrong = graded(tmp_path, RIGHT), graded(tmp_path, WRONG)
    assert right["score"] == right["max_score"] == 3
    assert 0 < wrong["score"] < 3
    failed = next(test for test in wrong["tests"] if test["status"] == "failed")
    assert failed["output"].startswith(("Falsifying example", "Failing test case")) and "warmup" in failed["output"]
    assert not any("reproduce" in test["output"] for test in wrong["tests"])


def test_the_grade_is_the_same_every_time(tmp_path):
    first, second = (graded(tmp_path, WRONG, seed=5) for _ in range(2))
    first.pop("execution_time"), second.pop("execution_time")
    assert first == second


def test_nothing_is_written_to_an_installed_package(tmp_path, monkeypatch):
    """So that nothing is left when it is uninstalled."""
    package = tmp_path / "_data" / "tests"
    shutil.copytree(exercises.tests_directory() / "properties", package / "properties")
    for name in ("__init__.py", "conftest.py", "checks.py", "strategies.py"):
        shutil.copy(exercises.tests_directory() / name, package / name)
    monkeypatch.setattr("tinyslm.coursework.grading.tests_directory", lambda: package)
    before = sorted(package.parent.rglob("*"))
    assert graded(tmp_path, RIGHT)["score"] == 3
    assert sorted(package.parent.rglob("*")) == before


def test_a_seed_draws_other_inputs(tmp_path):
    """The inputs, logged by the solution itself, differ between seeds and are equal between runs."""
    seen = []
    for run, seed in enumerate((3, 3, 4)):
        log = tmp_path / f"asked{run}"
        graded(tmp_path, f"{RIGHT}    \n_right = warmup_cosine\n" + SPYING.replace("LOG", str(log)), seed=seed)
        seen.append(log.read_text())
    assert seen[0] == seen[1] != seen[2]


def test_one_that_never_ends_is_stopped(tmp_path):
    began = time.monotonic()
    result = graded(tmp_path, SLOW, seconds=1.5)
    assert result["score"] == 0 and all("too slow" in test["output"] for test in result["tests"])
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "text, said", [(CRASHING, "crashed"), (GREEDY, "MemoryError"), (EXITING, "SystemExit"), (LYING, "")]
)
def test_no_way_to_end_early_or_to_print_gives_marks(tmp_path, text, said):
    result = graded(tmp_path, text, gigabytes=2)
    assert result["score"] == 0 and result["max_score"] == 3
    assert all(said in test["output"] for test in result["tests"])


def test_a_file_that_hangs_while_it_is_read_is_stopped(tmp_path):
    result = graded(tmp_path, HANGING, seconds=0.5)
    assert result["score"] == 0 and {test["reason"] for test in result["tests"]} <= {"too slow", "not run"}


@pytest.mark.parametrize("text", [BROKEN, EMPTY, "x = 1\n", "\0", None])
def test_files_without_a_solution_have_a_result_of_0(tmp_path, text, capsys):
    path, out = tmp_path / "warmup_cosine.py", tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError):
        grade(path)
    assert main(["grade", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "warmup_cosine.py" in said
    result = json.loads(out.read_text("utf-8"))
    assert (result["score"], result["max_score"]) == (0, 3) and result["note"] in said
    assert {test["reason"] for test in result["tests"]} == {"not run"}


def test_a_task_of_the_other_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="grade-tests"):
        grade(tmp_path / "warmup_cosine.py", exercise="properties-of-quantize")


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
@pytest.mark.parametrize("command", ["grade", "grade a class", "grade-tests"])
def test_without_the_test_tools_nothing_is_graded(tmp_path, missing, command):
    """Not marks of 0 for a whole class."""
    path, out = tmp_path / "test_properties_of_quantize.py", tmp_path / "out"
    path.write_text(RIGHT)
    arguments = [command.split()[0], str(path if command != "grade a class" else tmp_path), "--out", str(out)]
    program = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        f"sys.modules[{missing!r}] = None\n"
        f"from tinyslm.cli import main\nraise SystemExit(main({arguments!r}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (2, "") and not out.exists()
    assert f'{missing} is missing, needed for grading: pip install "tinyslm[coursework]"' in run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes do not end with their parent")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_leaves_no_process(tmp_path, number):
    """Ctrl-C reaches only the command, because the judge has a session of its own."""
    path, log = tmp_path / "warmup_cosine.py", tmp_path / "log"
    path.write_text(f"import os\nopen({str(log)!r}, 'w').write(str(os.getppid()))\n{SLOW}")
    command = start_with_ctrl_c([sys.executable, "-m", "tinyslm", "grade", str(path)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    command.send_signal(number)
    command.wait(60)
    judge = Path("/proc") / log.read_text() / "cmdline"
    while judge.exists() and judge.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert not judge.exists() or not judge.read_text()


def test_a_result_is_what_gradescope_reads(tmp_path, capsys):
    path, out = tmp_path / "warmup_cosine.py", tmp_path / "results.json"
    path.write_text(WRONG)
    assert main(["grade", str(path), "--out", str(out)]) == 0
    result = json.loads(out.read_text("utf-8"))
    assert result["score"] == sum(test["score"] for test in result["tests"])
    assert {"name", "score", "max_score", "output", "status"} <= set(result["tests"][0])
    shown = capsys.readouterr().out
    assert "✗ 0/1" in shown and "✓ 1/1" in shown and f"{result['score']} of 3 marks" in shown


@pytest.mark.slow
def test_a_class_of_ten_becomes_a_table(tmp_path, capsys):
    texts = {
        "ada": RIGHT, "bo": WRONG, "cem": SLOW, "dora": CRASHING, "eli": EMPTY,
        "finn": LYING, "gus": BROKEN, "hana": GREEDY, "ida": EXITING, "jon": RIGHT.replace("final +", "0 * final +"),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / "class" / name).mkdir(parents=True)
        (tmp_path / "class" / name / "warmup_cosine.py").write_text(text)
    out = tmp_path / "marks.csv"
    arguments = ["grade", str(tmp_path / "class"), "--seconds", "2", "--workers", "2", "--out", str(out)]
    assert main(arguments) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    marks = {Path(row["file"]).parent.name: row["score"] for row in rows}
    assert list(marks) == sorted(texts)
    assert marks.pop("ada") == "3" and marks.pop("bo") in "12" and marks.pop("jon") in "12"
    assert set(marks.values()) == {"0"}
    notes = {Path(row["file"]).parent.name: row["note"] for row in rows}
    assert "defines no function" in notes["eli"] and "not a Python file" in notes["gus"]
    assert {row["max_score"] for row in rows} == {"3"}
    reasons = {Path(row["file"]).parent.name: row["reasons"] for row in rows}
    assert reasons["cem"] == "too slow (3)" and reasons["dora"] == "crashed (3)"
    assert reasons["hana"] == "out of memory (3)" and reasons["bo"] == ""
    assert capsys.readouterr().out == out.read_text("utf-8")


def test_what_was_asked_for_and_left_out_is_not_the_library_s(tmp_path):
    """A file with half of an exercise gets the marks of that half only."""
    path = tmp_path / "half.py"
    path.write_text(
        "import numpy as np\n\ndef wanda_scores(weight, feature_norms):\n"
        "    return np.abs(weight) * feature_norms.astype(weight.dtype)\n"
    )
    assert [each.name for each in exercises_in(path)] == ["wanda"]
    result = grade(path)
    passed = [test["name"] for test in result["tests"] if test["status"] == "passed"]
    assert passed == ["a score is the norm of the term of a weight in the output", "dtype in is dtype out"]
    assert "the file does not define wanda_mask" in str(result)


def test_what_was_not_asked_for_is_the_library_s(tmp_path):
    """Gradient clipping has its tests in the same file as AdamW, and is not part of an exercise."""
    path = tmp_path / "mine.py"
    path.write_text(RIGHT)
    files = [str(exercises.tests_directory() / "properties" / f"test_{name}.py") for name in ("adamw", "schedule")]
    status, said = run_pytest([*files, "--implementation", str(path)], 120)
    assert status == 0, said
    assert f"from {path}: warmup_cosine\n" in said and "from tinyslm.training: AdamW\n" in said


@pytest.mark.parametrize("text", [EMPTY, "def encode_a_thing(): pass\n"])
def test_a_file_of_which_nothing_is_tested_does_not_pass(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    file = exercises.tests_directory() / "properties" / "test_schedule.py"
    status, said = run_pytest([str(file), "--implementation", str(path)], 120)
    assert status == 4 and "defines nothing that these tests use (warmup_cosine)" in said


def test_the_properties_can_be_pointed_at_a_file_by_plain_pytest(tmp_path):
    for text, status in ((RIGHT, 0), (WRONG, 1)):
        path = tmp_path / "mine.py"
        path.write_text(text)
        file = exercises.tests_directory() / "properties" / "test_schedule.py"
        assert run_pytest([str(file), "--implementation", str(path)], 120)[0] == status
