"""Pictures for the lessons, each drawn on axes of matplotlib's pyplot: readable without colours, and by people who see
them differently (colours: Okabe & Ito 2008)."""

import itertools

import numpy as np

from tinyslm.reporting.drawing import STYLE, label_points, set_scale

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = "osD^vPX*"
MOST_NUMBERS = 150  # cells of a matrix: with more, the numbers in them could not be read
DARK = 0.55  # from this share of the largest value on, a cell needs white letters


def use_lesson_style():
    """Set matplotlib up for a lesson: the style of the project's page, figures of a size that a notebook shows well."""
    import matplotlib.pyplot as plt

    lines = {"axes.prop_cycle": plt.cycler(color=COLOURS, linestyle=LINES)}
    plt.rcParams.update({**STYLE, **lines, "figure.dpi": 100, "figure.figsize": (6.4, 3.2), "figure.autolayout": True})


def show_matrix(axes, matrix, title="", number="{:.1f}", rows=None, columns=None, limit=None):
    """A matrix as cells: darker is larger in magnitude, minus signs stay visible in the numbers.

    rows, columns: names of them;  limit: the magnitude of the darkest cell, by default the largest one.
    """
    matrix = np.asarray(matrix, float)
    limit = limit or np.max(np.abs(matrix)) or 1.0
    aspect = "equal" if rows is None and columns is None else "auto"  # names need room
    axes.imshow(np.abs(matrix), cmap="Blues", vmin=0, vmax=1.3 * limit, aspect=aspect)
    if matrix.size <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if abs(value) > DARK * 1.3 * limit else "black"
            text = number.format(value)
            text = text if float(text) else "0"  # no "-0.0"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(False)
    for axis, names in (("y", rows), ("x", columns)):
        if names is None:
            axes.set(**{f"{axis}ticks": []})
        else:
            axes.set(**{f"{axis}ticks": range(len(names)), f"{axis}ticklabels": names})
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def show_attention(axes, weights, tokens, title=""):
    """What each token (a row) looks at (columns): the darker, the more. weights: (T, T), every row adds up to 1."""
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    for (row, column), weight in np.ndenumerate(np.asarray(weights)):
        if weight >= 0.2:  # the share in hundredths, where it is large enough to matter
            colour = "white" if weight > DARK else "black"
            axes.text(column, row, f"{100 * weight:.0f}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set(xticks=range(len(tokens)), yticks=range(len(tokens)), yticklabels=tokens)
    axes.set_xticklabels(tokens, rotation=90)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlabel("looked at (numbers: hundredths)", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(False)


def show_histogram(axes, arrays, label, bins=60, limit=None):
    """The share of numbers in each interval, one outline per array. arrays: {name: array};  label: what the numbers
    are, with their unit;  limit: the largest magnitude that is shown."""
    limit = limit or max(np.max(np.abs(array)) for array in arrays.values())
    edges = np.linspace(-limit, limit, bins + 1)
    styles = zip(arrays.items(), itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False)
    for (name, array), colour, line in styles:
        counts, _ = np.histogram(array, edges)
        axes.stairs(100 * counts / np.size(array), edges, label=name, color=colour, linestyle=line, linewidth=1.4)
    axes.set_xlabel(label)
    axes.set_ylabel("% of the numbers")
    if len(arrays) > 1:
        axes.legend(fontsize=8)


def show_lines(axes, lines, x_label, y_label, x=None, floor=None, markers=False):
    """Lines that differ in colour and dashes. lines: {name: values}, over `x` or over their index;  floor: a level, in
    the unit of y, that nothing can pass, drawn as a grey line."""
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)
    for (name, values), (colour, line, marker) in zip(lines.items(), styles, strict=False):
        places = np.arange(len(values)) if x is None else x
        axes.plot(places, values, color=colour, linestyle=line, marker=marker if markers else None, label=name)
    show_floor(axes, floor)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        axes.legend(fontsize=8)


def show_frontier(axes, points, x_label, y_label="loss, nats per token", floor=None):
    """Points with their names, and through those that no other beats in both numbers a thin line: the frontier.

    points: {name: (x, y)}, of both of which less is better.
    """
    places = sorted(points.values())
    best = [place for place in places if not any(other[0] <= place[0] and other[1] < place[1] for other in places)]
    set_scale(axes, "x", [x for x, _ in places])
    set_scale(axes, "y", [y for _, y in places] + ([floor] if floor is not None else []))
    axes.plot(*zip(*best, strict=True), color="#999999", linestyle="-", linewidth=0.9, zorder=1)
    for (x, y), marker, colour in zip(
        points.values(), itertools.cycle(MARKERS), itertools.cycle(COLOURS), strict=False
    ):
        axes.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="white")
    show_floor(axes, floor)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    left, right = axes.get_xlim()
    obstacles = [] if floor is None else [((left, floor), (right, floor), 8)]
    label_points(axes, [(x, y, name) for name, (x, y) in points.items()], obstacles)


def show_floor(axes, floor):
    """The entropy of the text as a line, if it is known."""
    if floor is not None:
        axes.axhline(floor, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
        axes.annotate(f"floor {floor:.3f}", (1, floor), (-2, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", fontsize=8, color="#555555")  # fmt: skip


def use_powers(axes, which="xy"):
    """Logarithmic axes ("x", "y" or both) whose numbers are written out: 0.001, 1, 100; far from 1 as 1e-06."""
    from matplotlib.ticker import LogLocator, NullLocator

    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(numticks=9))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, position: f"{value:g}")


def show_bars(axes, bars, names, label, floor=None):
    """Bars side by side, one group per name; the second kind is hatched, the third dotted. bars: {kind: values};
    label: what their height is, with its unit;  floor: as in `show_lines`."""
    width = 0.8 / len(bars)
    styles = zip(itertools.cycle(COLOURS), itertools.cycle((None, "////", "....")))
    for place, ((kind, values), (colour, hatch)) in enumerate(zip(bars.items(), styles, strict=False)):
        left = np.arange(len(names)) + (place - (len(bars) - 1) / 2) * width
        face = colour if hatch is None else "white"
        axes.bar(left, values, width, color=face, edgecolor=colour, hatch=hatch, linewidth=0.8, label=kind)
    show_floor(axes, floor)
    slanted = sum(len(name) + 2 for name in names) > 90  # names that would run into each other
    axes.set_xticks(range(len(names)), names, rotation=90 if slanted else 0)
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.set_ylabel(label)
    axes.grid(visible=False, axis="x")
    if len(bars) > 1:
        axes.legend(fontsize=8)
