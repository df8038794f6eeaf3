"""Build the notebooks: execute every lesson `NN_name.py` and write `NN_name.ipynb` with its outputs.

python lessons/build.py                  # all lessons
python lessons/build.py 07 09            # the lessons whose file name begins with 07 or 09
python lessons/build.py 05 --measure     # also replace the outputs that contain measured times

The same source gives the same notebook, byte for byte. Cells with the tag `measured` print times, which differ between
runs: the build executes them, but keeps their previous outputs unless --measure is given.

A cell with the tag `exercise` calls `exercise("NAME")`. In the notebook three cells replace it: the task, the stub behind
`%%writefile mine/FILE.py`, and a cell that prints the marks. The build does not execute the last two.
"""

import argparse
import hashlib
import os
import re
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell

from tinyslm.coursework.exercises import find_exercise
from tinyslm.coursework.stubs import stub

LESSONS = Path(__file__).parent
SECONDS = 600  # time limit of a single cell
MARKS = 'from setup_lesson import show_marks\n\nshow_marks("{}")'
EXERCISE = re.compile(r'exercise\("([\w-]+)"\)')
IMAGES = ("image/png", "image/svg+xml")
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def sources(prefixes=()):
    """Paths of the lessons in order. With prefixes: only lessons whose file name begins with one of them."""
    return [
        path
        for path in sorted(LESSONS.glob("[0-9][0-9]_*.py"))
        if path.name.startswith(tuple(prefixes) or "")
    ]


def read_source(path):
    """The notebook of a lesson, without outputs. The id of a cell depends on its index and its text."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    notebook.cells = [new for cell in notebook.cells for new in (exercise_cells(cell) or [cell])]
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{index:02}-{hashlib.sha1(cell.source.encode()).hexdigest()[:8]}"
        cell.metadata = {"tags": list(tags(cell))} if tags(cell) else {}
    return notebook


def exercise_cells(cell):
    """Task, stub and marks that replace a cell with the tag `exercise`; an empty list for other cells."""
    if "exercise" not in tags(cell):
        return []
    exercise = find_exercise(EXERCISE.search(cell.source)[1])
    hints = [f"{number}. {hint}" for number, hint in enumerate(exercise.hints, 1)]
    task = "\n".join(
        [f"### Exercise `{exercise.name}`: {exercise.title}", "", exercise.task.strip(), "", *hints]
    )
    file = f"mine/{exercise.file_name}"
    metadata = {"tags": ["skip-execution"]}
    return [
        new_markdown_cell(task.strip()),
        new_code_cell(f"%%writefile {file}\n{stub(exercise)}".strip(), metadata=metadata),
        new_code_cell(MARKS.format(file), metadata=metadata),
    ]


def execute(path):
    """The notebook of a lesson with the outputs of its cells; cells tagged `skip-execution` have none."""
    notebook = read_source(path)
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(LESSONS)}}, coalesce_streams=True,
    ).execute()  # fmt: skip
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def stored(path):
    """The notebook that an earlier build wrote for this lesson, or None."""
    built = path.with_suffix(".ipynb")
    return nbformat.read(built, as_version=4) if built.exists() else None


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", ())


def is_measured(cell) -> bool:
    """Whether the outputs of a cell contain measured times."""
    return "measured" in tags(cell)


def keep_measured(notebook, earlier):
    """Copy the outputs of measured cells from an earlier notebook, for cells with the same source."""
    outputs = {cell.source: cell.outputs for cell in earlier.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if is_measured(cell) and cell.source in outputs:
            cell.outputs = outputs[cell.source]


def text_of(output) -> str:
    """The text of an output, for comparing and searching; `<picture>` for an image."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return (
        "<picture>"
        if any(kind in output.data for kind in IMAGES)
        else output.data.get("text/plain", "")
    )


def differences(built, earlier, tolerance=0.02) -> list[str]:
    """The differences between two notebooks, one string each. Numbers in outputs may differ by the relative tolerance, or
    by two in their last digit, because rounding depends on the processor. Measured cells are not compared."""
    if earlier is None:
        return ["the notebook does not exist: build it"]
    if [cell.source for cell in built.cells] != [cell.source for cell in earlier.cells]:
        return ["the cells differ from the source: build the notebook"]
    found = []
    for cell, before in zip(built.cells, earlier.cells, strict=True):
        if cell.cell_type != "code" or is_measured(cell):
            continue
        texts = ["\n".join(map(text_of, each.outputs)) for each in (cell, before)]
        if not alike(*texts, tolerance):
            found.append(
                f"cell {cell.id} outputs\n{texts[0]}\nbut the notebook contains\n{texts[1]}"
            )
    return found


def alike(text, other, tolerance) -> bool:
    """Whether two outputs are equal up to the rounding of their numbers."""
    if " ".join(NUMBER.sub("#", text).split()) != " ".join(NUMBER.sub("#", other).split()):
        return False
    pairs = zip(NUMBER.findall(text), NUMBER.findall(other), strict=True)
    return all(close(one, two, tolerance) for one, two in pairs)


def close(one, two, tolerance) -> bool:
    """Whether two printed numbers agree within the tolerance or in all digits but the last. Numbers with an exponent are
    error magnitudes: they may differ by a factor of 10."""
    values = [float(text.replace(",", "").replace("−", "-")) for text in (one, two)]
    if "e" in one + two:
        return values[0] == values[1] or 0.1 <= values[0] / (values[1] or np.inf) <= 10
    digits = max(len(text.partition(".")[2]) for text in (one, two))
    last = 2.001 * 10.0**-digits if digits else 0
    return abs(values[0] - values[1]) <= max(tolerance * abs(values[1]), last)


def main(argv=None):
    """Build the lessons named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "lessons", nargs="*", metavar="NN", help="only these lessons (default: all)"
    )
    parser.add_argument("--measure", action="store_true", help="also replace measured times")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for path in sources(arguments.lessons):
        began = time.perf_counter()
        notebook, earlier = execute(path), stored(path)
        if earlier is not None and not arguments.measure:
            keep_measured(notebook, earlier)
        nbformat.write(notebook, path.with_suffix(".ipynb"))
        print(f"{path.stem:30} {time.perf_counter() - began:5.0f} s", flush=True)


if __name__ == "__main__":
    main()
