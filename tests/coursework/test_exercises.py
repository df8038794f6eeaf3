"""Exercises: order, stubs, no marks for a stub, and full marks for the library's own functions."""

import ast
import importlib
import inspect

import pytest

from tests.coursework.submissions import SOLUTIONS
from tinyslm.cli import main
from tinyslm.coursework.exercises import exercises, find_exercise, module_path, split_name
from tinyslm.coursework.grading import exercises_in, grade, properties_of
from tinyslm.coursework.mistakes import mistakes
from tinyslm.coursework.stubs import FUTURE, stub, write_exercise
from tinyslm.errors import ConfigError

WRITTEN = [exercise for exercise in exercises().values() if not exercise.writes_tests]
SOLVED = {exercise.name for path in SOLUTIONS for exercise in exercises_in(path)}
WITHOUT_ANOTHER_SOLUTION = [exercise for exercise in WRITTEN if exercise.name not in SOLVED]
ASKED = [exercise for exercise in exercises().values() if exercise.writes_tests]


def test_there_are_exercises_in_the_order_of_the_lessons():
    assert len(WRITTEN) >= 10 and len(ASKED) >= 3
    lessons = [exercise.lesson for exercise in WRITTEN]
    assert lessons == sorted(lessons)


@pytest.mark.parametrize("exercise", exercises().values(), ids=lambda exercise: exercise.name)
def test_a_stub_is_python_with_the_signature_and_the_words_of_the_library(exercise):
    tree = ast.parse(stub(exercise))
    assert all(len(line) <= 160 for line in stub(exercise).splitlines())
    if exercise.writes_tests:
        assert any(mistake.exercise and set(exercises()[mistake.exercise].functions) & set(exercise.functions)
                   for mistake in mistakes().values())  # fmt: skip
        return
    for function in exercise.functions:
        module, name = split_name(function)
        thing = importlib.import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
        thing = inspect.unwrap(thing)
        node = tree
        for part in name.split("."):
            node = next(each for each in node.body if getattr(each, "name", None) == part)
        assert ast.get_docstring(node) == inspect.getdoc(thing)
        arguments = [*node.args.args, *filter(None, [node.args.vararg]), *node.args.kwonlyargs]
        assert [argument.arg for argument in arguments] == [*inspect.signature(thing).parameters]
        assert isinstance(node.body[-1], ast.Raise) and len(node.body) == 2


def test_a_stub_states_the_form_of_a_differentiable_operation():
    for exercise in WRITTEN:
        assert ("# Return (output, vjp)." in stub(exercise)) == ("@differentiable" in stub(exercise))


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.name)
def test_a_stub_imports_what_it_needs(exercise):
    namespace = {"__name__": exercise.name}
    exec(compile(stub(exercise), exercise.file_name, "exec"), namespace)
    assert all(name in namespace for name in exercise.names)


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.name)
def test_a_stub_defines_the_functions_of_its_exercise(exercise, tmp_path):
    path, _ = write_exercise(exercise, tmp_path)
    assert exercises_in(path) == [exercise]


@pytest.mark.slow
def test_the_bare_stubs_score_nothing(tmp_path):
    """All stubs in one file, because starting the judge takes longer than most properties."""
    path = tmp_path / "stubs.py"
    path.write_text("\n".join([FUTURE, *(stub(exercise).replace(FUTURE, "") for exercise in WRITTEN)]), "utf-8")
    result = grade(path)
    assert result["exercises"] == [exercise.name for exercise in WRITTEN]
    asked = {exercise.name: properties_of(exercise) for exercise in WRITTEN}
    assert all(sum(found.marks for found in properties) > 0 for properties in asked.values())
    every = {found for properties in asked.values() for found in properties}
    assert result["score"] == 0 and result["max_score"] == sum(found.marks for found in every)
    assert [test["name"] for test in result["tests"] if "NotImplementedError" not in test["output"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("exercise", WITHOUT_ANOTHER_SOLUTION, ids=lambda exercise: exercise.name)
def test_the_library_itself_scores_everything(exercise, tmp_path):
    """Grade a copy of the library's file: it defines the functions of the exercise and imports the others.

    For the other exercises, the solutions of `test_grading.py` score everything.
    """
    modules = dict.fromkeys(split_name(function)[0] for function in exercise.functions)
    path = tmp_path / "solution.py"
    path.write_text("\n".join(module_path(module).read_text("utf-8") for module in modules), "utf-8")
    result = grade(path, exercise=exercise.name)
    assert result["score"] == result["max_score"], [test for test in result["tests"] if test["status"] == "failed"]


def test_what_is_there_is_not_overwritten(tmp_path, capsys):
    assert main(["exercise", "new", "wanda", "--to", str(tmp_path / "mine")]) == 0
    (tmp_path / "mine" / "wanda.py").write_text("my work")
    assert main(["exercise", "new", "wanda", "--to", str(tmp_path / "mine")]) == 2
    assert (tmp_path / "mine" / "wanda.py").read_text() == "my work"
    assert "exists: choose another folder" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is not one of document-rows, "):
        find_exercise("nothing")


def test_the_list_and_the_readme_say_what_there_is(tmp_path, capsys):
    assert main(["exercise", "list"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == list(exercises())
    _, page = write_exercise(find_exercise("adamw"), tmp_path)
    text = page.read_text("utf-8")
    assert "1. `self.steps` counts from 1" in text and "| decay is decoupled from the gradient | 1 |" in text
