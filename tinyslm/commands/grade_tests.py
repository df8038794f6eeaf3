"""tinyslm grade-tests: marks of a student's property tests, one for each classic mistake that they detect."""

import json
from pathlib import Path

from tinyslm.commands.parser import write_text
from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.mistakes import grade_tests
from tinyslm.errors import ConfigError
from tinyslm.reporting.terminal_table import fitted


def add_arguments(parser):
    """The options of the command."""
    parser.argument("path", "file of property tests", metavar="FILE")
    parser.option("--exercise", None, "name of the exercise (default: from the name of the file)", "NAME")
    parser.option("--seed", 0, "seed of the random test inputs")
    parser.option("--out", None, "write the result to this file as JSON", "FILE")


def run(arguments) -> int:
    """Print the detected mistakes. Returns the exit status 0, also for low marks."""
    path = Path(arguments.path)
    if not path.is_file():
        raise ConfigError(f"{path} is not a file")
    if arguments.exercise:
        exercise = find_exercise(arguments.exercise)
    else:
        asking = {each.file_name: each for each in exercises().values() if each.writes_tests}
        if path.name not in asking:
            raise ConfigError(f"{path.name} is not one of {', '.join(asking)}: name the exercise with --exercise")
        exercise = asking[path.name]
    if not exercise.writes_tests:
        raise ConfigError(f"the task of {exercise.name} is functions, not tests: use tinyslm grade")
    result = grade_tests(path, exercise, seed=arguments.seed)
    print(fitted(result.as_text()))
    if arguments.out:
        write_text(arguments.out, json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n")
    return 0
