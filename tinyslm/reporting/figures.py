"""The figures of the page, each a function from results to SVG text. They need matplotlib (ImportError without)."""

import math

from tinyslm.reporting import units
from tinyslm.reporting.drawing import label_points, name_of, new_figure, plain_style, set_scale, to_svg
from tinyslm.reporting.techniques import technique

MARKS = {  # shape and colour: either alone tells the techniques apart (colours: Okabe & Ito 2008)
    "dense": ("o", "#000000"),
    "student": ("^", "#e69f00"),
    "pruned": ("s", "#0072b2"),
    "sliced": ("D", "#009e73"),
    "quantized": ("P", "#d55e00"),
    "factorized": ("X", "#cc79a7"),
    "combination": ("*", "#56b4e9"),
    "other": ("v", "#999999"),
}
CHANCE = 0.25  # of a question with four options
PANELS = (  # of the bar chart: title, unit and divisor, key
    ("on disk", "MB", 1e6, "disk_bytes"),
    ("in memory", "MB", 1e6, "memory_bytes"),
    ("multiply-adds", "millions a token", 1e6, "multiply_adds"),
    ("generation speed", "tokens a second", 1, "generation_speed"),
)


def size_against_loss(results) -> str:
    """Bytes on disk to the right, loss upwards with its standard error, and the floor as a line."""
    rows = [row for row in results["rows"] if units.is_number(row["loss"]["nats"])]
    floor = results["corpus"]["floor"]
    points = [(row["disk_bytes"] / 1e6, row["loss"]["nats"], name_of(row)) for row in rows]
    with plain_style():
        figure, axes = new_figure(7.5, 4.6)
        ends = [row["loss"]["nats"] + row["loss"]["standard_error"] * side for row in rows for side in (-1, 1)]
        logarithmic = set_scale(axes, "x", [x for x, _, _ in points])
        set_scale(axes, "y", ends + ([floor["nats"]] if floor else []))
        obstacles = []
        for row, (x, y, _) in zip(rows, points, strict=True):
            shape, colour = MARKS[technique(row)]
            error = row["loss"]["standard_error"]
            axes.errorbar(x, y, error, color="#777777", linewidth=1, capsize=2.5, zorder=2)
            size = 13 if shape == "*" else 9
            axes.plot(x, y, shape, color=colour, markersize=size, markeredgecolor="white", zorder=3)
            obstacles.append(((x, y - error), (x, y + error), 2))
        if floor:
            nats, error = floor["nats"], floor["standard_error"]
            axes.axhspan(nats - error, nats + error, color="#dddddd", zorder=0)
            axes.axhline(nats, color="#333333", linestyle=(0, (5, 3)), linewidth=1.2)
            text = f"the floor, {nats:.3f}: no model can expect less"
            left, right = axes.get_xlim()
            axes.annotate(text, (right, nats), (-3, -3), textcoords="offset points", ha="right", va="top")
            obstacles.append(((left, nats), (right, nats), 8))
        scale = " on a logarithmic scale" if logarithmic else ""
        axes.set_xlabel(f"size on disk, MB{scale} (smaller is better: left)")
        axes.set_ylabel("loss, nats per token (lower is better)")
        label_points(axes, points, obstacles)
        return to_svg(figure, "loss", "Scatter plot of the loss of each model against its size on disk")


def exam_by_subject(results) -> str:
    """A table of cells, models by subjects: the number of right answers in each of a hundred, darker for more.

    A star marks what guessing would reach too: at most chance and 1.96 standard deviations of it.
    """
    rows = [row for row in results["rows"] if row["exam"]]
    subjects = list(dict.fromkeys(subject for row in rows for subject in row["exam"]["by_subject"]))
    names = [units.shorten(subject, 14) for subject in subjects]
    with plain_style():
        figure, axes = new_figure(7.5, 0.75 + 0.29 * len(rows))
        for y, row in enumerate(rows):
            exam = row["exam"]
            asked = exam["asked"] / max(len(exam["by_subject"]), 1)
            for x, subject in enumerate(subjects):
                _cell(axes, x, y, exam["by_subject"].get(subject), asked)
            _cell(axes, len(subjects) + 0.25, y, exam["accuracy"], exam["asked"])
        axes.set_xlim(-0.5, len(subjects) + 0.75)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        slant = {} if len(subjects) <= 7 else {"rotation": 30, "ha": "left"}  # more have no room side by side
        axes.set_xticks([*range(len(subjects)), len(subjects) + 0.25], [*names, "all"], **slant)
        axes.set_yticks(range(len(rows)), [name_of(row) for row in rows])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=8.5)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("right answers in percent; guessing gives 25; a star marks what guessing could reach")
        return to_svg(figure, "exam", "Share of right answers of each model in each subject")


