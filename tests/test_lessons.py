"""The notebooks agree with their sources and with the outputs of the current code; names in their text exist."""

import ast
import importlib.util
import math
import re
from pathlib import Path

import pytest

from tinyslm.coursework.exercises import exercises

LESSONS = Path(__file__).parent.parent / "lessons"
SOURCES = sorted(LESSONS.glob("[0-9][0-9]_*.py"))
LONGEST = ("04", "07", "11", "13")  # lessons that take longest to execute
LONGEST_CELL = 25  # lines of code that can be read without scrolling
LONGEST_DESCRIPTION = 250  # characters
TEXT_WIDTH = 150  # characters of a line of text in a window of 1,280 pixels
FIRST_PICTURE = 25  # lines of text and code before it: at most about 560 pixels
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", re.DOTALL)


def load_build():
    """The program `lessons/build.py` as a module."""
    specification = importlib.util.spec_from_file_location("build", LESSONS / "build.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


build = load_build()


def text_of(path, kind="markdown"):
    return "\n\n".join(cell.source for cell in build.read_source(path).cells if cell.cell_type == kind)


def test_there_is_a_lesson_for_every_step_of_the_way():
    assert [path.name[:2] for path in SOURCES] == [f"{number:02}" for number in range(14)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_has_the_cells_of_its_source_and_no_error(path):
    notebook, source = build.stored(path), build.read_source(path)
    assert [(cell.id, cell.source) for cell in notebook.cells] == [(cell.id, cell.source) for cell in source.cells]
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert any(build.text_of(output) == "<picture>" for output in outputs)


@pytest.mark.lessons
@pytest.mark.parametrize(
    "path", sorted(SOURCES, key=lambda path: path.name[:2] not in LONGEST), ids=lambda path: path.stem
)
def test_the_notebook_says_what_its_code_says_today(path):
    """The longest lessons come first, so that no process waits for the other at the end."""
    assert build.differences(build.execute(path), build.stored(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_number_stands_in_the_text_that_the_cells_do_not_show(path):
    """Decimals and percentages; those of formulas and code are no results, and a published figure has its source."""
    notebook = build.stored(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = "\n".join([cell.source for cell in code] + [build.text_of(out) for cell in code for out in cell.outputs])
    for paragraph in re.split(r"\n\s*\n", text_of(path)):
        if re.search(r"\b(19|20)\d\d\b|GLUE|Llama-\d|Llama \d|Qwen\d|Phi-|Gemma \d", paragraph):
            continue  # a paper's figure, or a model's name
        for number in re.findall(r"\d+\.\d+", FORMULA.sub("", paragraph)):
            assert number in shown, f"{number} in: {paragraph}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_code_cell_is_longer_than_a_screen(path):
    sources = [cell.source for cell in build.read_source(path).cells if cell.cell_type == "code"]
    lengths = {source: len(source.splitlines()) for source in sources if not source.startswith("%%writefile")}
    assert [source for source, length in lengths.items() if length > LONGEST_CELL] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_first_picture_is_on_the_first_screen(path):
    lines = 0
    for cell in build.stored(path).cells:
        if cell.cell_type == "code":
            lines += len(cell.source.splitlines())
        else:
            lines += sum(math.ceil(len(part) / TEXT_WIDTH) for part in re.split(r"\n\s*\n", cell.source))
        for output in cell.get("outputs", ()):
            if build.text_of(output) == "<picture>":
                assert lines <= FIRST_PICTURE
                return
            lines += len(build.text_of(output).splitlines())
    pytest.fail("there is no picture")


def written_texts(path):
    """The strings of a Python file, each on one line."""
    constants = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
    return {" ".join(constant.split()) for constant in constants if isinstance(constant, str)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_figure_has_a_description_of_its_own_written_in_the_lesson(path):
    outputs = [output for cell in build.stored(path).cells for output in cell.get("outputs", ())]
    figures = [output for output in outputs if build.text_of(output) == "<picture>"]
    descriptions = [figure.metadata.get("image/png", {}).get("alt", "") for figure in figures]
    assert len(set(descriptions)) == len(descriptions)
    in_lesson, in_diagrams = written_texts(path), written_texts(LESSONS / "diagrams.py")
    for description in descriptions:
        assert description in in_lesson | in_diagrams
        assert len(description.split()) >= 10 and description.endswith(".")
        assert not re.search(r"\d\.\d", description), "a measured number changes with the next build"
        assert len(description) <= LONGEST_DESCRIPTION or description in in_diagrams


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_lesson_has_a_place_for_the_debugger_and_exercises_that_exist(path):
    text = text_of(path)
    assert "**In a debugger**" in text and "## Exercises" in text
    for name in re.findall(r"tinyslm exercise new ([\w-]+)", text):
        assert name in exercises(), name
    for place in re.findall(r"`(tinyslm/[\w/]+\.py)`", text):
        assert (LESSONS.parent / place).exists(), place
    assert not re.search(r"def \w+\([^)]*\):\n    \"\"\"[^\n]*Source:", text_of(path, "code"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_exercise_of_a_lesson_can_be_solved_and_graded_in_its_notebook(path):
    sources = [cell.source for cell in build.read_source(path).cells]
    for exercise in exercises().values():
        if exercise.lesson == path.name[:2] and not exercise.writes_tests:
            stub = next(
                i for i, text in enumerate(sources) if text.startswith(f"%%writefile mine/{exercise.file_name}")
            )
            assert (
                exercise.name in sources[stub - 1] and f'show_marks("mine/{exercise.file_name}")' in sources[stub + 1]
            )


def test_comparing_forgives_rounding_and_nothing_else():
    assert build.alike("loss 0.7431 ± 0.027", "loss 0.7433 ± 0.028", 0.02)
    assert not build.alike("loss 0.74", "loss 0.84", 0.02)
    assert not build.alike("loss 0.74", "gain 0.74", 0.02)
    assert not build.alike("3 of 10 removed", "4 of 10 removed", 0.02)
    assert build.alike("-0.001", "0.001", 0.02) and not build.alike("5e-03", "7e-02", 0.02)
