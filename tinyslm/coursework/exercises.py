"""Definitions of the exercises, read from `exercises.toml`."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinyslm
from tinyslm.errors import ConfigError

FILE = Path(__file__).with_name("exercises.toml")


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    name: its name on the command line;  lesson: number of its lesson, two digits;  title, task, hints: text in
    Markdown.  functions: dotted names of the functions to write, "module.function" or "module.Class.method".
    properties: the property tests that grade them, "file" or "file::test" below tests/properties.
    equivalent: other functions of the library that compute the answer. They do not work in a submission while it is
    graded, and neither do `functions`.  writes_tests: whether students write property tests of these functions instead;
    the mark is the number of mistakes that these tests find.
    """

    name: str
    lesson: str
    title: str
    task: str
    functions: tuple[str, ...]
    properties: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    equivalent: tuple[str, ...] = ()
    writes_tests: bool = False

    @property
    def names(self) -> list[str]:
        """Names that the student's file must define: functions, and classes of methods."""
        return [split_name(function)[1].split(".")[0] for function in self.functions]

    @property
    def file_name(self) -> str:
        """File name of the stub."""
        return ("test_" if self.writes_tests else "") + self.name.replace("-", "_") + ".py"


@functools.cache
def exercises() -> dict[str, Exercise]:
    """{name: exercise}, in the order of the lessons."""
    return {table["name"]: Exercise(**table) for table in read_tables(FILE, "exercise")}


def read_tables(path, name: str) -> list[dict[str, Any]]:
    """The tables called `name` of a TOML file, with tuples in place of lists."""
    tables = tomllib.loads(Path(path).read_text("utf-8"))[name]
    return [{key: tuple(value) if isinstance(value, list) else value for key, value in t.items()} for t in tables]


def find_exercise(name) -> Exercise:
    """The exercise with this name. Raises ConfigError if there is none."""
    if name not in exercises():
        raise ConfigError(f"exercise {name!r} is not one of {', '.join(exercises())}")
    return exercises()[name]


def split_name(dotted):
    """Split a dotted name into module and name within it: ("tinyslm.training.adamw", "AdamW.step")."""
    parts = dotted.split(".")
    count = next(i for i in range(len(parts), 0, -1) if module_path(".".join(parts[:i])).exists())
    return ".".join(parts[:count]), ".".join(parts[count:])


def module_path(module) -> Path:
    """Path of the file of a module."""
    return Path(tinyslm.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")


def tests_directory() -> Path:
    """The folder `tests` with the property tests and the mistakes, in the checkout or in the installed package.

    Raises ConfigError if neither has it.
    """
    package = Path(tinyslm.__file__).parent
    for tests in (package.parent / "tests", package / "_data" / "tests"):
        if (tests / "properties").is_dir():
            return tests
    raise ConfigError(
        f"the property tests are missing: found neither {package.parent / 'tests'} nor {package / '_data' / 'tests'}"
    )
