"""The cases of the benchmark, and how the ratio of two costs is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OURS = "tinyslm"
REST = 0.3  # seconds before each measurement: threads of matrix libraries wait actively for that long after their work
SECONDS = 1.0  # for each measurement, unless a single call takes longer


@dataclass(frozen=True)
class Absent:
    """In the place of a runner: a peer that is not installed or cannot run, and the reason."""

    reason: str


@dataclass(frozen=True)
class Noted:
    """In the place of a runner: a number that belongs to the case and is not measured in rounds."""

    value: float


@dataclass(frozen=True)
class Case:
    """One row of the table.

    name: for the command line;  work: a description;  prepare() -> {name: runner}, with a runner named OURS. A runner
    is a function that does the work once and returns the cost of one unit of it, in seconds or bytes, the same for all
    runners. Entries of the classes Absent and Noted are shown and recorded.
    bounds: {name of another runner: (floor, aim)} of the ratio cost(other) / cost(ours): how many times as fast.
    With `at_most` the ratio is cost(ours) / cost(other) and must not exceed its bounds.
    unit: "seconds", "seconds per token" or "bytes".
    """

    name: str
    work: str
    prepare: Callable
    bounds: dict[str, tuple[float, float]]
    at_most: bool = False
    unit: str = "seconds"

    def ratio(self, ours, other):
        """The ratio to which the bounds apply."""
        return ours / other if self.at_most else other / ours

    def verdict(self, name, ratio) -> str | None:
        """The bound that a ratio reaches: "aim", "floor" or "missed"; None without a bound."""
        floor, aim = self.bounds.get(name, (None, None))
        if floor is None:
            return None
        sign = -1 if self.at_most else 1
        return "aim" if sign * ratio >= sign * aim else "floor" if sign * ratio >= sign * floor else "missed"


def measured(case: Case, rounds: int) -> dict:
    """One row: the costs of every runner in every round, and the ratios within the rounds.

    The first round is not counted, because it allocates memory. The order of the runners is reversed in every second
    round.
    """
    prepared = case.prepare()
    runners = {name: entry for name, entry in prepared.items() if not isinstance(entry, Absent | Noted)}
    names, costs = list(runners), {name: [] for name in runners}
    for number in range(rounds + 1):
        for name in names[:: -1 if number % 2 else 1]:
            time.sleep(REST)
            cost = runners[name]()
            if number:
                costs[name].append(float(cost))
    comparisons = {}
    for name in names:
        if name == OURS:
            continue
        ratio = summary([case.ratio(ours, other) for ours, other in zip(costs[OURS], costs[name], strict=True)])
        floor, aim = case.bounds.get(name, (None, None))
        verdict = case.verdict(name, ratio["median"])
        comparisons[name] = {"ratio": ratio, "floor": floor, "aim": aim, "verdict": verdict}
    return {
        "name": case.name,
        "work": case.work,
        "unit": case.unit,
        "at_most": case.at_most,
        "costs": {name: summary(values) for name, values in costs.items()},
        "comparisons": comparisons,
        "absent": {name: entry.reason for name, entry in prepared.items() if isinstance(entry, Absent)},
        "noted": {name: entry.value for name, entry in prepared.items() if isinstance(entry, Noted)},
    }


def summary(values) -> dict:
    """Median and quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def wall_seconds(function) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def timed(function, units=1):
    """A runner: seconds per unit of work, of which a call of `function` does `units`.

    The median of the calls that begin within `SECONDS`: after a rest, the first calls take up to twice as long. A
    function that has a method `seconds` measures itself: the method calls it and returns the seconds.
    """

    def run():
        calls, total = [], 0.0
        while total < SECONDS:
            began = time.perf_counter()
            calls.append(function.seconds() if hasattr(function, "seconds") else wall_seconds(function))
            total += time.perf_counter() - began
        return np.median(calls) / units

    return run
