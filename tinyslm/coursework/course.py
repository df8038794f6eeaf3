"""A course: all exercises in one directory, with a record of the marks and of the hints that were shown.

The record is `course.json` in the directory. It stores the marks of a file with a digest of the file and of its
property tests, so that only what has changed is graded again. It never contains solutions.
"""

import functools
import hashlib
import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import tinyslm
from tinyslm.checkpoints import atomic_file
from tinyslm.checkpoints.json_files import read_json
from tinyslm.coursework.exercises import Exercise, exercises, tests_directory
from tinyslm.coursework.grading import as_text, grade, properties_of
from tinyslm.coursework.mistakes import grade_tests, mistakes_of
from tinyslm.coursework.stubs import stub
from tinyslm.errors import ConfigError, Error

RECORD, README = "course.json", "README.md"
SOLVED, STARTED, NOT_STARTED, MISSING = "solved", "started", "not started", "missing"

COMMANDS = """
```
tinyslm exercise next              # the next exercise: its file, its task, its lesson
tinyslm exercise check             # grade the next exercise, or: check FILE
tinyslm exercise check --watch     # grade every file when it is saved; Ctrl-C ends
tinyslm exercise hint              # one hint for the next exercise, or: hint NAME; every call shows one more
tinyslm exercise status            # marks of all exercises
```
"""


@functools.cache
def course_files() -> dict[str, Exercise]:
    """{file name: exercise} in the order of the lessons, such as `03_2_embedding_gradient.py` of lesson 03."""
    files: dict[str, Exercise] = {}
    for exercise in sorted(exercises().values(), key=lambda exercise: exercise.lesson):
        number = 1 + sum(other.lesson == exercise.lesson for other in files.values())
        files[f"{exercise.lesson}_{number}_{exercise.name.replace('-', '_')}.py"] = exercise
    return files


def lesson_notebook(lesson: str) -> Path | None:
    """Path of a lesson's notebook in the checkout, or None in an installed package, which has no lessons."""
    return next((Path(tinyslm.__file__).parents[1] / "lessons").glob(f"{lesson}_*.ipynb"), None)


@functools.cache
def initial_text(file_name: str) -> str:
    """Text of the file of an exercise before the student has changed it: its task, and the stub."""
    exercise = course_files()[file_name]
    wanted = "Write the tests" if exercise.writes_tests else "Write the bodies"
    command = f"{wanted}, then run `tinyslm exercise check {file_name}`."
    return stub(exercise, "\n\n".join(textwrap.fill(text, 110) for text in (exercise.task, command)))


def readme() -> str:
    """README of a course: what to do, and which file belongs to which exercise."""
    text = (
        "One file per exercise, in the order of the lessons: LESSON_NUMBER_NAME.py. The task is at the top of each "
        "file. Replace `raise NotImplementedError` by your code. Property tests of the library give the marks and "
        "show the smallest input that fails. Keep the names of the files. `course.json` records marks and hints."
    )
    table = [f"| {name} | {exercise.title} |" for name, exercise in course_files().items()]
    return "\n".join(
        ["# Exercises", "", textwrap.fill(text, 110), COMMANDS, "| file | exercise |", "|---|---|", *table, ""]
    )


def start_course(directory: str | Path) -> list[Path]:
    """Write all files of a course that are missing in a directory, and return their paths. No file is overwritten.

    Raises ConfigError if none is missing.
    """
    directory = Path(directory)
    texts = {README: readme(), **{name: initial_text(name) for name in course_files()}}
    texts[RECORD] = json.dumps({"marks": {}, "hints": {}})  # last, so that an interrupted start can be repeated
    missing = [directory / name for name in texts if not (directory / name).exists()]
    if not missing:
        raise ConfigError(f"{directory} has all files of the course already: see `tinyslm exercise status {directory}`")
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        with atomic_file(path) as file:
            file.write(texts[path.name].encode())
    return missing


def find_course(start: str | Path) -> "Course":
    """The course in a directory or in the nearest directory above it. Raises ConfigError if there is none."""
    start = Path(start)
    for directory in (start, *start.resolve().parents):
        if (directory / RECORD).is_file():
            return Course(directory)
    raise ConfigError(
        f"no course in {start.resolve()} or above it ({RECORD} is missing): name its directory, "
        "or write one with `tinyslm exercise start DIR`"
    )


@dataclass(frozen=True)
class Marks:
    """Marks of a file. digest: of the file and of its property tests."""

    digest: str
    score: int
    max_score: int


@dataclass(frozen=True)
class Standing:
    """Where a student is with one exercise. state: "solved", "started", "not started" or "missing"."""

    exercise: Exercise
    path: Path
    state: str
    score: int
    max_score: int


