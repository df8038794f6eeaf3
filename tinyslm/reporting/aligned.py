"""Rows of text in columns."""

from tinyslm.reporting import units

GAP = "  "


def aligned(rows, right=()) -> list[str]:
    """One line per row, its cells padded to the widest of their column. right: the columns that end together."""
    widths = [max(map(units.width, column)) for column in zip(*rows, strict=True)]
    return [GAP.join(_padded(row, widths, right)).rstrip() for row in rows]


def _padded(row, widths, right):
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - units.width(cell))
        yield space + cell if column in right else cell + space