def _cell(axes, x, y, accuracy, asked):
    """One cell of the exam: white at chance or below, dark blue when all answers are right."""
    import matplotlib
    from matplotlib.patches import Rectangle

    if not units.is_number(accuracy):
        axes.text(x, y, units.DASH, ha="center", va="center", color="#222222")
        return
    strength = max(0, (accuracy - CHANCE) / (1 - CHANCE))
    guessing = CHANCE + 1.96 * math.sqrt(CHANCE * (1 - CHANCE) / max(asked, 1))
    colour = matplotlib.colormaps["Blues"](0.85 * strength)
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.5))
    text = f"{100 * accuracy:.0f}" + (" *" if accuracy <= guessing else "")
    axes.text(x, y, text, ha="center", va="center", color="white" if strength > 0.6 else "#222222")


def sizes_and_speed(results) -> str:
    """Bars, one line per model: bytes on disk and in memory, multiply-adds, and tokens per second with quartiles."""
    rows = results["rows"]
    with plain_style():
        figure, panels = new_figure(7.5, 0.75 + 0.27 * len(rows), nrows=1, ncols=len(PANELS), sharey=True)
        for axes, (title, unit, divisor, key) in zip(panels, PANELS, strict=True):
            measured = [row[key] for row in rows]
            if key == "generation_speed":
                values = [speed["median"] for speed in measured]
                spread = [[max(speed["median"] - speed["low"], 0), max(speed["high"] - speed["median"], 0)]
                          for speed in measured]  # fmt: skip
                axes.errorbar(values, range(len(rows)), xerr=list(zip(*spread, strict=True)), fmt="none",
                              ecolor="#222222", elinewidth=1, capsize=2, zorder=4)  # fmt: skip
                ends = [speed["high"] for speed in measured]
            else:
                values = ends = [value / divisor for value in measured]
            colours = ["#444444"] + ["#9dbfd9"] * (len(rows) - 1)
            axes.barh(range(len(rows)), values, color=colours, height=0.66)
            axes.axvline(values[0], color="#444444", linestyle=":", linewidth=1, zorder=3)
            for y, (value, end) in enumerate(zip(values, ends, strict=True)):
                axes.annotate(f"{value:,.0f}" if value >= 100 else f"{value:.3g}", (end, y), (3, 0), va="center",
                              textcoords="offset points", fontsize=8,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
            axes.set_xlim(0, 1.45 * max([*ends, 1e-9]))
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel(unit, fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelsize=7.5)
            axes.locator_params(axis="x", nbins=3)
            axes.grid(False, axis="y")
        panels[0].set_yticks(range(len(rows)), [name_of(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        return to_svg(figure, "sizes", "Bars of size, multiply-adds and speed of each model")


def weight_histograms(results) -> list[str]:
    """One small panel per row: the share of weights in each interval, filled, and that of the first row as an outline.

    All panels have the same axes; the share of a bar that is cut off at the top is written beside it.
    """
    rows = results["rows"]
    before, edges = _shares(rows[0]), rows[0]["weights"]["edges"]
    top = 1.35 * max([*before, 1e-9])
    panels = []
    with plain_style():
        for i, row in enumerate(rows):
            figure, axes = new_figure(2.4, 1.5)
            shares = _shares(row)
            axes.stairs(shares, row["weights"]["edges"], fill=True, color="#9dbfd9")
            axes.stairs(before, edges, color="#444444", linewidth=0.9)
            axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top))
            highest = max(range(len(shares)), key=shares.__getitem__)
            if shares[highest] > top:
                place = (row["weights"]["edges"][highest + 1], top)
                axes.annotate(f"↑ {shares[highest]:.0f} %", place, (4, -3), textcoords="offset points", va="top")
            axes.locator_params(nbins=4)
            axes.set_xlabel("weight", fontsize=8, labelpad=1)
            axes.set_ylabel("% of weights", fontsize=8, labelpad=2)
            axes.tick_params(labelsize=7.5, length=2)
            axes.grid(False)
            panels.append(to_svg(figure, f"weights{i}", f"Histogram of the weights of model {i + 1}"))
    return panels


def _shares(row):
    """Percent of the weights in each interval."""
    counts = row["weights"]["counts"]
    return [100 * count / max(sum(counts), 1) for count in counts]
