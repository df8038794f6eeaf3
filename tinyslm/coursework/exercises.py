"""The exercises: what each asks for, and where its marks come from. They are written down in `exercises.toml`."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

import tinyslm
from tinyslm.errors import ConfigError

FILE = Path(__file__).with_name("exercises.toml")


@dataclass(frozen=True)
class Exercise:
    """name: on the command line;  lesson: the number of the lesson that it belongs to;  title, task, hints: text.

    functions: dotted names, "module.function" or "module.Class.method", all to be written;  properties: files of
    tests/properties, or "file::test", that mark them. Where `writes_tests`, the student writes properties of these
    functions, and they are marked by the mistakes that they find.
    """

    name: str
    lesson: str
    title: str
    task: str
    functions: tuple[str, ...]
    properties: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    writes_tests: bool = False

    @property
    def names(self) -> list[str]:
        """What the student's file defines: functions, and classes for methods."""
        return [split_name(function)[1].split(".")[0] for function in self.functions]

    @property
    def file_name(self) -> str:
        """Of the stub."""
        return ("test_" if self.writes_tests else "") + self.name.replace("-", "_") + ".py"


@functools.cache
def exercises() -> dict[str, Exercise]:
    """{name: exercise}, in the order in which they can be done."""
    tables = tomllib.loads(FILE.read_text("utf-8"))["exercise"]
    as_tuples = [{key: tuple(value) if isinstance(value, list) else value for key, value in t.items()} for t in tables]
    return {table["name"]: Exercise(**table) for table in as_tuples}


def find_exercise(name) -> Exercise:
    """The exercise of this name, or ConfigError."""
    if name not in exercises():
        raise ConfigError(f"exercise {name!r} is not one of {', '.join(exercises())}")
    return exercises()[name]


def split_name(dotted):
    """("tinyslm.training.adamw", "AdamW.step"): module, and what is in it."""
    parts = dotted.split(".")
    count = next(i for i in range(len(parts), 0, -1) if module_path(".".join(parts[:i])).exists())
    return ".".join(parts[:count]), ".".join(parts[count:])


def module_path(module) -> Path:
    """The file of a module of the package."""
    return Path(tinyslm.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")


def tests_directory() -> Path:
    """The folder `tests` with the properties and the mistakes: of the checkout, or of the installed package.

    Raises ConfigError where neither is there.
    """
    package = Path(tinyslm.__file__).parent
    for tests in (package.parent / "tests", package / "_data" / "tests"):
        if (tests / "properties").is_dir():
            return tests
    raise ConfigError(f"the properties are missing: neither beside nor inside {package}")
