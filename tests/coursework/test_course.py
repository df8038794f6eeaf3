"""The course: all exercises in one directory, from `exercise start` to the last solved exercise."""

import ast
import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.commands.files import assert_one_line, run
from tests.processes import start_with_ctrl_c
from tinyslm.commands import exercise as command
from tinyslm.coursework import course as course_module
from tinyslm.coursework.course import RECORD, best_score, course_files, find_course, initial_text, start_course
from tinyslm.coursework.exercises import exercises, module_path, split_name
from tinyslm.coursework.stubs import without_body
from tinyslm.errors import ConfigError, Error
from tinyslm.reporting.plain_text import width

SOLUTIONS = Path(__file__).parent / "solutions"
WARMUP = "04_2_warmup_cosine.py"
BEST = best_score(exercises()["warmup-cosine"])
RIGHT = (SOLUTIONS / "warmup_cosine_as_a_product.py").read_text("utf-8")
WRONG = RIGHT.replace("done = step + 1", "done = step")


@pytest.fixture
def directory(tmp_path, monkeypatch, capsys):
    """A new course, in the working directory."""
    assert run("exercise", "start", tmp_path / "mine") == 0
    monkeypatch.chdir(tmp_path / "mine")
    capsys.readouterr()
    return tmp_path / "mine"


@pytest.fixture
def graded(monkeypatch):
    """Replaces grading: a file gets full marks if it contains the word "right". The list of the graded files."""
    files = []

    def grade(path, *, exercise):
        files.append(Path(path).name)
        best = course_module.best_score(exercises()[exercise])
        score = best if "right" in Path(path).read_text("utf-8") else 0
        return {"score": score, "max_score": best}

    def grade_tests(path, exercise):
        score = grade(path, exercise=exercise.name)["score"]
        names = range(course_module.best_score(exercise))
        return type("Result", (), {"score": score, "found": dict.fromkeys(names), "as_text": lambda self: "tests"})()

    monkeypatch.setattr(course_module, "grade", grade)
    monkeypatch.setattr(course_module, "as_text", lambda result: "the properties")
    monkeypatch.setattr(course_module, "grade_tests", grade_tests)
    return files


def printed(capsys, *arguments):
    """Standard output of `tinyslm exercise` with these arguments, which must succeed."""
    assert run("exercise", *arguments) == 0
    return capsys.readouterr().out


def status_of(capsys, name, *arguments):
    """The line of a file in `exercise status`, split: marks and state are the last entries."""
    lines = printed(capsys, "status", *arguments).splitlines()
    return next(line for line in lines if name in line and not line.startswith("next")).split()


def test_the_files_are_in_the_order_of_the_lessons_and_contain_their_tasks(directory):
    files = sorted(path.name for path in directory.glob("*.py"))
    assert files == list(course_files()) and {each.name for each in course_files().values()} == set(exercises())
    assert [name[:2] for name in files] == sorted(exercise.lesson for exercise in exercises().values())
    for name, exercise in course_files().items():
        text = (directory / name).read_text("utf-8")
        words = " ".join(ast.get_docstring(ast.parse(text)).split())
        assert exercise.title in words and " ".join(exercise.task.split()) in words
        assert f"tinyslm exercise check {name}" in words and "README" not in words
        assert exercise.hints and name in (directory / "README.md").read_text("utf-8")


def test_no_hint_and_no_solution_is_in_the_directory(directory):
    """No statement of the library's functions with more than 20 characters; a class of a method is given, though."""
    text = "\n".join(path.read_text("utf-8") for path in directory.iterdir())
    assert not any(hint in text for exercise in exercises().values() for hint in exercise.hints)
    for exercise in exercises().values():
        for function in exercise.functions:
            module, name = split_name(function)
            body, tree = module_path(module).read_text("utf-8"), None
            tree = ast.parse(body)
            for part in name.split("."):
                tree = next(node for node in tree.body if getattr(node, "name", None) == part)
            empty = without_body(body, ast.parse(body), name, "label")
            lines = {line.strip() for statement in tree.body[1:] for line in ast.unparse(statement).splitlines()}
            secret = {line for line in lines if len(line) > 20 and line not in empty}
            assert secret and not any(line in text for line in secret), name