class Course:
    """A course in a directory. problem: why the record could not be written, or ""."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.problem = ""
        self.marks, self.hints = self._read_record()

    def _read_record(self) -> tuple[dict[str, Marks], dict[str, int]]:
        path = self.directory / RECORD
        try:
            record = read_json(path)
            marks = {name: Marks(**entry) for name, entry in record["marks"].items()}
            numbers = [number for each in marks.values() for number in (each.score, each.max_score)]
            if not all(type(number) is int for number in (*numbers, *record["hints"].values())):
                raise TypeError("not whole numbers")
        except (Error, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{path} is damaged: delete it and run `tinyslm exercise start {self.directory}`; other files are kept"
            ) from None
        return marks, dict(record["hints"])

    def _record(self, exercise: Exercise, *, marks: Marks | None = None, hints: int | None = None):
        """Change the entries of one exercise in the record, which another command may have changed in the meantime."""
        try:
            self.marks, self.hints = self._read_record()
            if marks is not None:
                self.marks[exercise.name] = marks
            if hints is not None:
                self.hints[exercise.name] = hints
            record = {"marks": {name: asdict(each) for name, each in self.marks.items()}, "hints": self.hints}
            with atomic_file(self.directory / RECORD) as file:
                file.write(json.dumps(record, indent=1).encode())
        except Error as problem:
            self.problem = str(problem)

    def path(self, exercise: Exercise) -> Path:
        """The file of an exercise."""
        return self.directory / next(name for name, other in course_files().items() if other is exercise)

    def find(self, name: str) -> Exercise:
        """The exercise with this name, or of this file. Raises ConfigError if there is none."""
        if name in exercises():
            return exercises()[name]
        exercise = course_files().get(Path(name).name)
        if exercise is None:
            raise ConfigError(f"{name} is no exercise and no file of the course: see `tinyslm exercise status`")
        if Path(name).exists() and Path(name).resolve() != self.path(exercise).resolve():
            raise ConfigError(f"{name} is not in the directory of the course: move it to {self.path(exercise)}")
        return exercise

    def standing(self, exercise: Exercise, before_grading: Callable[[Path], None]) -> Standing:
        """The standing of an exercise. Its file is graded if it has changed; before_grading(path) is called first."""
        path = self.path(exercise)
        if not path.is_file():
            return Standing(exercise, path, MISSING, 0, best_score(exercise))
        if path.read_bytes() == initial_text(path.name).encode():
            return Standing(exercise, path, NOT_STARTED, 0, best_score(exercise))
        marks, best = self.marks.get(exercise.name), best_score(exercise)
        if marks is None or (marks.digest, marks.max_score) != (digest(path, exercise), best):
            marks, _ = self.grade(exercise, before_grading)
        state = SOLVED if marks.score == marks.max_score else STARTED
        return Standing(exercise, path, state, marks.score, marks.max_score)

    def standings(self, before_grading: Callable[[Path], None]) -> Iterator[Standing]:
        """The standings of all exercises in the order of the lessons, one after the other."""
        for exercise in course_files().values():
            yield self.standing(exercise, before_grading)

    def next_standing(self, before_grading: Callable[[Path], None]) -> Standing | None:
        """The first exercise that is not solved, or None if all are solved."""
        return next((found for found in self.standings(before_grading) if found.state != SOLVED), None)

    def grade(self, exercise: Exercise, before_grading: Callable[[Path], None]) -> tuple[Marks, str]:
        """Grade the file of an exercise and record the marks. Returns them and the text for the terminal.

        before_grading(path) is called first. Raises ConfigError if the file is missing.
        """
        path = self.path(exercise)
        if not path.is_file():
            raise ConfigError(f"{path} is missing: {how_to_restore(self.directory)}")
        before_grading(path)
        state = digest(path, exercise)  # before grading: the file may change in the meantime
        if exercise.writes_tests:
            tests = grade_tests(path, exercise)
            marks, text = Marks(state, tests.score, len(tests.found)), tests.as_text()
        else:
            result = grade(path, exercise=exercise.name)
            marks, text = Marks(state, result["score"], result["max_score"]), as_text(result)
        self._record(exercise, marks=marks)
        return marks, text

    def next_hint(self, exercise: Exercise) -> int:
        """The number of hints that were shown with this call: one more than before, at most all hints."""
        shown = min(self.hints.get(exercise.name, 0) + 1, len(exercise.hints))
        self._record(exercise, hints=shown)
        return shown


@functools.cache
def best_score(exercise: Exercise) -> int:
    """The largest number of marks of an exercise."""
    if exercise.writes_tests:
        return len(mistakes_of(exercise))
    return sum(found.marks for found in properties_of(exercise))


def digest(path: Path, exercise: Exercise) -> str:
    """Digest of a file and of the property tests of its exercise."""
    files = dict.fromkeys(wanted.partition("::")[0] for wanted in exercise.properties)
    found = hashlib.sha256(path.read_bytes())
    for name in files:
        found.update((tests_directory() / "properties" / name).read_bytes())
    return found.hexdigest()


def how_to_restore(directory: Path) -> str:
    """Advice for a missing file."""
    return f"move it back, or write its stub again with `tinyslm exercise start {directory}`"
