"""The table of speeds as a picture.

python -m tests.benchmarks.speed.figure data/benchmarks.json data/benchmarks.png
"""

import argparse
import json
from pathlib import Path

MARKS = {"transformers": "o", "PyTorch": "s", "torch.compile": "D", "llama.cpp": "^"}
OFFSETS = {"transformers": 7, "PyTorch": 7, "torch.compile": -14, "llama.cpp": -14}  # points from a mark to its label
NEAR = 1.12  # ratios of marks whose labels would overlap: the label of the later one is further away
NAMES = {"torch.compile": "torch.compile (PyTorch, compiled)"}


def draw(content, path):
    """Speed as a multiple of each peer's: a mark for the median, a line between the quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in content["cases"] if not row["at_most"] and MARKS.keys() & row["comparisons"].keys()]
    figure, axes = pyplot.subplots(figsize=(10, 0.5 * len(rows) + 1.7), layout="constrained")
    for number, row in enumerate(rows):
        axes.axhline(number, color="0.9", linewidth=0.8, zorder=0)
        below = []  # ratios with labels below their marks
        for name, mark in MARKS.items():
            if name not in row["comparisons"]:
                continue
            ratio = row["comparisons"][name]["ratio"]
            median, offset = ratio["median"], OFFSETS[name]
            if offset < 0:
                offset -= 9 * any(1 / NEAR < median / other < NEAR for other in below)
                below.append(median)
            axes.plot([ratio["low"], ratio["high"]], [number, number], color="black", linewidth=1.5)
            axes.plot(median, number, mark, color="black", markerfacecolor="white", markersize=7)
            label = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
            label["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
            axes.annotate(f"{median:.2f}", (median, number), (0, offset), **label)
    for name, mark in MARKS.items():
        if any(name in row["comparisons"] for row in rows):
            text = f"times as fast as {NAMES.get(name, name)}"
            axes.plot([], [], mark, color="black", markerfacecolor="white", label=text)
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(ticks := [0.2, 0.5, 1, 2, 5, 10, 20], [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [row["work"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlabel("speed, as a multiple of the peer's (right of the dashed line: faster)")
    figure.legend(loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv=None):
    """Draw the table that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.speed.figure", description="Draw the table of the benchmark as a picture."
    )
    parser.add_argument("table", type=Path, metavar="JSON", help="the table, as the benchmark writes it")
    parser.add_argument("picture", metavar="PNG", help="file of the picture")
    arguments = parser.parse_args(argv)
    try:
        content = json.loads(arguments.table.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        parser.error(f"{arguments.table} is not a table of the benchmark: {problem}")
    draw(content, arguments.picture)


if __name__ == "__main__":
    main()