@pytest.mark.parametrize("file_name", [name for name, each in course_files().items() if not each.writes_tests])
def test_a_stub_does_not_import_the_answer(file_name):
    """Neither the function itself nor, under any name, the function that it wraps."""
    exercise, namespace = course_files()[file_name], {"__name__": "stub"}
    exec(compile(initial_text(file_name), file_name, "exec"), namespace)
    answers = set()
    for function in exercise.functions:
        module, name = split_name(function)
        answer = getattr(sys.modules[module], name.split(".")[0])
        answers |= {id(answer), id(inspect.unwrap(answer))}
    for name, value in namespace.items():
        assert id(value) not in answers and id(getattr(value, "__wrapped__", None)) not in answers, name


def test_a_second_start_is_refused_and_nothing_is_overwritten(directory, capsys):
    (directory / WARMUP).write_text("my work")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert run("exercise", "start", directory) == 2
    assert_one_line(capsys.readouterr(), "has all files of the course already", "tinyslm exercise status")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_files_that_exist_before_the_start_are_kept(tmp_path, capsys):
    (tmp_path / WARMUP).write_text("my work")
    (tmp_path / "README.md").write_text("my page")
    (tmp_path / "other.txt").write_text("another file")
    assert f": {len(course_files())}; files that existed are kept" in printed(capsys, "start", tmp_path)
    assert (tmp_path / WARMUP).read_text() == "my work" and (tmp_path / "README.md").read_text() == "my page"


@pytest.mark.slow
def test_the_whole_way(directory, capsys):
    """With real grading of one file: wrong, then right, then remembered."""
    assert status_of(capsys, WARMUP)[-3:] == [f"0/{BEST}", "not", "started"]
    (directory / WARMUP).write_text(WRONG)
    shown = printed(capsys, "check", WARMUP)
    assert (
        "✗ 0/1" in shown
        and re.search(rf"[0-9] of {BEST} marks", shown)
        and "tinyslm exercise hint warmup-cosine" in shown
    )
    (directory / WARMUP).write_text(RIGHT)
    assert run("exercise", "status") == 0
    captured = capsys.readouterr()
    assert captured.err == f"grading {WARMUP}\n"
    assert re.search(rf"04_training +{WARMUP} +{BEST}/{BEST}  ✓ solved\n", captured.out)
    assert f"1 of 27 exercises solved, {BEST} of" in captured.out and captured.out.endswith(
        "next: 01_1_document_rows.py\n"
    )
    assert run("exercise", "status") == 0 and capsys.readouterr() == (captured.out, "")  # nothing is graded again


def test_only_changed_files_are_graded(directory, capsys, graded):
    printed(capsys, "status")
    assert graded == []
    (directory / WARMUP).write_text("right")
    (directory / "03_1_rms_norm.py").write_text("not yet")
    (directory / "02_2_properties_of_attention.py").write_text("right")
    assert status_of(capsys, WARMUP)[-3:] == [f"{BEST}/{BEST}", "✓", "solved"]
    assert graded == ["02_2_properties_of_attention.py", "03_1_rms_norm.py", WARMUP]
    assert status_of(capsys, "03_1_rms_norm.py")[-2:] == [f"0/{best_score(exercises()['rms-norm'])}", "started"]
    os.utime(directory / WARMUP)
    printed(capsys, "status")
    assert len(graded) == 3
    (directory / WARMUP).write_text("not yet")
    assert status_of(capsys, WARMUP)[-2:] == [f"0/{BEST}", "started"] and len(graded) == 4


def test_other_property_tests_grade_a_file_again(directory, capsys, graded, monkeypatch, tmp_path):
    (directory / WARMUP).write_text("right")
    printed(capsys, "status")
    (tmp_path / "properties").mkdir()
    (tmp_path / "properties" / "test_schedule.py").write_text("def test_another(): pass\n")
    real = course_module.tests_directory()
    for path in (real / "properties").glob("*.py"):
        with contextlib.suppress(FileExistsError):
            (tmp_path / "properties" / path.name).symlink_to(path)
    monkeypatch.setattr(course_module, "tests_directory", lambda: tmp_path)
    printed(capsys, "status")
    assert graded == [WARMUP, WARMUP]


