"""Source code of library functions with line numbers, for the lessons."""

import ast
import inspect
from pathlib import Path
from typing import Any

import tinyslm


def numbered_source(function) -> str:
    """The file of a function or class, then its source lines with their numbers, without the docstring."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    path = Path(inspect.getfile(function)).relative_to(Path(tinyslm.__file__).parent.parent)
    hidden = docstring_lines(lines)
    shown = [f"{first + i:4}  {line.rstrip()}".rstrip() for i, line in enumerate(lines) if i not in hidden]
    return "\n".join([path.as_posix(), *shown])


def docstring_lines(lines) -> range:
    """Indices of a definition's docstring lines; empty without a docstring."""
    indentation = len(lines[0]) - len(lines[0].lstrip())
    definition: Any = ast.parse("".join(line[indentation:] if line.strip() else line for line in lines)).body[0]
    if ast.get_docstring(definition, clean=False) is None:
        return range(0)
    statement = definition.body[0]
    return range(statement.lineno - 1, statement.end_lineno)
