"""The table of measurements of `tinyslm compress`: its columns, and its form in the terminal."""

from collections.abc import Callable
from typing import NamedTuple

from tinyslm.reporting.corpus_text import corpus_text
from tinyslm.reporting.number_format import DASH, UNKNOWN, bits, exam, loss, scaled, signed_percent, size, speed
from tinyslm.reporting.plain_text import one_line, shorten, width
from tinyslm.reporting.terminal_table import ruled_table

LONGEST_NAME = 24  # terminal columns


class Column(NamedTuple):
    """Column of the table. heading: one or two lines;  key: key of its value in a row;  format: value -> text;
    meaning: explanation in the notes."""

    heading: str
    key: str
    format: Callable
    meaning: str

    def cell(self, row) -> str:
        """The text of this column in a row."""
        return self.format(row.get(self.key))  # results of earlier versions have fewer keys


QUARTILES = "median of several runs, ± half the interquartile range."
BYTES = "It can be compared between models with different tokenizers."
MAPPED = "tokens/s: weights in 16 or 32 bits were read from their files, which takes more time than from memory"
COLUMNS = (
    Column("parameters", "parameters", scaled, "Number of weights, zeros included. 1 M is one million."),
    Column("non-zeros", "non_zeros", scaled, "Number of weights that are not zero."),
    Column("disk", "disk_bytes", size, "Size of the weight file. 1 MB is one million bytes."),
    Column("memory", "memory_bytes", size, "Size of the loaded model, including scales, zero points and masks."),
    Column("multiply-adds\nper token", "multiply_adds", scaled, "Multiplications by a weight, each with an addition."),
    Column("prompt\ntokens/s", "prompt_speed", speed, f"Speed of reading a prompt in one pass: {QUARTILES}"),
    Column("generation\ntokens/s", "generation_speed", speed, f"Speed of generating token by token: {QUARTILES}"),
    Column("loss\nnats/token", "loss", loss, "Mean cross entropy on test or validation documents, ± standard error."),
    Column("loss\nbits/byte", "bits_per_byte", bits, f"Loss per UTF-8 byte of the text. {BYTES}"),
    Column("over\nfloor", "excess", signed_percent, "Distance of the loss from the floor, the entropy of the text."),
    Column("exam\ncorrect", "exam", exam, "Accuracy, ± half the 95 % confidence interval. Chance is 25 %."),
)


def measured_columns(rows) -> list[Column]:
    """The columns that have a value in some row. The floor and the exam are not known for every text."""
    return [column for column in COLUMNS if any(column.cell(row) != DASH for row in rows)]


def failure_texts(results: dict) -> list[str]:
    """A line for each recipe that failed: its name and its error. Results of earlier versions do not name them."""
    return [
        f"{shorten(each['name'], LONGEST_NAME)} failed: {one_line(each['error'])}" for each in results.get("failed", ())
    ]


def format_table(results: dict, columns: int | None = None) -> str:
    """The measurements of a run, one row per model, with notes; `columns` wide, by default as wide as the terminal."""
    rows = results["rows"]
    columns_shown = measured_columns(rows)
    headings = [column.heading.rpartition("\n") for column in columns_shown]
    name_width = min(LONGEST_NAME, max(width(one_line(row["name"])) for row in rows))
    table = [
        ["", *(first for first, _, _ in headings)],
        ["model", *(second for _, _, second in headings)],
        *([shorten(row["name"], name_width), *(column.cell(row) for column in columns_shown)] for row in rows),
    ]
    notes = failure_texts(results) + _notes(results["corpus"])
    if results.get("weights") == "mapped":
        notes.append(MAPPED)
    if any(DASH in line[1:] for line in table):
        notes.append(f"{DASH}: not measured")
    if rows[0]["loss"]["standard_error"] is None:
        notes.append(f"±{UNKNOWN}: unknown, because there is only one document")
    return ruled_table(table, 2, notes, columns)


def _notes(corpus):
    documents, tokens = corpus["validation_documents"], corpus["validation_tokens"]
    split = corpus.get("split", "validation")
    notes = [f"loss: nats per token ± standard error, on {tokens:,} tokens of {documents:,} {split} documents"]
    if corpus.get("validation_bytes"):
        size = f"{corpus['validation_bytes']:,} bytes"
        notes.append(f"bits/byte: per UTF-8 byte, on {size} of text; compares models with different tokenizers")
    if corpus["name"] != "town":
        notes.append(f"text: {corpus_text(corpus)}")
    if corpus["floor"]:
        floor = loss(corpus["floor"])
        notes.append(f"floor: {floor}, the entropy of the text, a lower bound on the expected loss of any model")
    else:
        notes.append("floor: not known for this text; only a text from a known random process has a known entropy")
    if corpus["questions"]:
        notes.append(
            f"exam: {corpus['questions']:,} questions with four options, ± half the 95 % interval; chance 25 %"
        )
    notes.append("tokens/s: median ± half the interquartile range, batch size 1")
    notes.append("1 MB is 1,000,000 bytes")
    return notes