def test_next_is_the_first_unsolved_exercise(directory, capsys, graded):
    shown, best = printed(capsys, "next"), best_score(exercises()["document-rows"])
    assert "01_1_document_rows.py" in shown and "document-rows: Documents as rows of tokens" in shown
    assert "Cut long documents" in shown and "lessons/01_tokens.ipynb" in shown and f"0 of {best}, not started" in shown
    (directory / "01_1_document_rows.py").write_text("right")
    assert "02_1_attention.py" in printed(capsys, "next")
    assert "grading" not in printed(capsys, "next") and graded == ["01_1_document_rows.py"]


def test_at_the_end_everything_is_solved(directory, capsys, graded):
    for name in course_files():
        (directory / name).write_text("right")
    assert "27 of 27 exercises solved" in printed(capsys, "status")
    for action in ("next", "check", "hint"):
        assert printed(capsys, action) == "all exercises are solved\n"
    assert len(graded) == 27


def test_check_grades_the_next_exercise_or_the_given_one(directory, capsys, graded, monkeypatch):
    printed(capsys, "check")
    printed(capsys, "check", WARMUP)
    printed(capsys, "check", "rms-norm")
    assert graded == ["01_1_document_rows.py", WARMUP, "03_1_rms_norm.py"]
    monkeypatch.chdir(directory.parent)
    printed(capsys, "check", directory / WARMUP)  # the course is that of the file
    printed(capsys, "check", "rms-norm", "--course", directory)
    (directory / WARMUP).write_text("right")
    assert "warmup-cosine is solved" in printed(capsys, "check", directory / WARMUP)


def test_hints_come_one_at_a_time(directory, capsys):
    hints = exercises()["adamw"].hints
    for number in range(1, len(hints) + 1):
        shown = " ".join(printed(capsys, "hint", "adamw").split())
        assert f"hint {number} of {len(hints)}" in shown and "no more" not in shown
        assert [hint in shown for hint in hints] == [True] * number + [False] * (len(hints) - number)
    assert "there are no more" in printed(capsys, "hint", "04_1_adamw.py")
    assert exercises()["document-rows"].hints[0] in printed(capsys, "hint")


def test_the_course_is_found_from_a_directory_below_it(directory, capsys, monkeypatch):
    (directory / "notes").mkdir()
    monkeypatch.chdir(directory / "notes")
    assert "0 of 27 exercises solved" in printed(capsys, "status")
    monkeypatch.chdir(directory.parent)
    assert "0 of 27 exercises solved" in printed(capsys, "status", "mine")


def test_without_a_course_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / WARMUP).write_text(RIGHT)
    for arguments in (["status"], ["next"], ["check", WARMUP], ["hint", "adamw"], ["status", "."]):
        assert run("exercise", *arguments) == 2
        assert_one_line(capsys.readouterr(), "no course in", "tinyslm exercise start DIR")
    assert run("exercise", "status", "nowhere") == 2
    assert_one_line(capsys.readouterr(), "nowhere is not a directory")


def test_a_missing_file_is_named_and_can_be_written_again(directory, capsys, graded):
    (directory / WARMUP).rename(directory / "my_schedule.py")
    (directory / "01_1_document_rows.py").unlink()
    assert status_of(capsys, WARMUP)[-2:] == [f"0/{BEST}", "missing"]
    assert "tinyslm exercise start" in printed(capsys, "status") and "is missing" in printed(capsys, "next")
    assert run("exercise", "check", WARMUP) == 2
    assert_one_line(capsys.readouterr(), f"{WARMUP} is missing: move it back", "tinyslm exercise start")
    assert run("exercise", "check", "my_schedule.py") == 2
    assert_one_line(capsys.readouterr(), "my_schedule.py is no exercise and no file of the course")
    assert ": 2; files that existed" in printed(capsys, "start", directory)
    assert (directory / WARMUP).read_text("utf-8") == initial_text(WARMUP) and graded == []


def test_a_file_moved_below_the_course_is_not_graded_in_place_of_the_right_one(directory, capsys, graded):
    (directory / "old").mkdir()
    (directory / "old" / WARMUP).write_text("right")
    assert run("exercise", "check", f"old/{WARMUP}") == 2
    assert_one_line(capsys.readouterr(), "is not in the directory of the course")
    assert graded == []


