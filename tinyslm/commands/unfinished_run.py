"""DIR/rows.jsonl: an unfinished `tinyslm compress` into DIR, from which it is resumed.

The first line describes the run, each other line a finished row of the table. Every line has a checksum.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from tinyslm.checkpoints import check_new_directory
from tinyslm.commands.parser import write_text
from tinyslm.errors import ConfigError, Error
from tinyslm.recipes.sweep import append_line, read_finished

ROWS = "rows.jsonl"
RUN = "the run"  # name of the first line; no recipe has a directory with a space


def check_free(out: Path):
    """Raise Error if a run into `out` has begun or ended, and for anything else there."""
    if (out / ROWS).exists():
        raise Error(f"{out}: an unfinished run; resume it with --resume, or remove it")
    check_new_directory(out)


def begin(out: Path, run: dict[str, Any]):
    """Write the first line, atomically."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / ROWS, json.dumps(_line(RUN, run)) + "\n")


def add_row(out: Path, row: dict[str, Any], seconds: float):
    """Add a finished row, whose model is saved. seconds: of the run until now."""
    out.mkdir(parents=True, exist_ok=True)
    files = _digests(out / row["directory"])
    append_line(out / ROWS, _line(row["directory"], {"row": row, "files": files, "seconds": seconds}))


def read_run(out: Path) -> tuple[dict, dict]:
    """(run, {directory: line}) of an unfinished run: its finished rows whose models are complete.

    Raises ConfigError if there is none, or a line has been changed.
    """
    path = out / ROWS
    lines = read_finished(path)
    for name, line in lines.items():
        if line != _line(name, line.get("value"))["result"]:
            raise ConfigError(f"{path}: the line {name!r} has been changed; remove {out}, and start again")
    if RUN not in lines:
        raise ConfigError(f"{out}: no run to resume; start one without --resume")
    values = {name: line["value"] for name, line in lines.items()}
    run = values.pop(RUN)
    return run, {name: value for name, value in values.items() if _digests(out / name) == value["files"]}


def _line(name, value):
    """A line with a checksum of its value."""
    text = json.dumps(value, sort_keys=True)
    return {"name": name, "result": {"value": value, "sha256": hashlib.sha256(text.encode()).hexdigest()}}


def _digests(directory):
    """{name: SHA-256} of the files in a directory; empty if it does not exist."""
    found = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        with open(path, "rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
