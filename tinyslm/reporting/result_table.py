"""The table of measurements of `tinyslm compress`: its columns, and its form in the terminal."""

from collections.abc import Callable
from typing import NamedTuple

from tinyslm.reporting import number_format
from tinyslm.reporting.plain_text import one_line, shorten, width
from tinyslm.reporting.terminal_table import ruled_table

LONGEST_NAME = 24  # terminal columns


class Column(NamedTuple):
    """heading: one or two lines;  cell(row): its text;  meaning: an explanation for a newcomer."""

    heading: str
    cell: Callable[[dict], str]
    meaning: str


COLUMNS = (
    Column(
        "parameters",
        lambda row: number_format.scaled(row["parameters"]),
        "Number of weights, zeros included. 1 M is one million.",
    ),
    Column("non-zeros", lambda row: number_format.scaled(row["non_zeros"]), "Number of weights that are not zero."),
    Column(
        "disk",
        lambda row: number_format.size(row["disk_bytes"]),
        "Size of the weight file. 1 MB is one million bytes.",
    ),
    Column(
        "memory",
        lambda row: number_format.size(row["memory_bytes"]),
        "Size of the loaded model, including scales, zero points and masks.",
    ),
    Column(
        "multiply-adds\nper token",
        lambda row: number_format.scaled(row["multiply_adds"]),
        "Multiplications by a weight for one token, each with an addition.",
    ),
    Column(
        "prompt\ntokens/s",
        lambda row: number_format.speed(row["prompt_speed"]),
        "Speed of reading a prompt, all tokens in one pass: median of several runs, ± half the interquartile range.",
    ),
    Column(
        "generation\ntokens/s",
        lambda row: number_format.speed(row["generation_speed"]),
        "Speed of generating text token by token: median of several runs, ± half the interquartile range.",
    ),
    Column(
        "loss\nnats/token",
        lambda row: number_format.loss(row["loss"]),
        "Mean cross entropy on the validation documents, ± standard error. Lower is better.",
    ),
    Column(
        "over\nfloor",
        lambda row: number_format.percent(row["excess"], digits=1, signed=True),
        "Relative distance of the loss from the floor, which is the entropy of the text.",
    ),
    Column(
        "exam\ncorrect",
        lambda row: number_format.exam(row["exam"]),
        "Accuracy on multiple-choice questions, ± half the 95 % confidence interval. Chance is 25 %.",
    ),
)


def format_table(results: dict, columns: int | None = None) -> str:
    """The measurements of a run, one row per model, with notes; `columns` wide, by default as wide as the terminal."""
    rows = results["rows"]
    headings = [column.heading.rpartition("\n") for column in COLUMNS]
    name_width = min(LONGEST_NAME, max(width(one_line(row["name"])) for row in rows))
    table = [
        ["", *(first for first, _, _ in headings)],
        ["model", *(second for _, _, second in headings)],
        *([shorten(row["name"], name_width), *(column.cell(row) for column in COLUMNS)] for row in rows),
    ]
    notes = _notes(results["corpus"])
    if any(number_format.DASH in line[1:] for line in table):
        notes.append(f"{number_format.DASH}: not measured")
    return ruled_table(table, 2, notes, columns)


def _notes(corpus):
    documents, tokens = corpus["validation_documents"], corpus["validation_tokens"]
    notes = [f"loss: nats per token ± standard error, on {tokens:,} tokens of {documents:,} validation documents"]
    if corpus["floor"]:
        floor = number_format.loss(corpus["floor"])
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
