"""The bank of classic mistakes: small changes to the library, each a mistake that people have made.

They are written down in `tests/mistakes/*.toml`: a piece of a library file, and the wrong piece in its place. A test
of a mistake runs in a process of its own, into which the wrong piece is put before the library is loaded, so nothing of
it is left anywhere.
"""

import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tinyslm.coursework.exercises import Exercise, exercises, module_path, tests_directory
from tinyslm.coursework.grading import STARTING_SECONDS, last_lines, run_pytest
from tinyslm.errors import ConfigError

INSERT = Path(__file__).with_name("insert_mistake.py")
CAUGHT, SURVIVED = 1, 0  # exit statuses of pytest


@dataclass(frozen=True)
class Mistake:
    """name, and what is wrong, in words;  seen: where such a mistake was seen.

    module: dotted name of the library file;  old, new: the piece of its source that is replaced, which occurs once;
    exercise: the one whose function it is in, or "";  caught_by: tests, as paths below the checkout, that find it; by
    default the properties of the exercise.
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
        """Paths of the tests that find it, below the folder that holds `tests`."""
        return list(self.caught_by) or [f"tests/properties/{each}" for each in exercises()[self.exercise].properties]

    def source(self) -> str:
        """The library file with the mistake. Raises ConfigError unless the right piece occurs exactly once."""
        text = module_path(self.module).read_text("utf-8")
        if text.count(self.old) != 1:
            raise ConfigError(f"mistake {self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.module}")
        return text.replace(self.old, self.new)


def mistakes() -> dict[str, Mistake]:
    """{name: mistake}, the whole bank."""
    found = {}
    for path in sorted((tests_directory() / "mistakes").glob("*.toml")):
        for table in tomllib.loads(path.read_text("utf-8"))["mistake"]:
            mistake = Mistake(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
            if mistake.name in found:
                raise ConfigError(f"two mistakes are called {mistake.name!r}")
            found[mistake.name] = mistake
    return found


def try_mistake(mistake, tests, *, options=(), seconds=STARTING_SECONDS * 5):
    """(exit status of pytest, what it said) of tests on the library with a mistake, or as it is if that is None."""
    inserted = () if mistake is None else (mistake.module, mistake.old, mistake.new)
    root = tests_directory().parent
    paths = [str(test) if Path(str(test).partition("::")[0]).is_absolute() else str(root / test) for test in tests]
    return run_pytest([*paths, *options], seconds, program=(str(INSERT), *inserted, "--"))


@dataclass(frozen=True)
class TestsResult:
    """What became of a student's tests. refused: why they count nothing, or "";  found: {mistake: whether it was}."""

    exercise: str
    refused: str
    found: dict[str, bool]

    @property
    def score(self) -> int:
        """One mark for each mistake that was found."""
        return 0 if self.refused else sum(self.found.values())

    def as_text(self) -> str:
        """For a terminal."""
        bank = mistakes()
        lines = [f"{'✓ found   ' if found else '✗ survived'}  {bank[name].wrong}" for name, found in self.found.items()]
        if self.refused:
            lines = [f"the tests do not pass for the library itself, so they say nothing:\n{self.refused}"]
        return "\n".join([*lines, f"{self.score} of {len(self.found)} mistakes found"])

    def as_json(self) -> dict:
        """As Gradescope reads it."""
        bank = mistakes()
        tests = [
            {"name": bank[name].wrong, "score": int(found and not self.refused), "max_score": 1,
             "status": "passed" if found and not self.refused else "failed"}
            for name, found in self.found.items()
        ]  # fmt: skip
        return {"score": self.score, "max_score": len(tests), "output": self.refused, "tests": tests}


def grade_tests(path, exercise: Exercise, *, seed=0, workers=2) -> TestsResult:
    """Try a student's properties: they must pass for the library, and fail for each mistake in its functions."""
    owned = set(exercise.functions)
    own = [m for m in mistakes().values() if m.exercise and owned & set(exercises()[m.exercise].functions)]
    options = ("-x", f"--hypothesis-seed={seed}", "--hypothesis-profile=first-failure")
    options += ("-p", "tinyslm.coursework.plugin")
    path = Path(path).resolve()
    status, said = try_mistake(None, [path], options=options)
    if status != SURVIVED:
        reason = "they took too long" if status is None else last_lines(said)
        return TestsResult(exercise.name, reason, {mistake.name: False for mistake in own})
    with ThreadPoolExecutor(workers) as pool:
        statuses = list(pool.map(lambda mistake: try_mistake(mistake, [path], options=options)[0], own))
    return TestsResult(exercise.name, "", {m.name: status == CAUGHT for m, status in zip(own, statuses, strict=True)})
