"""What all figures share: a plain style, labels that keep out of each other's way, and SVG that fits into a page."""

import io
import itertools
import re
import warnings
from contextlib import contextmanager

from tinyslm.reporting import units

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelcolor": "#222222",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,  # one pixel is one point, as in the SVG
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, and few fonts are wider: labels keep their room
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "svg.fonttype": "none",  # text stays text: it can be searched, and the page's font is used
    "svg.hashsalt": "tinyslm",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
}
NAME_COLUMNS = 26  # longest name in a figure
DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # where a label is tried


@contextmanager
def plain_style():
    """matplotlib with the settings above and otherwise its own, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser will have a font for it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width, height, **arguments):
    """A figure of this size in inches, and its axes (as `Figure.subplots` gives them). Opens no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)  # knows how wide a text is
    return figure, figure.subplots(**arguments)


def to_svg(figure, prefix, title) -> str:
    """The figure as an <svg> element for the middle of a page: no header, no date, every id begins with the prefix."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)  # would hold for all the page
    text = re.sub(r'(<[^>]*\s)id="', rf'\1id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}-', text)
    view_box = re.search(r'viewBox="([^"]*)"', text).group(1)
    body = text[text.index(">") + 1 :].strip()
    return f'<svg viewBox="{view_box}" role="img" aria-label="{title}">\n{body}'


def name_of(row) -> str:
    """The row's name, short enough for a figure."""
    return units.shorten(row["name"], NAME_COLUMNS)


def set_scale(axes, axis, values):
    """Limits a little beyond the values; a logarithmic scale, and True, where they span more than a factor of 4."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(values), max(values)
    if low <= 0 or high < 4 * low:
        margin = 0.1 * (high - low) or 0.1 * abs(high) or 1
        axes.set(**{f"{axis}lim": (low - margin, high + margin)})
        return False
    margin = (high / low) ** 0.1
    ticks = [digit * 10.0**power for power in range(-12, 16) for digit in (1, 1.5, 2, 3, 5, 7)]
    ticks = [tick for tick in ticks if low / margin <= tick <= high * margin]
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low / margin, high * margin)})
    getattr(axes, f"{axis}axis").set_major_locator(FixedLocator(ticks[:: 1 + len(ticks) // 10]))
    getattr(axes, f"{axis}axis").set_minor_locator(NullLocator())
    getattr(axes, f"{axis}axis").set_major_formatter(lambda value, position: f"{value:g}")
    return True


def label_points(axes, points, obstacles=()):
    """Write a label beside every point (x, y, text), where it covers no point, no other label and no obstacle.

    obstacles: (point, point, width in pixels) of straight lines along an axis. Each label takes the first free place of
    those around its point, nearest first; where none is free, the place with the least overlap. A label away from its
    point is joined to it by a thin line.
    """
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # fixes where the axes lie
    renderer, inside = axes.figure.canvas.get_renderer(), axes.get_window_extent()
    places = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken += [Bbox(axes.transData.transform(ends)).padded(width) for *ends, width in obstacles]
    for (x, y, text), place in zip(points, places, strict=True):
        label = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", ha="center", va="center", fontsize=8.5)
        width, height = label.get_window_extent(renderer).size
        best = None
        for distance, (right, up) in itertools.product((7, 16, 26, 40, 60), DIRECTIONS):
            slanted = 0.7 if right and up else 1
            offset = (right * (distance * slanted + width / 2), up * (distance * slanted + height / 2))
            box = Bbox.from_bounds(place[0] + offset[0] - width / 2, place[1] + offset[1] - height / 2, width, height)
            outside = width * height - _common_area(box, inside)
            overlap = sum(_common_area(box, other) for other in taken) + 3 * outside
            if best is None or overlap < best[0] - 1e-6:
                best = overlap, offset, box, distance
            if overlap <= 1e-6:
                break
        _, offset, box, distance = best
        label.set_position(offset)
        taken.append(box)
        if distance > 7:
            line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 5}
            axes.annotate("", (x, y), offset, textcoords="offset points", arrowprops=line, zorder=1)
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})


def _common_area(one, other):
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)
