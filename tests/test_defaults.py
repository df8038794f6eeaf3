"""Defaults of arguments are part of the interface: results depend on them.

`defaults.txt` states the signature of every public function, class and method with a default, in the packages that
compute. After an intended change: python -m tests.test_defaults
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import tinyslm

PACKAGE = Path(tinyslm.__file__).parent
STATED = Path(__file__).with_name("defaults.txt")
COMPUTING = ("ops", "modules", "models", "compression", "generation", "training", "evaluation", "recipes")


def modules() -> Iterator:
    """The modules of the packages that compute."""
    for name in ("autodiff.py", "tree.py", "load_save.py", *COMPUTING):
        for path in sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / name]:
            if path.name != "__init__.py":
                yield importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


def stated(default):
    """A default as it is written: functions by their names."""
    return (
        inspect.Parameter.empty
        if default is inspect.Parameter.empty
        else _Name(getattr(default, "__name__", repr(default)))
    )


class _Name(str):
    __repr__ = str.__str__


def signature(thing) -> str:
    """The signature without annotations."""
    found = inspect.signature(thing)
    parameters = [
        each.replace(annotation=inspect.Parameter.empty, default=stated(each.default))
        for each in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def signatures() -> Iterator[str]:
    """A line for every public function, class and method that has a default."""
    for module in modules():
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", "") == module.__name__ and callable(thing)
            if not own or name.startswith("_") or (isinstance(thing, type) and issubclass(thing, Exception)):
                continue
            found = {name: thing}
            for method, function in vars(thing).items() if isinstance(thing, type) else ():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and (not method.startswith("_") or method == "__call__"):
                    found[f"{name}.{method}"] = function
            for each, function in found.items():
                if "=" in (text := signature(function)):
                    yield f"{module.__name__}.{each}{text}"


def test_defaults_are_the_stated_ones():
    assert list(signatures()) == STATED.read_text("utf-8").splitlines()


if __name__ == "__main__":
    STATED.write_text("\n".join(signatures()) + "\n", "utf-8")
