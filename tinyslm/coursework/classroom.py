"""Grading of a class: one table row for each file of a folder."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinyslm.coursework.grading import grade
from tinyslm.errors import ConfigError


def submissions(directory) -> list[Path]:
    """Paths of all Python files below a folder, sorted by name. Raises ConfigError if there are none."""
    found = sorted(path for path in Path(directory).rglob("*.py") if path.is_file())
    if not found:
        raise ConfigError(f"{directory} has no Python files")
    return found


def grade_class(directory, *, workers=1, progress=lambda path, row: None, **settings) -> list[dict]:
    """One row per file: name, score, maximum score, failed properties, and a note. settings: arguments of `grade`.

    A file that cannot be graded gets the score 0 and a note with the reason.
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
    """The rows in CSV format, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "score", "max_score", "failed", "note"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: " ".join(str(value).split()) for key, value in row.items()} for row in rows)
    return text.getvalue()
