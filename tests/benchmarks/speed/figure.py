"""The table of speeds as a picture.

python -m tests.benchmarks.speed.figure data/benchmarks.json data/benchmarks.png
"""

import argparse
import json
from pathlib import Path

MARKS = {"transformers": "o", "PyTorch": "s", "llama.cpp": "^"}
LABEL_HEIGHT = {"transformers": 7, "PyTorch": 7, "llama.cpp": -14}  # points above the mark: two may lie side by side


def draw(content, path):
    """How many times as fast as each peer: a mark for the median, a line between the quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in content["cases"] if not row["at_most"] and MARKS.keys() & row["comparisons"].keys()]
    figure, axes = pyplot.subplots(figsize=(10, 0.5 * len(rows) + 1.2), layout="constrained")
    for place, row in enumerate(rows):
        axes.axhline(place, color="0.9", linewidth=0.8, zorder=0)
        for name, mark in MARKS.items():
            if name in row["comparisons"]:
                ratio = row["comparisons"][name]["ratio"]
                axes.plot([ratio["low"], ratio["high"]], [place, place], color="black", linewidth=1.5)
                axes.plot(ratio["median"], place, mark, color="black", markerfacecolor="white", markersize=8)
                axes.annotate(
                    f"{ratio['median']:.2f}",
                    (ratio["median"], place),
                    (0, LABEL_HEIGHT[name]),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
    for name, mark in MARKS.items():
        axes.plot([], [], mark, color="black", markerfacecolor="white", label=f"times as fast as {name}")
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(ticks := [0.2, 0.5, 1, 2, 5, 10, 20], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row["work"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlabel("speed, as a multiple of the peer's (right of the dashed line: faster)")
    axes.legend(loc="lower right", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv=None):
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.speed.figure", description="The table as a picture."
    )
    parser.add_argument("table", type=Path, metavar="JSON", help="what the benchmark wrote")
    parser.add_argument("picture", metavar="PNG", help="where to draw it")
    arguments = parser.parse_args(argv)
    try:
        content = json.loads(arguments.table.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        parser.error(f"{arguments.table} is not a table of the benchmark: {problem}")
    draw(content, arguments.picture)


if __name__ == "__main__":
    main()
