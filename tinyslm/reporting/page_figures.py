"""The figures of the pages: functions from measurements to SVG text. They raise ImportError without matplotlib."""

import itertools
import math

from tinyslm.reporting.figure_style import (
    BACK,
    GRID,
    HEAT,
    SOFT,
    TEXT,
    label_points,
    name_of,
    new_figure,
    plain_style,
    set_scale,
    to_svg,
)
from tinyslm.reporting.number_format import DASH, is_number
from tinyslm.reporting.plain_text import shorten
from tinyslm.reporting.recipe_techniques import technique

MARKS = {  # shape and colour: either alone tells the techniques apart (colours: Okabe & Ito 2008)
    "dense": ("o", TEXT),
    "student": ("^", "#e69f00"),
    "pruned": ("s", "#0072b2"),
    "sliced": ("D", "#009e73"),
    "quantized": ("P", "#d55e00"),
    "factorized": ("X", "#cc79a7"),
    "combination": ("*", "#56b4e9"),
    "other": ("v", "#999999"),
}
FILL = "#9dbfd9"  # bars
LARGE, WIDE, NARROW = (7.5, 4.6), (6.4, 4.1), (4.4, 4.4)  # inches of a scatter plot: alone, beside a text, on a phone
CHANCE = 0.25  # accuracy of guessing among four options
PANELS = (  # of the bar chart: title, unit and divisor, key
    ("on disk", "MB", 1e6, "disk_bytes"),
    ("in memory", "MB", 1e6, "memory_bytes"),
    ("multiply-adds", "millions per token", 1e6, "multiply_adds"),
    ("generation speed", "tokens per second", 1, "generation_speed"),
)


def size_against_loss(results, inches=WIDE) -> str | None:
    """Scatter plot: bytes on disk, loss with its standard error, and the entropy bound. None without a finite loss."""
    rows = [row for row in results["rows"] if is_number(row["loss"]["nats"])]
    if not rows:
        return None
    points = [
        (name_of(row), technique(row), row["disk_bytes"] / 1e6, row["loss"]["nats"], row["loss"]["standard_error"] or 0)
        for row in rows
    ]
    title = "Scatter plot of the loss of each model against its size on disk"
    prefix = "loss" if inches == WIDE else "loss-narrow"
    return scatter_plot(points, "size on disk", prefix, title, floor=results["corpus"]["floor"], inches=inches)


def scatter_plot(points, x_label, prefix, title, floor=None, frontier=(), named=None, inches=LARGE) -> str:
    """points: (name, technique, MB, nats, error) of each;  frontier: (MB, nats) of its corners;  named: points with a
    label, by default all;  inches: width and height."""
    with plain_style():
        figure, axes = new_figure(*inches)
        ends = [nats + side * error for _, _, _, nats, error in points for side in (-1, 1)]
        logarithmic = set_scale(axes, "x", [size for _, _, size, _, _ in points])
        set_scale(axes, "y", ends + ([floor["nats"]] if floor else []))
        obstacles = []
        for _, kind, x, y, error in points:
            shape, colour = MARKS[kind]
            axes.errorbar(x, y, error, color=SOFT, linewidth=1, capsize=2.5, zorder=2)
            size = 14 if shape == "*" else 9
            axes.plot(x, y, shape, color=colour, markersize=size, markeredgecolor=TEXT, markeredgewidth=0.7, zorder=3)
            obstacles.append(((x, y - error), (x, y + error), 2))
        if frontier:
            line = {"color": SOFT, "linewidth": 1, "linestyle": (0, (4, 2)), "zorder": 1}
            axes.step(*zip(*frontier, strict=True), where="post", **line)
            for (x, y), (next_x, next_y) in itertools.pairwise(frontier):
                obstacles += [((x, y), (next_x, y), 2), ((next_x, next_y), (next_x, y), 2)]
        if floor:
            nats, error = floor["nats"], floor["standard_error"] or 0
            axes.axhspan(nats - error, nats + error, color=GRID, zorder=0)
            axes.axhline(nats, color=SOFT, linestyle=(0, (5, 3)), linewidth=1.2)
            left, right = axes.get_xlim()
            text = f"entropy of the text, {nats:.3f}"
            axes.annotate(text, (right, nats), (-3, -3), textcoords="offset points", ha="right", va="top")
            obstacles.append(((left, nats), (right, nats), 8))
        axes.set_xlabel(f"{x_label}, MB{', logarithmic' if logarithmic else ''} (left is better)")
        axes.set_ylabel("loss, nats per token (lower is better)")
        label_points(axes, [(x, y, name) for name, _, x, y, _ in named or points], obstacles)
        return to_svg(figure, prefix, title)


