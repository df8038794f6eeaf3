"""The implementation under test: functions of a student's file, or else of the library.

    from tinyslm.coursework.implementation import magnitude_mask

imports the function from the file that was passed to `use`, if that file defines it, and from the library otherwise. So
the same property test runs on any implementation, and a student's file needs only the functions of the exercise.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

PACKAGES = (
    "tinyslm.autodiff",
    "tinyslm.ops",
    "tinyslm.ops.attention",
    "tinyslm.modules",
    "tinyslm.compression.distillation",
    "tinyslm.compression.pruning",
    "tinyslm.compression.quantization",
    "tinyslm.compression.factorization",
    "tinyslm.text.batches",
    "tinyslm.generation",
    "tinyslm.training",
    "tinyslm.training.adamw",
    "tinyslm.training.schedule",
    "tinyslm.recipes.tasks",
)
MODULE_NAME = "implementation_under_test"

_functions: dict[str, Any] = {}  # {name: what is tested instead of the library's function}
_taken: dict[str, str] = {}  # {name that a test imported: "file" or the module of the library}


def load(path) -> dict[str, Callable]:
    """Import a file: {name: function or class that it defines}. Exceptions of the file are passed on."""
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:  # another ending than .py
        raise ImportError(f"{path} is not a Python file: its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == MODULE_NAME
    }


def use(functions: dict[str, Any]) -> None:
    """Test these functions instead of the library's: {name: function}."""
    _functions.clear()
    _functions.update(functions)


def taken() -> dict[str, str]:
    """{name that the tests have imported: "file", or the package of the library that it came from}."""
    return dict(_taken)


def __getattr__(name):
    """The function with this name, from the file or from the first package that has it."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _functions:
        _taken[name] = "file"
        return _functions[name]
    for package in PACKAGES:
        found = getattr(importlib.import_module(package), name, None)
        if found is not None:
            _taken[name] = package
            return found
    raise AttributeError(f"neither the file nor the library defines {name!r}")
