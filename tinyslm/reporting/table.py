"""The result of a run as a table for a terminal of up to 132 columns."""

from tinyslm.reporting import units
from tinyslm.reporting.columns import COLUMNS

GAP = "  "
WIDEST_NAME = 24


def format_table(results) -> str:
    """The rows of a run, one line each, with a header, and notes on what the numbers mean below."""
    rows = results["rows"]
    cells = [[*column.lines, *(column.cell(row) for row in rows)] for column in COLUMNS]
    widths = [max(map(units.width, column)) for column in cells]
    room = 132 - sum(widths) - len(GAP) * len(widths)
    longest = max(units.width(units.one_line(row["name"])) for row in rows)
    name_width = max(5, min(longest, WIDEST_NAME, room))
    names = ["", "model", *(units.shorten(row["name"], name_width) for row in rows)]
    lines = []
    for i, name in enumerate(names):
        padded = [_pad_left(column[i], width) for column, width in zip(cells, widths, strict=True)]
        lines.append(GAP.join([name + " " * (name_width - units.width(name)), *padded]).rstrip())
    rule = "─" * max(map(units.width, lines))
    notes = _notes(results)
    if any(units.DASH in column for column in cells):
        notes.append(f"{units.DASH}: not measured")
    return "\n".join([*lines[:2], rule, *lines[2:], rule, *notes])


def _pad_left(text, columns):
    return " " * (columns - units.width(text)) + text


def _notes(results):
    corpus = results["corpus"]
    documents, tokens = corpus["validation_documents"], corpus["validation_tokens"]
    notes = [f"loss: nats per token ± standard error, on {tokens:,} tokens of {documents:,} documents kept for testing"]
    if corpus["floor"]:
        notes.append(f"floor: {units.loss(corpus['floor'])}, the entropy of the text: no model can expect a lower loss")
    else:
        notes.append("floor: not known for this text, as it was not written by a program whose probabilities are known")
    if corpus["questions"]:
        notes.append(
            f"exam: {corpus['questions']:,} questions with four options, ± half of the 95 % interval; chance is 25 %"
        )
    notes.append("tokens/s: median ± half the distance of the quartiles, one text at a time;  1 MB is 1,000,000 bytes")
    return notes
