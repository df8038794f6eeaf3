"""Tables of plain text, as wide as the terminal. rich measures, aligns and wraps the cells."""

import io
import shutil
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinyslm.reporting.plain_text import width

GAP = 2  # columns of the terminal between two columns of a table
UNLIMITED = 10_000  # width where standard output is not a terminal: nothing is wrapped


def terminal_width() -> int:
    """Columns of the terminal, or UNLIMITED where standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED


def table_lines(rows, right=(), columns=None) -> list[str]:
    """Lines of a table whose last column wraps at the width.

    rows: lists of texts, all of one length;  right: indices of right-aligned columns;  columns: width, by default that
    of the terminal.
    """
    grid = Table.grid(padding=(0, GAP, 0, 0))
    last = len(rows[0]) - 1
    for index in range(last + 1):
        wraps = index == last and index not in right
        grid.add_column(justify="right" if index in right else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    return _plain_lines(grid, columns)


def wrapped(text, columns=None) -> list[str]:
    """Lines of a paragraph, wrapped at the width."""
    return _plain_lines(Text(text), columns)


def _plain_lines(renderable, columns):
    console = Console(
        file=io.StringIO(),
        width=columns or terminal_width(),
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
    )
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def column_blocks(rows, right=(), columns=None) -> list[list[str]]:
    """Lines of a table that is cut between columns where it is too wide. Every block begins with the first column."""
    limit = columns or terminal_width()
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    blocks, used = [[0]], widths[0]
    for index, column_width in enumerate(widths[1:], 1):
        if used + GAP + column_width > limit and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(index)
        used += GAP + column_width
    return [
        table_lines(
            [[row[index] for index in block] for row in rows],
            [position for position, index in enumerate(block) if index in right],
            limit,
        )
        for block in blocks
    ]


def ruled_table(rows, header_rows, notes, columns=None) -> str:
    """A table with lines around its body and notes below it; numbers are right-aligned under their headings."""
    lines = []
    for block in column_blocks(rows, range(1, len(rows[0])), columns):
        rule = "─" * max(map(width, block))
        lines += [*block[:header_rows], rule, *block[header_rows:], rule, ""]
    return "\n".join([*lines[:-1], *(line for note in notes for line in wrapped(note, columns))])
