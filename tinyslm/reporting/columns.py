"""The columns of the table, in the terminal and on the page."""

from collections.abc import Callable
from dataclasses import dataclass

from tinyslm.reporting import units


@dataclass(frozen=True)
class Column:
    """lines: the two lines of heading in the terminal;  title: the heading on the page;  cell(row): the text;
    meaning: one sentence for a newcomer."""

    lines: tuple[str, str]
    title: str
    cell: Callable[[dict], str]
    meaning: str


COLUMNS = (
    Column(
        ("", "parameters"),
        "Parameters",
        lambda row: units.scaled(row["parameters"]),
        "How many numbers the model computes with. 1 M is a million.",
    ),
    Column(
        ("", "non-zeros"),
        "Non-zeros",
        lambda row: units.scaled(row["non_zeros"]),
        "How many of these numbers are not zero.",
    ),
    Column(
        ("", "disk"),
        "Disk",
        lambda row: units.size(row["disk_bytes"]),
        "The size of the model's file of weights. 1 MB is a million bytes.",
    ),
    Column(
        ("", "memory"),
        "Memory",
        lambda row: units.size(row["memory_bytes"]),
        "What the model takes when it is loaded, with all that is needed to read its weights (scales, masks).",
    ),
    Column(
        ("multiply-", "adds/token"),
        "Multiply-adds/token",
        lambda row: units.scaled(row["multiply_adds"]),
        "Multiplications by a weight, each with an addition, that one token takes.",
    ),
    Column(
        ("prompt", "tokens/s"),
        "Prompt, tokens/s",
        lambda row: units.speed(row["prompt_speed"]),
        "Tokens per second when a given text is read, many at once: the median of several runs, ± half the distance "
        "between their quartiles.",
    ),
    Column(
        ("generation", "tokens/s"),
        "Generation, tokens/s",
        lambda row: units.speed(row["generation_speed"]),
        "Tokens per second when a text is written, one after the other; median and ± as before.",
    ),
    Column(
        ("loss", "nats/token"),
        "Loss, nats/token",
        lambda row: units.loss(row["loss"]),
        "How badly the model predicts text that was kept aside for the test, ± standard error. Lower is better.",
    ),
    Column(
        ("over", "floor"),
        "Over the floor",
        lambda row: units.percent(row["excess"], digits=1, signed=True),
        "By how much the loss exceeds the lowest that any model can expect.",
    ),
    Column(
        ("exam", "right"),
        "Exam, right",
        lambda row: units.exam(row["exam"]),
        "Share of questions answered rightly, ± half of the 95 % confidence interval. Guessing gives 25 %.",
    ),
)
