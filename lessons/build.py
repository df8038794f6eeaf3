"""Build the notebooks: every `NN_name.py` beside this file becomes `NN_name.ipynb`, executed, with outputs.

python lessons/build.py                  # all
python lessons/build.py 07 09            # those that begin so
python lessons/build.py 05 --measure     # also what differs from run to run: speeds

The same source gives the same notebook, byte for byte. Cells with the tag `measured` show times of the computer they
ran on: they are executed too, but unless --measure is given what the notebook showed before is kept.
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

LESSONS = Path(__file__).parent
SECONDS = 600  # that a single cell may take
IMAGES = ("image/png", "image/svg+xml")
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def sources(prefixes=()):
    """The lessons, in order; only those whose name begins with one of the prefixes, if there are any."""
    return [
        path
        for path in sorted(LESSONS.glob("[0-9][0-9]_*.py"))
        if path.name.startswith(tuple(prefixes) or "")
    ]


def read_source(path):
    """The notebook of a lesson, without outputs; names of cells follow from their place and text."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for place, cell in enumerate(notebook.cells):
        cell.id = f"{place:02}-{hashlib.sha1(cell.source.encode()).hexdigest()[:8]}"
        cell.metadata = {"tags": list(cell.metadata["tags"])} if "tags" in cell.metadata else {}
    return notebook


def execute(path):
    """The notebook of a lesson with the outputs of all of its cells."""
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
    """The notebook that was built from a lesson before, or None."""
    built = path.with_suffix(".ipynb")
    return nbformat.read(built, as_version=4) if built.exists() else None


def is_measured(cell) -> bool:
    """Whether a cell shows what differs from run to run."""
    return "measured" in cell.metadata.get("tags", ())


def keep_measured(notebook, earlier):
    """Give the cells that were measured the outputs that an earlier notebook has for the same cell."""
    outputs = {cell.id: cell.outputs for cell in earlier.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if is_measured(cell) and cell.id in outputs:
            cell.outputs = outputs[cell.id]


def text_of(output) -> str:
    """What an output says, for comparing and for searching; a picture says only that it is one."""
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
    """What is not the same in two notebooks, a line each. Numbers in outputs may differ by this relative tolerance, or
    by two in their last digit: another processor rounds in another order. What was measured may be anything."""
    if earlier is None:
        return ["there is no notebook yet"]
    if [cell.source for cell in built.cells] != [cell.source for cell in earlier.cells]:
        return ["the text or the code is another one"]
    found = []
    for cell, before in zip(built.cells, earlier.cells, strict=True):
        if cell.cell_type != "code" or is_measured(cell):
            continue
        texts = ["\n".join(map(text_of, each.outputs)) for each in (cell, before)]
        if not alike(*texts, tolerance):
            found.append(f"cell {cell.id} says\n{texts[0]}\nwhere it said\n{texts[1]}")
    return found


def alike(text, other, tolerance) -> bool:
    """Whether two outputs are the same but for the rounding of their numbers."""
    if " ".join(NUMBER.sub("#", text).split()) != " ".join(NUMBER.sub("#", other).split()):
        return False
    pairs = zip(NUMBER.findall(text), NUMBER.findall(other), strict=True)
    return all(close(one, two, tolerance) for one, two in pairs)


def close(one, two, tolerance) -> bool:
    """Whether two written numbers are the same, nearly, or in all but their last digit. Those with an exponent are sizes
    of errors: they may differ by a factor of 10."""
    values = [float(text.replace(",", "").replace("−", "-")) for text in (one, two)]
    if "e" in one + two:
        return values[0] == values[1] or 0.1 <= values[0] / (values[1] or np.inf) <= 10
    digits = max(len(text.partition(".")[2]) for text in (one, two))
    last = 2.001 * 10.0**-digits if digits else 0
    return abs(values[0] - values[1]) <= max(tolerance * abs(values[1]), last)


def main(argv=None):
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lessons", nargs="*", metavar="NN", help="only these (default: all)")
    parser.add_argument("--measure", action="store_true", help="replace measured times too")
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