def exam_by_subject(results) -> str | None:
    """Heat map of the exam, models by subjects: accuracy in percent. None without an exam.

    A star marks an accuracy that guessing could reach: at most chance and 1.96 of its standard deviations.
    """
    rows = [row for row in results["rows"] if row["exam"]]
    if not rows:
        return None
    subjects = list(dict.fromkeys(subject for row in rows for subject in row["exam"]["by_subject"]))
    names = [shorten(subject, 14) for subject in subjects]
    with plain_style():
        figure, axes = new_figure(7.5, 0.75 + 0.29 * len(rows))
        for y, row in enumerate(rows):
            exam = row["exam"]
            asked = exam["asked"] / max(len(exam["by_subject"]), 1)
            for x, subject in enumerate(subjects):
                _cell(axes, x, y, exam["by_subject"].get(subject), asked)
            _cell(axes, len(subjects) + 0.25, y, exam["accuracy"], exam["asked"])
        axes.set(xlim=(-0.5, len(subjects) + 0.75), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks([*range(len(subjects)), len(subjects) + 0.25], [*names, "all"])
        axes.set_yticks(range(len(rows)), [name_of(row) for row in rows])
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=8.5)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("correct answers in percent; chance is 25; a star marks an accuracy that guessing could reach")
        return to_svg(figure, "exam", "Accuracy of each model in each subject")


def heat(accuracy) -> float:
    """Strength of the colour of a cell of the exam: 0 at chance or below, 1 where all answers are correct."""
    return max(0.0, (accuracy - CHANCE) / (1 - CHANCE))


def _cell(axes, x, y, accuracy, asked):
    """One cell of the exam. Its text is readable on every strength of the colour."""
    import matplotlib.colors
    from matplotlib.patches import Rectangle

    if not is_number(accuracy):
        axes.text(x, y, DASH, ha="center", va="center")
        return
    guessing = CHANCE + 1.96 * math.sqrt(CHANCE * (1 - CHANCE) / max(asked, 1))
    colour = matplotlib.colors.to_rgba(HEAT, heat(accuracy))
    axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, facecolor=colour, edgecolor=GRID, linewidth=0.5))
    text = f"{100 * accuracy:.0f}" + (" *" if accuracy <= guessing else "")
    axes.text(x, y, text, ha="center", va="center")


def sizes_and_speed(results) -> str:
    """Bars, one per model: bytes on disk and in memory, multiply-adds, and tokens per second with quartiles."""
    rows = results["rows"]
    lines = range(len(rows))
    with plain_style():
        figure, panels = new_figure(7.5, 0.75 + 0.27 * len(rows), nrows=1, ncols=len(PANELS), sharey=True)
        for axes, (title, unit, divisor, key) in zip(panels, PANELS, strict=True):
            measured = [row[key] for row in rows]
            if key == "generation_speed":
                values, ends = ([speed[name] for speed in measured] for name in ("median", "high"))
                low = [max(speed["median"] - speed["low"], 0) for speed in measured]
                high = [max(end - value, 0) for value, end in zip(values, ends, strict=True)]
                style = {"fmt": "none", "ecolor": TEXT, "elinewidth": 1, "capsize": 2, "zorder": 4}
                axes.errorbar(values, lines, xerr=(low, high), **style)
            else:
                values = ends = [value / divisor for value in measured]
            axes.barh(lines, values, color=[SOFT] + [FILL] * (len(rows) - 1), height=0.66)
            axes.axvline(values[0], color=SOFT, linestyle=":", linewidth=1, zorder=3)
            box = {"facecolor": BACK, "edgecolor": "none", "pad": 0.6}
            for y, (value, end) in enumerate(zip(values, ends, strict=True)):
                text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                axes.annotate(text, (end, y), (3, 0), va="center", textcoords="offset points", fontsize=8, bbox=box)
            axes.set_xlim(0, 1.45 * max([*ends, 1e-9]))
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel(unit, fontsize=8)
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelsize=7.5)
            axes.locator_params(axis="x", nbins=3)
            axes.grid(False, axis="y")
        panels[0].set_yticks(lines, [name_of(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        return to_svg(figure, "sizes", "Bars of size, multiply-adds and speed of each model")


def weight_histograms(results) -> list[str]:
    """Weight histograms, one small panel per row, filled. The outline in each panel is the histogram of the first row.

    All panels have the same axes; the share of a bar that exceeds them is written beside it.
    """
    rows = results["rows"]
    before, edges = _shares(rows[0]), rows[0]["weights"]["edges"]
    top = 1.35 * max([*before, 1e-9])
    panels = []
    with plain_style():
        for i, row in enumerate(rows):
            figure, axes = new_figure(2.4, 1.5)
            shares = _shares(row)
            axes.stairs(shares, row["weights"]["edges"], fill=True, color=FILL)
            axes.stairs(before, edges, color=SOFT, linewidth=0.9)
            axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top))
            highest = max(range(len(shares)), key=shares.__getitem__)
            if shares[highest] > top:
                position = (row["weights"]["edges"][highest + 1], top)
                axes.annotate(f"↑ {shares[highest]:.0f} %", position, (4, -3), textcoords="offset points", va="top")
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