def test_a_deleted_record_is_written_again_and_the_files_are_kept(directory, capsys, graded):
    (directory / WARMUP).write_text("right")
    (directory / RECORD).unlink()
    assert run("exercise", "status", directory) == 2
    assert_one_line(capsys.readouterr(), "course.json is missing", "tinyslm exercise start")
    assert ": 1; files that existed" in printed(capsys, "start", directory)
    assert status_of(capsys, WARMUP)[-3:] == [f"{BEST}/{BEST}", "✓", "solved"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"marks": [], "hints": {}}', '{"marks": {"adamw": {}}, "hints": {}}',
             '{"marks": {"adamw": {"digest": "", "score": "4", "max_score": 4}}, "hints": {}}',
             '{"marks": {}, "hints": {"adamw": "x"}}', '{"marks": {}, "hints": 3}'],
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(directory, capsys, text):
    (directory / RECORD).write_text(text)
    for action in ("status", "next", "check", "hint"):
        assert run("exercise", action) == 2
        assert_one_line(capsys.readouterr(), "course.json is damaged: delete it", "tinyslm exercise start")
    assert (directory / RECORD).read_text() == text


def test_two_commands_at_a_time_keep_the_entries_of_each_other(directory, capsys, graded):
    """As with `check --watch` in one terminal and `hint` in another."""
    watching = find_course(directory)
    printed(capsys, "hint", "adamw")
    (directory / WARMUP).write_text("right")
    watching.grade(exercises()["warmup-cosine"], lambda path: None)
    assert find_course(directory).hints == {"adamw": 1}
    printed(capsys, "hint", "adamw")
    assert list(find_course(directory).marks) == ["warmup-cosine"]


def test_names_in_the_record_that_are_no_exercises_are_ignored(directory, capsys):
    record = {"marks": {"former": {"digest": "", "score": 1, "max_score": 1}}, "hints": {"former": 2}}
    (directory / RECORD).write_text(json.dumps(record))
    assert "0 of 27 exercises solved" in printed(capsys, "status")


def test_a_record_that_cannot_be_written_does_not_hide_the_marks(directory, capsys, graded, monkeypatch):
    """As in a directory without the right to write."""

    def refuse(path):
        raise Error(f"{path}: cannot be written (Permission denied)")

    (directory / WARMUP).write_text("right")
    monkeypatch.setattr(course_module, "atomic_file", refuse)
    assert run("exercise", "status") == 0
    captured = capsys.readouterr()
    assert "1 of 27 exercises solved" in captured.out
    assert captured.err.splitlines()[1:] == [
        f"tinyslm: marks and hints are not recorded: {RECORD}: cannot be written (Permission denied)"
    ]
    assert "hint 1 of" in printed(capsys, "hint", "adamw")
    with pytest.raises(Error, match="cannot be written"):
        start_course(directory.parent / "other")


@pytest.mark.slow
def test_files_that_are_no_python_get_no_marks(directory, capsys):
    (directory / WARMUP).write_text("def warmup_cosine(:\n")
    assert f"0 of {BEST} marks" in printed(capsys, "check", WARMUP)
    (directory / WARMUP).write_bytes(b"\xff\0")
    assert f"0 of {BEST} marks" in printed(capsys, "check", WARMUP)
    (directory / WARMUP).unlink()
    (directory / WARMUP).mkdir()
    assert status_of(capsys, WARMUP)[-2:] == [f"0/{BEST}", "missing"]


