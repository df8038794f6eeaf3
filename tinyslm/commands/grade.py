"""tinyslm grade: marks for a file, or for every file of a folder."""

import json
import sys
from pathlib import Path

from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.coursework.classroom import as_csv, grade_class
from tinyslm.coursework.grading import GIGABYTES, SECONDS, as_text, grade
from tinyslm.errors import ConfigError


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("path", metavar="FILE|DIR", help="a solution, or a folder of them: one line each, as CSV")
    parser.add_argument("--exercise", metavar="NAME", help="default: those whose functions the file defines")
    parser.add_argument("--seed", type=int, default=0, help="draw other inputs, as for marks that count (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of the processor, for each property (default: {SECONDS:g})"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=GIGABYTES, help=f"memory limit of each property (default: {GIGABYTES:g})"
    )
    parser.add_argument("--out", metavar="FILE", help="write the result there: JSON of a file, CSV of a folder")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="files at a time (default: 1)")


def run(arguments) -> int:
    """Print marks; returns the exit status, which is 0 whatever they are."""
    path = Path(arguments.path)
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    if arguments.seed < 0 or arguments.workers < 1 or not (arguments.seconds > 0 and arguments.gigabytes > 0):
        raise ConfigError("--seed must be at least 0, --workers at least 1, --seconds and --gigabytes positive")
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
