"""Tables and paragraphs of plain text, as wide as the terminal. rich measures, aligns and wraps the cells."""

import io
import re
import shutil
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinyslm.reporting.plain_text import width

GAP = 2  # columns of the terminal between two columns of a table
UNLIMITED = 10_000  # width where standard output is not a terminal: nothing is wrapped
MOST_LINES = 3  # of a wrapped cell, about; a column that needs more is moved to the next block
UNIT_SPACE = re.compile(r"(?<=\d) (?=%|[kMGT]\b|[kMGT]?B\b|tokens\b|±)")  # between a number and its unit
NO_BREAK = "\ue000"  # stands for such a space until the lines are cut: rich cuts at every kind of space
LABEL = re.compile(r" *(?:\S+(?: \S+)?  +)?")  # indentation of a line, and up to two words before a gap


def terminal_width() -> int:
    """Columns of the terminal, or UNLIMITED where standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED


def table_lines(rows, right=(), columns=None) -> list[str]:
    """Lines of a table. One that is too wide is printed as blocks of columns, with empty lines between them.

    rows: lists of texts, all of one length;  right: indices of right-aligned columns;  columns: width, by default that
    of the terminal.
    """
    limit = columns or terminal_width()
    blocks = [_block_lines(rows, block, right, limit) for block in _blocks(rows, right, limit)]
    return [line for block in blocks for line in (*block, "")][:-1]


def ruled_table(rows, header_rows, notes, columns=None) -> str:
    """A table with lines around its body and notes below it; numbers are right-aligned under their headings."""
    limit, right = columns or terminal_width(), range(1, len(rows[0]))
    lines = []
    for block in _blocks(rows, right, limit):
        table = _block_lines(rows, block, right, limit)
        rule = "─" * max(map(width, table))
        lines += [*table[:header_rows], rule, *table[header_rows:], rule, ""]
    return "\n".join([*lines[:-1], *(line for note in notes for line in wrapped(note, columns))])


def wrapped(text, columns=None, indent="") -> list[str]:
    """Lines of a paragraph, wrapped at the width. The first begins with `indent`, the others with as many spaces."""
    limit = columns or terminal_width()
    lines = _plain_lines(Text(_join_units(text)), limit - len(indent)) or [""]
    return [(" " * len(indent) if i else indent) + line for i, line in enumerate(lines)]


def fitted(text, columns=None) -> str:
    """A text whose lines are wrapped at the width. Further parts of a line begin below its text, after its label."""
    limit = columns or terminal_width()
    lines = []
    for line in text.split("\n"):
        label = line[: len(line) - len(LABEL.sub("", line, count=1))]
        label = label if len(label) < limit // 2 else ""
        lines += wrapped(line[len(label) :], limit, label) if width(line) > limit else [line]
    return "\n".join(lines)


def _blocks(rows, right, limit):
    """Indices of the columns of each block. Every block begins with the first column, which names the row."""
    widths, last = [max(map(width, column)) for column in zip(*rows, strict=True)], len(rows[0]) - 1
    blocks, used = [[0]], widths[0]
    for index in range(1, last + 1):
        least = _narrowest(rows) if index == last and index not in right else widths[index]
        if used + GAP + least > limit and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(index)
        used += GAP + widths[index]
    return blocks


def _narrowest(rows):
    """The least width of the last column if it wraps: its longest word, and a third of its longest cell."""
    return max(_longest_word(rows), max(width(row[-1]) for row in rows) // MOST_LINES)


def _longest_word(rows):
    """The width of the longest word in the last column. A number with its unit is one word."""
    return max(width(word) for row in rows for word in _join_units(row[-1]).split(" "))


def _block_lines(rows, block, right, limit):
    """Lines of the columns of one block. The last column wraps if it is left-aligned."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    least = max(width(row[0]) for row in rows) + GAP + _longest_word([row[: block[-1] + 1] for row in rows])
    is_narrower = len(block) <= 2 and least > limit  # than any block can be: every column wraps
    for index in block:
        wraps = is_narrower or (index == block[-1] and index not in right)
        grid.add_column(justify="right" if index in right else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_join_units(row[index])) for index in block))
    return _plain_lines(grid, limit)


def _join_units(text):
    return UNIT_SPACE.sub(NO_BREAK, text)


def _plain_lines(renderable, columns):
    file = io.StringIO()
    console = Console(file=file, width=columns, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(renderable)
    return [line.rstrip().replace(NO_BREAK, " ") for line in file.getvalue().splitlines()]
