"""Figures of the lessons, drawn on matplotlib axes; readable in grey and with colour vision deficiency.

Colours: Okabe & Ito 2008.
"""

import itertools

import numpy as np

from tinyslm.reporting.figure_style import STYLE, label_points, set_scale, use_plain_ticks

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000", "#56b4e9")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
MARKERS = "osD^vPX*"
PARTS = (("#444444", ""), ("#ffffff", "////"), ("#dddddd", "...."), ("#999999", "xxxx"))  # (grey, hatching)
MOST_NUMBERS = 150  # in the cells of a matrix; more would be too small to read
DARK = 0.55  # cells above this fraction of the largest value have white numbers


def use_lesson_style():
    """Set matplotlib's style for a lesson: as on the report page, with figures that fit a notebook."""
    import matplotlib.pyplot as plt

    lines = {"axes.prop_cycle": plt.cycler(color=COLOURS, linestyle=LINES)}
    plt.rcParams.update({**STYLE, **lines, "figure.dpi": 100, "figure.figsize": (6.4, 3.2), "figure.autolayout": True})


def show_matrix(axes, matrix, title="", number="{:.1f}", rows=None, columns=None, limit=None):
    """A matrix as cells: a darker cell is larger in magnitude; the sign is in its number.

    rows, columns: their names;  limit: magnitude of the darkest cell, by default the largest in the matrix.
    """
    matrix = np.asarray(matrix, float)
    limit = limit or np.max(np.abs(matrix)) or 1.0
    aspect = "equal" if rows is None and columns is None else "auto"  # names need space
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
    """Attention probabilities of query tokens (rows) over key tokens (columns). weights: (T, T), rows sum to 1."""
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    for (row, column), weight in np.ndenumerate(np.asarray(weights)):
        if weight >= 0.2:  # in percent; smaller values have no number
            colour = "white" if weight > DARK else "black"
            axes.text(column, row, f"{100 * weight:.0f}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set(xticks=range(len(tokens)), yticks=range(len(tokens)), yticklabels=tokens)
    axes.set_xticklabels(tokens, rotation=90)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xlabel("key token (numbers: percent)", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(False)


def show_histogram(axes, arrays, label, bins=60, limit=None):
    """Histograms in percent, one outline per array. arrays: {name: array};  label: quantity and unit;  limit: the
    largest magnitude that is shown."""
    limit = limit or max(np.max(np.abs(array)) for array in arrays.values())
    edges = np.linspace(-limit, limit, bins + 1)
    styles = zip(arrays.items(), itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False)
    for (name, array), colour, line in styles:
        counts, _ = np.histogram(array, edges)
        axes.stairs(100 * counts / np.size(array), edges, label=name, color=colour, linestyle=line, linewidth=1.4)
    axes.set(xlabel=label, ylabel="% of the values")
    if len(arrays) > 1:
        axes.legend(fontsize=8)


def show_lines(axes, lines, x_label, y_label, x=None, floor=None, markers=False):
    """Lines that differ in colour and dashes.

    lines: {name: values}, over `x` or over their index;  floor: the entropy of the text, drawn as a grey line.
    """
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)
    for (name, values), (colour, line, marker) in zip(lines.items(), styles, strict=False):
        positions = np.arange(len(values)) if x is None else x
        axes.plot(positions, values, color=colour, linestyle=line, marker=marker if markers else None, label=name)
    show_floor(axes, floor)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(lines) > 1:
        axes.legend(fontsize=8)


def show_frontier(axes, points, x_label, y_label="loss, nats per token", floor=None):
    """Points with their names, and a thin line through the Pareto frontier.

    points: {name: (x, y)}; smaller is better in both.
    """
    ordered = sorted(points.values())
    best = [point for point in ordered if not any(other[0] <= point[0] and other[1] < point[1] for other in ordered)]
    set_scale(axes, "x", [x for x, _ in ordered])
    set_scale(axes, "y", [y for _, y in ordered] + ([floor] if floor is not None else []))
    axes.plot(*zip(*best, strict=True), color="#999999", linestyle="-", linewidth=0.9, zorder=1)
    for (x, y), marker, colour in zip(
        points.values(), itertools.cycle(MARKERS), itertools.cycle(COLOURS), strict=False
    ):
        axes.plot(x, y, marker, color=colour, markersize=7, markeredgecolor="white")
    show_floor(axes, floor)
    axes.set(xlabel=x_label, ylabel=y_label)
    left, right = axes.get_xlim()
    obstacles = [] if floor is None else [((left, floor), (right, floor), 8)]
    label_points(axes, [(x, y, name) for name, (x, y) in points.items()], obstacles)


def show_floor(axes, floor):
    """The entropy of the text as a line, where it is known."""
    if floor is not None:
        axes.axhline(floor, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
        axes.annotate(f"floor {floor:.3f}", (1, floor), (-2, 3), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="right", fontsize=8, color="#555555")  # fmt: skip


def use_powers(axes, which="xy"):
    """Logarithmic axes ("x", "y" or both) with ordinary numbers as labels: 0.001, 1, 100; 1e-06 far from 1."""
    from matplotlib.ticker import LogLocator

    for name in which:
        axes.set(**{f"{name}scale": "log"})
        use_plain_ticks(getattr(axes, f"{name}axis"), LogLocator(numticks=9))


def show_bars(axes, bars, names, label, floor=None):
    """Bars side by side, one group per name; the second kind is hatched, the third dotted. bars: {kind: values};
    label: quantity and unit of their height;  floor: as in `show_lines`."""
    width = 0.8 / len(bars)
    styles = zip(itertools.cycle(COLOURS), itertools.cycle((None, "////", "....")))
    for index, ((kind, values), (colour, hatch)) in enumerate(zip(bars.items(), styles, strict=False)):
        left = np.arange(len(names)) + (index - (len(bars) - 1) / 2) * width
        face = colour if hatch is None else "white"
        axes.bar(left, values, width, color=face, edgecolor=colour, hatch=hatch, linewidth=0.8, label=kind)
    show_floor(axes, floor)
    vertical = sum(len(name) + 2 for name in names) > 90  # names that would overlap
    axes.set_xticks(range(len(names)), names, rotation=90 if vertical else 0)
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.set_ylabel(label)
    axes.grid(visible=False, axis="x")
    if len(bars) > 1:
        axes.legend(fontsize=8)


def show_stacked_bars(axes, bars, names, label):
    """One horizontal bar per name, divided into at most four parts. bars: {part: values};  label: quantity and unit of
    their length."""
    ends = np.zeros(len(names))
    for (part, values), (grey, hatch) in zip(bars.items(), PARTS, strict=False):
        axes.barh(names, values, left=ends, color=grey, hatch=hatch, edgecolor="black", linewidth=0.6, label=part)
        ends = ends + values
    axes.set_xlabel(label)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.legend(fontsize=8, ncols=len(bars), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
