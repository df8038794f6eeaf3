"""What a claim is: a statement from the literature, a measurement of ours, and a verdict that follows from it."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Verdict(NamedTuple):
    """holds: whether the statement is true of what we measured, None where that says nothing;  ours: the measurement
    in a few words, with its spread over the seeds."""

    holds: bool | None
    ours: str


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    name: for the command line;  statement: what is claimed, in one sentence;  published: the figure and its source;
    measure(bench, seed) -> {quantity: number};  judge({quantity: (seeds,) array}) -> Verdict: none is given by hand;
    reason: why it is so, or is not so at this size, without numbers.
    """

    name: str
    statement: str
    published: str
    measure: Callable
    judge: Callable
    reason: str


def spread(values, digits=3) -> str:
    """Mean and standard deviation over the seeds: "0.812 ± 0.004"."""
    values = np.asarray(values, float)
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def in_order(results, names) -> Verdict:
    """Whether the quantities grow in the order of `names`: each difference of neighbours is positive in the mean and in
    most seeds. Ours: the means, with "<" where that is so and "≥" where it is not."""
    text, holds = spread(results[names[0]]) + f" {names[0]}", True
    for lower, higher in itertools.pairwise(names):
        difference = np.asarray(results[higher]) - np.asarray(results[lower])
        grows = np.mean(difference) > 0 and np.mean(difference > 0) > 0.5
        holds &= bool(grows)
        text += f" {'<' if grows else '≥'} {spread(results[higher])} {higher}"
    return Verdict(holds, text)
