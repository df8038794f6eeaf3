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
MOST_LINES = 3  # of a cell of the last column, about; narrower columns get a block of their own
UNIT_SPACE = re.compile(r"(?<=\d) (?=%|[kMGT]\b|[kMGT]?B\b|tokens\b|±)")  # between a number and its unit
NO_BREAK = "\ue000"  # stands for such a space until the lines are cut: rich cuts at every kind of space


def terminal_width() -> int:
    """Columns of the terminal, or UNLIMITED where standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED


def table_lines(rows, right=(), columns=None) -> list[str]:
    """Lines of a table. A wide table is printed as blocks of columns, with empty lines between them.

    rows: lists of texts, all of one length;  right: indices of right-aligned columns;  columns: width, by default that
    of the terminal.
    """
    return [line for block in column_blocks(rows, right, columns) for line in (*block, "")][:-1]


def column_blocks(rows, right=(), columns=None) -> list[list[str]]:
    """Lines of each block of a table. Every block begins with the first column; rows without a text are left out.

    The last column of a block wraps if it is left-aligned.
    """
    limit = columns or terminal_width()
    needed = [_least_width(column, index in right) for index, column in enumerate(zip(*rows, strict=True))]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    blocks, used = [[0]], widths[0]  # indices of the columns of each block
    for index in range(1, len(widths)):
        least = needed[index] if index == len(widths) - 1 else widths[index]
        if used + GAP + least > limit and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(index)
        used += GAP + widths[index]
    return [_block_lines(rows, block, right, limit) for block in blocks]


def _least_width(column, is_right):
    """The width that the last column needs: its longest word, and a third of its longest cell."""
    widest = max(map(width, column))
    if is_right:
        return widest
    longest_word = max(width(word) for cell in column for word in _joined_units(cell).split(" "))
    return max(longest_word, -(-widest // MOST_LINES))


def _block_lines(rows, block, right, limit):
    """Lines of some columns of a table. block: their indices."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    for index in block:
        wraps = index == block[-1] and index not in right
        grid.add_column(justify="right" if index in right else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        if block[-1] == len(row) - 1 or ...:
            grid.add_row()
    return _plain_lines(grid, limit)
