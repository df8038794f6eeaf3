"""A whole class: every file of a folder graded, one line each in a table."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinyslm.coursework.grading import grade
from tinyslm.errors import ConfigError


def submissions(directory) -> list[Path]:
    """The Python files of a folder and of the folders in it, in the order of their names."""
    found = sorted(path for path in Path(directory).rglob("*.py") if path.is_file())
    if not found:
        raise ConfigError(f"{directory} has no Python files")
    return found


def grade_class(directory, *, workers=1, progress=lambda path, row: None, **settings) -> list[dict]:
    """One row per file: its name, marks, what they are out of, and a note. settings: those of `grade`.

    A file that is no solution at all has a row with no marks and a note that says why.
    """
    paths = submissions(directory)

    def row_of(path):
        name = path.relative_to(directory).as_posix()
        try:
            result = grade(path, **settings)
        except ConfigError as error:
            row = {"file": name, "score": 0, "max_score": "", "failed": "", "note": str(error)}
        else:
            failed = [test["name"] for test in result["tests"] if test["status"] == "failed"]
            row = {"file": name, "score": result["score"], "max_score": result["max_score"]}
            row |= {"failed": "; ".join(failed), "note": result["output"]}
        progress(path, row)
        return row

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(row_of, paths))


def as_csv(rows) -> str:
    """The rows as a table that spreadsheets read."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "score", "max_score", "failed", "note"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: " ".join(str(value).split()) for key, value in row.items()} for row in rows)
    return text.getvalue()
