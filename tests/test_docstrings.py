"""Docstrings: examples run, and those of exported functions and classes describe the signature in numpydoc's form."""

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import tinyslm

PACKAGE = Path(tinyslm.__file__).parent
PUBLIC = (
    "tinyslm",
    "tinyslm.ops",
    "tinyslm.compression.distillation",
    "tinyslm.compression.pruning",
    "tinyslm.compression.quantization",
    "tinyslm.compression.factorization",
    "tinyslm.recipes",
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def modules():
    """Dotted names of all modules of the package, except the one that starts the command."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exported():
    """{qualified name: object} of all public functions and classes; exceptions have no parameters of their own."""
    found = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for each in module.__all__:
            thing = getattr(module, each)
            if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
                found.setdefault(thing, f"{name}.{each}")
    return {name: thing for thing, name in found.items()}


def sections(text):
    """{heading: text} of a numpydoc docstring."""
    parts = HEADING.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section):
    """Names of a Parameters section, in order and without stars: `x, y : ndarray` holds two."""
    names = re.findall(r"^(\*{0,2}\w[\w, *]*?) *(?::.*)?$", textwrap.dedent(section), re.MULTILINE)
    return [name.strip(" *") for line in names for name in line.split(",")]


def parameters(thing):
    """Names of the parameters, in order."""
    return list(inspect.signature(thing).parameters)


def returns_a_value(function):
    """Whether the function itself returns or yields more than None."""
    pending = list(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0].body)
    while pending:
        node = pending.pop()
        if (isinstance(node, ast.Return) and node.value is not None) or isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


@pytest.mark.parametrize("name", list(modules()))
def test_examples_run(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs={"np": np}, optionflags=FLAGS)
    assert results.failed == 0


@pytest.mark.parametrize("name", list(exported()))
def test_public_docstrings_describe_the_signature(name):
    thing = exported()[name]
    text = inspect.getdoc(thing) or ""
    found = sections(text)
    assert documented(found.get("Parameters", "")) == parameters(thing)
    if inspect.isfunction(thing) and returns_a_value(thing):
        assert found.get("Returns", found.get("Yields", "")).strip(), "no Returns section"
    assert ">>>" in found.get("Examples", ""), "no Examples section with a doctest"


def test_a_wrong_docstring_is_noticed():
    def right(x, y, *rest):
        """Sum.

        Parameters
        ----------
        x, y : float
            Terms: both
            of them.
        *rest
            More.

        Returns
        -------
        float
        """
        return x + y

    found = sections(inspect.getdoc(right))
    assert list(found) == ["Parameters", "Returns"]
    assert documented(found["Parameters"]) == parameters(right) == ["x", "y", "rest"]
    assert returns_a_value(right) and not returns_a_value(lambda_free)


def lambda_free():
    def inner():
        return 1

    inner()
