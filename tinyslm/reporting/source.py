"""A function's own lines, with their numbers in the file: to be taken apart, or to set a breakpoint at."""

import ast
import inspect
from pathlib import Path

import tinyslm


def numbered_source(function) -> str:
    """The source of a function or class without its docstring: the file, then each line behind its number."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    place = Path(inspect.getsourcefile(function)).relative_to(Path(tinyslm.__file__).parent.parent)
    hidden = docstring_lines(lines)
    shown = [f"{first + i:4}  {line.rstrip()}".rstrip() for i, line in enumerate(lines) if i not in hidden]
    return "\n".join([place.as_posix(), *shown])


def docstring_lines(lines) -> range:
    """Which of a definition's lines, counted from 0, are its docstring: none where it has none."""
    indentation = len(lines[0]) - len(lines[0].lstrip())
    definition = ast.parse("".join(line[indentation:] if line.strip() else line for line in lines)).body[0]
    if ast.get_docstring(definition, clean=False) is None:
        return range(0)
    statement = definition.body[0]
    return range(statement.lineno - 1, statement.end_lineno)
