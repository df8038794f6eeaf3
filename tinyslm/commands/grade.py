"""tinyslm grade: marks for a solution, or for every solution in a directory."""

import json
import sys
from pathlib import Path

from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.commands.loading import check_minimum
from tinyslm.coursework.classroom import as_csv, grade_class
from tinyslm.coursework.grading import GIGABYTES, SECONDS, as_text, grade
from tinyslm.errors import ConfigError


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "path", metavar="FILE|DIR", help="a solution, or a directory of solutions: CSV with one line each"
    )
    parser.add_argument(
        "--exercise", metavar="NAME", help="name of the exercise (default: all whose functions the file defines)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random test inputs (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"processor time limit of each property (default: {SECONDS:g})"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=GIGABYTES, help=f"memory limit of each property (default: {GIGABYTES:g})"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write the result to this file: JSON for a solution, CSV for a directory"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="number of solutions graded in parallel (default: 1)"
    )


def run(arguments) -> int:
    """Print the marks; returns the exit status, which is 0 for all marks."""
    path = Path(arguments.path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    check_minimum(arguments, seed=0, workers=1)
    if not (arguments.seconds > 0 and arguments.gigabytes > 0):
        raise ConfigError("--seconds and --gigabytes must be positive")
    settings = {"exercise": arguments.exercise, "seed": arguments.seed}
    settings |= {"seconds": arguments.seconds, "gigabytes": arguments.gigabytes}
    if path.is_dir():

        def progress(graded, row):
            print(f"{row['file']}: {row['score']} of {row['max_score'] or 'no'} marks", file=sys.stderr)

        text = as_csv(grade_class(path, workers=arguments.workers, progress=progress, **settings))
        print(text, end="")
    else:
        result = grade(path, **settings)
        print(as_text(result))
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    if arguments.out:
        with atomic_file(Path(arguments.out)) as file:
            file.write(text.encode())
    return 0
