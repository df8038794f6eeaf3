"""Stubs of exercises: functions of the library with signature and docstring, without their bodies."""

import ast
import textwrap
from pathlib import Path

from tinyslm.coursework.exercises import Exercise, module_path, split_name
from tinyslm.coursework.grading import properties_of
from tinyslm.errors import ConfigError

GIVEN = (  # modules that a stub imports as the library's file does: tools, no part of a solution
    "dataclasses",
    "math",
    "numpy",
    "scipy",
    "tinyslm.autodiff",
    "tinyslm.compression.argument_checks",
    "tinyslm.errors",
    "tinyslm.ops",
)
DIFFERENTIABLE = (  # comment above a differentiable operation
    "# Return (output, vjp). vjp(dy) takes the gradient of the loss with respect to the output. It returns a tuple of",
    "# one gradient per positional argument, in its dtype, or None if it has no gradient. It changes no array.",
)
FUTURE = "from __future__ import annotations"  # types are not evaluated: a stub need not have them


def write_exercise(exercise: Exercise, directory) -> list[Path]:
    """Write the stub and the README of an exercise to a folder, which is created. Returns their paths.

    Raises ConfigError if one of the files exists.
    """
    files = {exercise.file_name: stub(exercise), "README.md": readme(exercise)}
    paths = [Path(directory) / name for name in files]
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} exists: choose another folder with --to")
    Path(directory).mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text, "utf-8")
    return paths


def stub(exercise: Exercise, note: str | None = None) -> str:
    """Source of the file for the student. note: text of its docstring below the title, by default what to run."""
    sources = {}  # module: names in it
    for function in exercise.functions:
        module, name = split_name(function)
        sources.setdefault(module, []).append(name)
    texts = {module: module_path(module).read_text("utf-8") for module in sources}
    trees = {module: ast.parse(text) for module, text in texts.items()}
    head = f'"""Exercise {exercise.name}, lesson {exercise.lesson}: {exercise.title}.'
    if exercise.writes_tests:
        note = note or textwrap.fill(tests_to_write(exercise), 110)
        return "\n".join([head, "", note, '"""', "", tests_stub(exercise)])
    note = note or f"Write the bodies, then run `tinyslm grade {exercise.file_name}`. The task is in README.md."
    definitions = [
        without_body(texts[module], tree, name, f"{exercise.name}: {name}")
        for module, tree in trees.items()
        for name in sources[module]
    ]
    used = {node.id for node in ast.walk(ast.parse("\n".join(definitions))) if isinstance(node, ast.Name)}
    imports = dict.fromkeys(line for tree in trees.values() for line in given_imports(tree, exercise.names, used))
    return "\n\n\n".join(["\n".join([head, "", note, '"""', "", FUTURE, "", *imports]), *definitions]) + "\n"


def given_imports(tree, names, used):
    """The imports of a library file that a stub needs, in their order; never the functions to write.

    Imports of tools are complete. From other modules only the names in `used` are imported: the decorators and types of
    the definitions in the stub.
    """
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            tools = all(any(module == given or module.startswith(f"{given}.") for given in GIVEN) for module in modules)
            if tools and not any(alias.name in names for alias in node.names):
                yield ast.unparse(node)
            elif isinstance(node, ast.ImportFrom):
                needed = [alias for alias in node.names if alias.name in used and alias.name not in names]
                if needed:
                    yield ast.unparse(ast.ImportFrom(node.module, needed, node.level))


def without_body(source, tree, name, label) -> str:
    """The source of a function, or of a class with one empty method, with an exception in place of the body."""
    owner, _, method = name.partition(".")
    node = next(node for node in tree.body if getattr(node, "name", None) == owner)
    emptied = next(each for each in node.body if getattr(each, "name", None) == method) if method else node
    first = emptied.body[0]
    documented = ast.get_docstring(emptied) is not None
    header_end = first.end_lineno if documented else first.lineno - 1
    lines = source.splitlines()
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    unwritten = f"{' ' * first.col_offset}raise {NotImplementedError.__name__}({label!r})"
    note = DIFFERENTIABLE if any(getattr(each, "id", "") == "differentiable" for each in node.decorator_list) else ()
    return "\n".join([*note, *lines[start:header_end], unwritten, *lines[emptied.end_lineno : node.end_lineno]])


def tests_to_write(exercise) -> str:
    """Instructions for an exercise in which the student writes property tests."""
    return (
        f"Write property tests of {', '.join(exercise.names)}: they must pass for the library and fail for wrong "
        f"implementations. Then run `tinyslm grade-tests {exercise.file_name}`. README.md contains the task."
    )


def tests_stub(exercise) -> str:
    """Source of a test file with one trivial property."""
    name = exercise.names[0]
    return f"""import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.coursework.implementation import {", ".join(exercise.names)}


@given(st.integers(0, 2**32 - 1))
def test_it_exists(seed):
    rng = np.random.default_rng(seed)  # draw all random numbers from it
    assert callable({name}) and rng is not None
"""


def readme(exercise: Exercise) -> str:
    """README of an exercise: task, marks and hints."""
    lines = [f"# {exercise.title}", "", f"Exercise `{exercise.name}`, lesson {exercise.lesson}.", "", exercise.task]
    if exercise.writes_tests:
        lines += [
            "## Marks",
            "",
            "One mark for each wrong implementation for which a test fails. No marks if a test fails",
        ]
        lines += ["for the library's function. Command: `tinyslm grade-tests " + exercise.file_name + "`."]
    else:
        lines += ["## Marks", "", "| property | marks |", "|---|---|"]
        lines += [f"| {found.sentence} | {found.marks} |" for found in properties_of(exercise)]
        lines += [
            "",
            f"Command: `tinyslm grade {exercise.file_name}`. It shows the smallest input for which a property",
        ]
        lines += ["fails. Your instructor uses other random inputs (`--seed`)."]
    if exercise.hints:
        lines += ["", "## Steps", ""]
        lines += [f"{i}. {hint}" for i, hint in enumerate(exercise.hints, 1)]
    return "\n".join(lines) + "\n"
