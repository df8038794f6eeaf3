"""What a case is: our code, what it is held against, and how the ratio of the two is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OURS = "tinyslm"
REST = 0.3  # seconds before each measurement: threads of matrix libraries wait actively for that long after their work
SECONDS = 1.0  # for each measurement, unless a single call takes longer


@dataclass(frozen=True)
class Case:
    """One line of the table.

    name: for the command line;  work: what is done;  prepare() -> {name: runner}, OURS among them, where runner() does
    the work once and returns what one unit of it cost, in seconds or bytes, the same unit for all;
    bounds: {name of another runner: (floor, aim)} of the ratio cost(other) / cost(ours), how many times as fast.
    With `at_most` the ratio is cost(ours) / cost(other), and is to stay below its bounds.  unit: of the costs.
    """

    name: str
    work: str
    prepare: Callable
    bounds: dict[str, tuple[float, float]]
    at_most: bool = False
    unit: str = "seconds"

    def ratio(self, ours, other):
        """How ours compares, so that the bounds apply."""
        return ours / other if self.at_most else other / ours

    def verdict(self, name, ratio) -> str | None:
        """Which bound a ratio reaches: "aim", "floor" or "missed"; None where there is no bound."""
        floor, aim = self.bounds.get(name, (None, None))
        if floor is None:
            return None
        sign = -1 if self.at_most else 1
        return "aim" if sign * ratio >= sign * aim else "floor" if sign * ratio >= sign * floor else "missed"


def measured(case: Case, rounds: int) -> dict:
    """One row: the costs of every runner in every round, and the ratios within the rounds. The first round, in which
    everything is allocated, is not counted; who begins changes from round to round."""
    runners = case.prepare()
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
    }


def summary(values) -> dict:
    """Median and quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def timed(function, units=1):
    """A runner: the seconds of function(), per unit of work that it does: the median of as many calls as begin within
    `SECONDS`, since the first ones after a rest find cores and threads asleep and take up to twice as long."""

    def run():
        calls, total = [], 0.0
        while total < SECONDS:
            began = time.perf_counter()
            function()
            calls.append(time.perf_counter() - began)
            total += calls[-1]
        return np.median(calls) / units

    return run
