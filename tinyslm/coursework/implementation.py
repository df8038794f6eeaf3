"""The implementation under test: functions of a student's file, or else of the library.

    from tinyslm.coursework.implementation import magnitude_mask

imports the function from the file that was passed to `use`, if that file defines it, and from the library otherwise. So
the same property test runs on any implementation, and a student's file needs only the functions of the exercise.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable

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

_file_functions: dict[str, Callable] = {}  # {name: function of the file}


def use(path, required=()):
    """Import a file and use its functions instead of the library's. Exceptions of the file are passed on.

    required: names that are never taken from the library. If the file does not define one, calling it raises
    NotImplementedError.
    """
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    _file_functions.clear()
    for name, value in vars(module).items():
        if callable(value) and getattr(value, "__module__", None) == MODULE_NAME:
            _file_functions[name] = value
    for name in required:
        _file_functions.setdefault(name, _missing_function(name))


def _missing_function(name):
    def call(*arguments, **settings):
        raise NotImplementedError(f"the file does not define {name}")

    return call


def __getattr__(name):
    """The function with this name, from the file or from the first package that has it."""
    if name in _file_functions:
        return _file_functions[name]
    for package in PACKAGES:
        found = getattr(importlib.import_module(package), name, None)
        if found is not None:
            return found
    raise AttributeError(f"neither the file nor the library defines {name!r}")
