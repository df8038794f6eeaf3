"""tinyslm grade-tests: marks for properties that a student wrote, by the mistakes that they find."""

import json
from pathlib import Path

from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.mistakes import grade_tests
from tinyslm.errors import ConfigError


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("path", metavar="FILE", help="a file of tests")
    parser.add_argument("--exercise", metavar="NAME", help="default: found from the name of the file")
    parser.add_argument("--seed", type=int, default=0, help="draw other inputs (default: 0)")
    parser.add_argument("--out", metavar="FILE", help="write the result there, as JSON")


def run(arguments) -> int:
    """Print which mistakes were found; returns the exit status, which is 0 whatever they are."""
    path = Path(arguments.path)
    if not path.is_file():
        raise ConfigError(f"{path} is no file")
    if arguments.exercise:
        exercise = find_exercise(arguments.exercise)
    else:
        asking = {each.file_name: each for each in exercises().values() if each.writes_tests}
        if path.name not in asking:
            raise ConfigError(f"{path.name} is not one of {', '.join(asking)}: say which with --exercise")
        exercise = asking[path.name]
    if not exercise.writes_tests:
        raise ConfigError(f"{exercise.name} asks for functions: use grade")
    result = grade_tests(path, exercise, seed=arguments.seed)
    print(result.as_text())
    if arguments.out:
        with atomic_file(Path(arguments.out)) as file:
            file.write((json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n").encode())
    return 0
