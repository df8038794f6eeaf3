"""Type annotations: public functions and methods annotate every parameter and the returned value."""

import importlib
import importlib.resources
import inspect
import pkgutil

import pytest

import tinyslm

PACKAGES = ("ops", "modules", "models", "checkpoints", "text", "generation", "training", "evaluation", "recipes")
TECHNIQUES = ("distillation", "pruning", "quantization", "factorization")
PUBLIC = ("tinyslm", *(f"tinyslm.{name}" for name in PACKAGES), *(f"tinyslm.compression.{name}" for name in TECHNIQUES))


def public_functions(module):
    """{qualified name: function} of the exported functions, and of the public methods of exported classes."""
    found = {}
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            for key, method in vars(thing).items():
                if inspect.isfunction(method) and (not key.startswith("_") or key == "__call__"):
                    found[f"{name}.{key}"] = method
        elif callable(thing):
            found[name] = inspect.unwrap(thing)
    return found


def missing(function):
    """Names of the parameters without an annotation, and "return"."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    names = [each.name for each in parameters if each.annotation is each.empty]
    return names + ["return"] * (signature.return_annotation is signature.empty)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_are_annotated(name):
    functions = public_functions(importlib.import_module(name))
    assert functions
    assert {each: missing(function) for each, function in functions.items() if missing(function)} == {}


def test_the_package_says_that_it_is_typed():
    assert (importlib.resources.files(tinyslm) / "py.typed").is_file()


def test_no_public_package_is_left_out():
    found = {each.name for each in pkgutil.iter_modules(tinyslm.__path__) if each.ispkg}
    assert found - set(PACKAGES) == {"compression", "reporting", "coursework", "commands"}
