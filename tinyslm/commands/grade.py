"""tinyslm grade: compute the marks of one solution, or of every solution in a directory."""

import json
import sys
from pathlib import Path

from tinyslm.commands.parser import check_minimum, write_text
from tinyslm.coursework.classroom import as_csv, grade_class
from tinyslm.coursework.exercises import find_exercise
from tinyslm.coursework.grading import GIGABYTES, SECONDS, as_text, grade, require_test_tools, ungraded
from tinyslm.errors import ConfigError
from tinyslm.reporting.terminal_table import fitted


def add_arguments(parser):
    """The options of the command."""
    solutions = "a solution, or a directory of solutions (prints CSV, one line per solution)"
    parser.argument("path", solutions, metavar="FILE|DIR")
    name = "name of the exercise (default: every exercise whose functions the file defines)"
    parser.option("--exercise", None, name, "NAME")
    parser.option("--seed", 0, "seed of the random test inputs")
    parser.option("--seconds", SECONDS, "processor time limit of each property", type=float)
    parser.option("--gigabytes", GIGABYTES, "memory limit of each property", type=float)
    parser.option("--out", None, "write the result to this file: JSON for a solution, CSV for a directory", "FILE")
    parser.option("--workers", 1, "number of solutions graded in parallel", "N")


def run(arguments) -> int:
    """Print the marks and write the result. Returns 0, also for low marks, and 2 for a file that cannot be graded."""
    path = Path(arguments.path)
    check_minimum(arguments, seed=0, workers=1)
    if not (arguments.seconds > 0 and arguments.gigabytes > 0):
        raise ConfigError("--seconds and --gigabytes must be positive")
    settings = {"exercise": arguments.exercise, "seed": arguments.seed}
    settings |= {"seconds": arguments.seconds, "gigabytes": arguments.gigabytes}
    require_test_tools()
    if arguments.exercise:
        find_exercise(arguments.exercise)
    if path.is_dir():

        def progress(graded, row):
            print(f"{row['file']}: {row['score']} of {row['max_score']} marks", file=sys.stderr)

        text = as_csv(grade_class(path, workers=arguments.workers, progress=progress, **settings))
        print(text, end="")
        write(arguments.out, text)
        return 0
    try:
        result = grade(path, **settings)
        print(fitted(as_text(result)))
    except ConfigError as error:  # Gradescope needs a result in any case
        write(arguments.out, as_json(ungraded(path, str(error), exercise=arguments.exercise, seed=arguments.seed)))
        raise
    write(arguments.out, as_json(result))
    return 0


def as_json(result) -> str:
    """The result in JSON."""
    return json.dumps(result, indent=1, ensure_ascii=False) + "\n"


def write(path, text):
    """Write the text to a file, if one was asked for."""
    if path:
        write_text(path, text)
