"""Style of all figures, placement of labels without overlap, and SVG for HTML pages."""

import io
import itertools
import math
import re
import warnings
from contextlib import contextmanager

from tinyslm.reporting.plain_text import shorten

TEXT, SOFT, GRID, BACK, HEAT = "#222222", "#555555", "#e4e4e4", "#fefefe", "#6aaee1"
CSS_COLORS = {TEXT: "--text", SOFT: "--soft", GRID: "--line", BACK: "--card", HEAT: "--heat"}  # on pages: dark mode
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,  # one pixel is one point, as in the SVG
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; few fonts are wider, so labels also fit in other fonts
    "font.size": 9,
    "grid.color": GRID,
    "svg.fonttype": "none",  # text, not outlines: it is searchable and uses the page's font
    "svg.hashsalt": "tinyslm",
    "text.color": TEXT,
    "text.parse_math": False,  # dollar signs in names are no formulas
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
}
LONGEST_NAME = 26  # in a figure
DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # of a label from its point


@contextmanager
def plain_style():
    """matplotlib with its defaults and STYLE; the user's matplotlibrc is ignored."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser selects another font
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width, height, **arguments):
    """A figure of this size in inches, and its axes as returned by `Figure.subplots`. Opens no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)  # measures the width of texts
    return figure, figure.subplots(**arguments)


def to_svg(figure, prefix, title) -> str:
    """The figure as an <svg> element without header and date; ids begin with the prefix; colours are CSS variables."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL
    )  # would apply to the whole page
    text = re.sub(r'(<[^>]*\s)id="', rf'\1id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}-', text)
    for color, variable in CSS_COLORS.items():
        text = text.replace(color, f"var({variable})")
    (view_box, *_) = re.findall(r'viewBox="([^"]*)"', text)
    body = text[text.index(">") + 1 :].strip()
    return f'<svg viewBox="{view_box}" role="img" aria-label="{title}">\n{body}'


def name_of(row) -> str:
    """The row's name, shortened for a figure."""
    return shorten(row["name"], LONGEST_NAME)


def set_scale(axes, axis, values):
    """Set limits with a margin; use a logarithmic scale, and return True, if the values span over a factor of 4."""
    from matplotlib.ticker import FixedLocator

    low, high = min(values), max(values)
    if low <= 0 or high < 4 * low:
        margin = 0.1 * (high - low) or 0.1 * abs(high) or 1
        axes.set(**{f"{axis}lim": (low - margin, high + margin)})
        return False
    margin = (high / low) ** 0.1
    ticks = [digit * 10.0**power for power in range(-12, 16) for digit in (1, 1.5, 2, 3, 5, 7)]
    ticks = [tick for tick in ticks if low / margin <= tick <= high * margin]
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low / margin, high * margin)})
    use_plain_ticks(getattr(axes, f"{axis}axis"), FixedLocator(ticks[:: 1 + len(ticks) // 10]))
    return True


def use_plain_ticks(axis, locator):
    """Ticks of a logarithmic axis at the positions of a locator, labelled with ordinary numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_major_locator(locator)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, position: f"{value:g}")


def label_points(axes, points, obstacles=()):
    """Write a label beside every point (x, y, text) without covering points, other labels and obstacles.

    obstacles: (point, point, width in pixels) of straight lines along an axis. Each label takes the free position that
    is nearest to its point; where none is free, the position with the least overlap. A thin line joins a distant label
    to its point.
    """
    axes.figure.draw_without_rendering()  # computes the position of the axes
    renderer, inside = axes.figure.canvas.get_renderer(), axes.get_window_extent().extents
    positions = [axes.transData.transform((x, y)) for x, y, _ in points]
    marks_and_labels = [_box_around([position], 5) for position in positions]
    taken = marks_and_labels + [_box_around(axes.transData.transform(ends), width) for *ends, width in obstacles]
    for (x, y, text), position in zip(points, positions, strict=True):
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", ha="center", va="center", fontsize=8.5)
        width, height = label.get_window_extent(renderer).size
        best = None
        for distance, (right, up) in itertools.product((7, 16, 26, 40, 60), DIRECTIONS):
            slanted = 0.7 if right and up else 1
            offset = (right * (distance * slanted + width / 2), up * (distance * slanted + height / 2))
            centre_x, centre_y = position + offset
            box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
            line = _boxes_along(position, (centre_x, centre_y), box) if distance > 7 else []
            overlap = sum(_common_area(box, other) for other in taken)
            overlap += sum(_common_area(part, other) for part in line for other in marks_and_labels)
            overlap += 3 * (width * height - _common_area(box, inside))
            if best is None or overlap < best[0] - 1e-6:
                best = overlap, offset, box, line
            if overlap <= 1e-6:
                break
        _, offset, box, line = best
        label.set_position(offset)
        marks_and_labels.append(box)
        taken += [box, *line]
        if line:
            style = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5}
            axes.annotate("", (x, y), offset, textcoords="offset points", arrowprops=style, zorder=1)
            label.set_bbox({"facecolor": BACK, "edgecolor": "none", "pad": 0.8})


def _box_around(points, margin):
    """The smallest box (left, bottom, right, top) that contains the points, with a margin."""
    xs, ys = zip(*points, strict=True)
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin


def _boxes_along(point, end, label):
    """Small boxes along the line from a mark to its label, without those that touch the mark or the label's box."""
    (x, y), (to_x, to_y) = point, end
    centres = [(x + part * (to_x - x) / 20, y + part * (to_y - y) / 20) for part in range(1, 20)]
    far = [centre for centre in centres if math.dist(centre, point) > 8]
    return [box for box in (_box_around([centre], 1.5) for centre in far) if not _common_area(box, label)]


def _common_area(one, other):
    """Area of the intersection of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