def test_80_columns(directory, capsys, graded, monkeypatch):
    """In a terminal of 80 columns no line of status, next and hint is longer, also with full marks everywhere."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    texts = [printed(capsys, "status")]
    for name, exercise in course_files().items():
        texts += [printed(capsys, "next"), *(printed(capsys, "hint", name) for _ in exercise.hints)]
        (directory / name).write_text("right")
    texts.append(printed(capsys, "status"))
    assert max(width(line) for text in texts for line in text.splitlines()) <= 80
    assert len(texts[0].splitlines()) == len(texts[-1].splitlines()) == 30  # one line per exercise: nothing is wrapped
    (directory / WARMUP).unlink()
    lines = printed(capsys, "status").splitlines()
    assert max(map(width, lines[:29])) <= 80 and len(lines) >= 30


def test_watch_grades_a_file_when_it_changes_and_only_then(directory, capsys, graded, monkeypatch):
    """Files are changed between two looks: a change, the same text again, a file that disappears and comes back."""
    path = directory / WARMUP
    steps = iter([
        lambda: path.write_text("not yet"),
        lambda: None,
        path.unlink,
        lambda: path.write_text("right, at last"),
        lambda: (directory / "notes.txt").write_text("no file of the course"),
    ])  # fmt: skip

    def sleep(seconds):
        assert seconds <= 2
        try:
            next(steps)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(command.time, "sleep", sleep)
    shown = printed(capsys, "check", "--watch")
    assert graded == ["01_1_document_rows.py", WARMUP, WARMUP]
    assert "Ctrl-C ends" in shown and "warmup-cosine is solved" in shown and shown.endswith("\nended\n")


def test_watch_also_grades_a_file_that_changes_during_the_first_grading(directory, capsys, graded, monkeypatch):
    before = course_module.grade

    def grade_and_save(path, *, exercise):
        result = before(path, exercise=exercise)
        (directory / WARMUP).write_text("right" + " " * len(graded)) if len(graded) == 1 else None
        return result

    def sleep(seconds):
        if len(graded) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(course_module, "grade", grade_and_save)
    monkeypatch.setattr(command.time, "sleep", sleep)
    printed(capsys, "check", "--watch")
    assert graded == ["01_1_document_rows.py", WARMUP]


def test_watch_goes_on_after_a_file_that_cannot_be_graded(directory, capsys, graded, monkeypatch):
    def vanish(path, *, exercise):
        raise FileNotFoundError(2, "No such file", str(path))

    looks = iter([lambda: (directory / WARMUP).write_text("right"), lambda: None])

    def sleep(seconds):
        monkeypatch.setattr(course_module, "grade", vanish)
        next(looks, interrupt)()

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    assert run("exercise", "check", "--watch") == 0
    captured = capsys.readouterr()
    assert "No such file" in captured.err and captured.out.endswith("\nended\n")


def test_an_interrupt_without_watch_ends_as_for_every_command(directory, capsys, monkeypatch):
    def interrupt(path, *, exercise):
        raise KeyboardInterrupt

    monkeypatch.setattr(course_module, "grade", interrupt)
    assert run("exercise", "check", WARMUP) == 130
    assert capsys.readouterr().err.endswith("tinyslm: interrupted; complete files are kept\n")
    assert json.loads((directory / RECORD).read_text())["marks"] == {}


@pytest.mark.slow
def test_watch_as_its_user_runs_it(directory):
    """A saved file is noticed within two seconds, graded, and Ctrl-C ends with status 0."""
    arguments = [sys.executable, "-m", "tinyslm", "exercise", "check", "rank-budget", "--watch"]
    with start_with_ctrl_c(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(100, process.kill)  # then the loops below end too
        limit.start()
        try:
            lines = iter(process.stdout.readline, "")
            assert any("Ctrl-C ends" in line for line in lines)
            assert process.stderr.readline() == "grading 10_1_rank_budget.py\n"
            (directory / WARMUP).write_text(RIGHT)
            began = time.monotonic()
            assert process.stderr.readline() == f"grading {WARMUP}\n" and time.monotonic() - began < 2
            assert any("warmup-cosine is solved" in line for line in lines)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            limit.cancel()
    assert process.returncode == 0 and out.strip() == "ended" and err == ""


def test_find_course_names_where_it_looked(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path.resolve()))):
        find_course(tmp_path)


@pytest.mark.slow
def test_a_counterexample_does_not_show_the_solution(directory, capsys):
    """The message of a failed property holds inputs and numbers, not the source of the library's function."""
    (directory / WARMUP).write_text(WRONG)
    shown = printed(capsys, "check", WARMUP)
    assert "Falsifying example" in shown or "Failing test case" in shown
    source = module_path("tinyslm.training.schedule").read_text("utf-8")
    secret = {line.strip() for line in source.splitlines() if "math." in line or "progress" in line}
    assert secret and not any(line in shown for line in secret)
