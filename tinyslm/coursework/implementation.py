"""The functions that properties are about: the library's, or those of a file that was pointed at.

    from tinyslm.coursework.implementation import magnitude_mask

gives the function of this name from the file that `use` was called with, if that file defines one, and otherwise the
library's. So a property is written once and tests any implementation; what a student was not asked for is the
library's.
"""

import importlib
import importlib.util
import sys

ROOMS = (
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
MODULE_NAME = "pointed_at"

_own = {}  # name: function of the file that is in use


def use(path, required=()):
    """Point at a file: run it, and prefer what it defines itself to the library. Whatever it raises is raised.

    required: names that are not taken from the library, should the file not define them: calling them fails.
    """
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    _own.clear()
    for name, value in vars(module).items():
        if callable(value) and getattr(value, "__module__", None) == MODULE_NAME:
            _own[name] = value
    for name in required:
        _own.setdefault(name, _not_written(name))


def _not_written(name):
    def call(*arguments, **settings):
        raise NotImplementedError(f"the file does not define {name}")

    return call


def __getattr__(name):
    """The function of this name. Only asked for names that this module does not define itself."""
    if name in _own:
        return _own[name]
    for room in ROOMS:
        found = getattr(importlib.import_module(room), name, None)
        if found is not None:
            return found
    raise AttributeError(f"neither the file in use nor the library has {name!r}")
