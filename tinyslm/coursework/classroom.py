"""Grading of a class: one table row for each file of a folder."""

import csv
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinyslm.coursework.grading import grade, require_test_tools, ungraded
from tinyslm.errors import ConfigError

COLUMNS = ["file", "score", "max_score", "failed", "reasons", "note", "remarks"]


def submissions(directory) -> list[Path]:
    """Paths of all Python files below a folder, sorted by name. Raises ConfigError if there are none."""
    found = sorted(path for path in Path(directory).rglob("*.py") if path.is_file())
    if not found:
        raise ConfigError(f"{directory} has no Python files")
    return found


def grade_class(directory, *, workers=1, progress=lambda path, row: None, **settings) -> list[dict]:
    """One row per file, with the entries of `COLUMNS`. settings: arguments of `grade`.

    failed: names of the properties without marks;  reasons: why they have none, if it is not a failed assertion (too
    slow, crashed, out of memory, ...), with their number;  remarks: what a person should look at. A file that cannot be
    graded gets the score 0 and a note with the reason.
    """
    require_test_tools()
    paths = submissions(directory)

    def row_of(path):
        name = path.relative_to(directory).as_posix()
        try:
            result = grade(path, **settings)
        except ConfigError as error:
            result = ungraded(path, str(error), exercise=settings.get("exercise"))
        failed = [test for test in result["tests"] if test["status"] == "failed"]
        reasons = Counter(test["reason"] for test in failed if test["reason"] != "failed")
        row = {"file": name, "score": result["score"], "max_score": result["max_score"]}
        row["failed"] = "; ".join(test["name"] for test in failed)
        row["reasons"] = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
        row |= {"note": result["note"], "remarks": "; ".join(result["remarks"])}
        progress(path, row)
        return row

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(row_of, paths))


def as_csv(rows) -> str:
    """The rows in CSV format, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: " ".join(str(value).split()) for key, value in row.items()} for row in rows)
    return text.getvalue()
