"""Collection of classic mistakes: small changes of the library, each taken from a real bug.

`tests/mistakes/*.toml` describes each mistake by a piece of a library file and its wrong replacement. Tests of a
mistake run in a new process, which replaces the piece when it imports the library. No file is changed.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tinyslm.coursework.exercises import Exercise, exercises, module_path, read_tables, tests_directory
from tinyslm.coursework.grading import STARTING_SECONDS, last_lines, require_test_tools, run_pytest
from tinyslm.errors import ConfigError

INSERT = Path(__file__).with_name("insert_mistake.py")
CAUGHT, SURVIVED = 1, 0  # exit statuses of pytest


@dataclass(frozen=True)
class Mistake:
    """A mistake.

    wrong: description;  seen: where the bug was found.  module: dotted name of the library file;  old, new: the piece
    of source that is replaced, which must occur exactly once, and its replacement.  exercise: name of the exercise on
    this function, or "";  caught_by: tests that find the mistake, as paths in the checkout; by default the property
    tests of the exercise.
    """

    name: str
    wrong: str
    seen: str
    module: str
    old: str
    new: str
    exercise: str = ""
    caught_by: tuple[str, ...] = ()

    @property
    def tests(self) -> list[str]:
        """Paths of the tests that find the mistake, relative to the folder that contains `tests`."""
        return list(self.caught_by) or [f"tests/properties/{each}" for each in exercises()[self.exercise].properties]

    def source(self) -> str:
        """Source of the library file with the mistake. Raises ConfigError unless `old` occurs exactly once."""
        text = module_path(self.module).read_text("utf-8")
        if text.count(self.old) != 1:
            raise ConfigError(f"mistake {self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.module}")
        return text.replace(self.old, self.new)


def mistakes() -> dict[str, Mistake]:
    """{name: mistake} of the whole collection."""
    found: dict[str, Mistake] = {}
    for path in sorted((tests_directory() / "mistakes").glob("*.toml")):
        for mistake in (Mistake(**table) for table in read_tables(path, "mistake")):
            if mistake.name in found:
                raise ConfigError(f"two mistakes are called {mistake.name!r}")
            found[mistake.name] = mistake
    return found


def mistakes_of(exercise: Exercise) -> list[Mistake]:
    """The mistakes in the functions of an exercise in which students write tests."""
    owned = set(exercise.functions)
    return [m for m in mistakes().values() if m.exercise and owned & set(exercises()[m.exercise].functions)]


def try_mistake(mistake, tests, *, options=(), seconds=STARTING_SECONDS * 5):
    """(exit status, output) of pytest on the library with a mistake, or on the unchanged library if mistake is None."""
    inserted = () if mistake is None else (mistake.module, mistake.old, mistake.new)
    root = tests_directory().parent
    paths = [str(test) if Path(str(test).partition("::")[0]).is_absolute() else str(root / test) for test in tests]
    return run_pytest([*paths, *options], seconds, program=(str(INSERT), *inserted, "--"))


@dataclass(frozen=True)
class TestsResult:
    """Result of a student's tests. refused: reason for no marks, or "";  found: {mistake: whether a test failed}."""

    exercise: str
    refused: str
    found: dict[str, bool]

    @property
    def score(self) -> int:
        """Number of mistakes found."""
        return 0 if self.refused else sum(self.found.values())

    def as_text(self) -> str:
        """The result for the terminal."""
        bank = mistakes()
        lines = [f"{'✓ found   ' if found else '✗ survived'}  {bank[name].wrong}" for name, found in self.found.items()]
        if self.refused:
            lines = [f"the tests do not pass for the library itself, so they get no marks:\n{self.refused}"]
        return "\n".join([*lines, f"{self.score} of {len(self.found)} mistakes found"])

    def as_json(self) -> dict:
        """The result in Gradescope's format."""
        bank = mistakes()
        tests = [
            {"name": bank[name].wrong, "score": int(found and not self.refused), "max_score": 1,
             "status": "passed" if found and not self.refused else "failed"}
            for name, found in self.found.items()
        ]  # fmt: skip
        return {"score": self.score, "max_score": len(tests), "output": self.refused, "tests": tests}


def grade_tests(path, exercise: Exercise, *, seed=0, workers=2) -> TestsResult:
    """Grade a student's tests: they must pass on the library, and should fail for each mistake in its functions."""
    require_test_tools()
    own = mistakes_of(exercise)
    plugin = ("-p", "tinyslm.coursework.plugin", "--hypothesis-profile=first-failure")
    options = ("-x", f"--hypothesis-seed={seed}", *plugin)
    path = Path(path).resolve()
    status, said = try_mistake(None, [path], options=options)
    if status != SURVIVED:
        reason = "they took too long" if status is None else last_lines(said)
        return TestsResult(exercise.name, reason, {mistake.name: False for mistake in own})
    with ThreadPoolExecutor(workers) as pool:
        statuses = list(pool.map(lambda mistake: try_mistake(mistake, [path], options=options)[0], own))
    return TestsResult(exercise.name, "", {m.name: status == CAUGHT for m, status in zip(own, statuses, strict=True)})
