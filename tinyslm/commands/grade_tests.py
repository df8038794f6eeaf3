"""tinyslm grade-tests: marks for a student's property tests, by the classic mistakes that they detect."""

import json
from pathlib import Path

from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.mistakes import grade_tests
from tinyslm.errors import ConfigError


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("path", metavar="FILE", help="file of property tests")
    parser.add_argument("--exercise", metavar="NAME", help="name of the exercise (default: from the name of the file)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random test inputs (default: 0)")
    parser.add_argument("--out", metavar="FILE", help="write the result to this file as JSON")


def run(arguments) -> int:
    """Print the detected mistakes; returns the exit status, which is 0 for all marks."""
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
        raise ConfigError(f"{exercise.name} asks for functions, not for tests: use tinyslm grade")
    result = grade_tests(path, exercise, seed=arguments.seed)
    print(result.as_text())
    if arguments.out:
        with atomic_file(Path(arguments.out)) as file:
            file.write((json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n").encode())
    return 0
