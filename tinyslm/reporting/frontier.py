"""What a sweep found: every recipe by size and loss, and the frontier of those that no other beats in both."""

from statistics import mean, stdev
from typing import NamedTuple

from tinyslm.reporting import units
from tinyslm.reporting.drawing import label_points, new_figure, plain_style, set_scale, to_svg
from tinyslm.reporting.figures import MARKS
from tinyslm.reporting.markup import escape
from tinyslm.reporting.stylesheet import STYLE
from tinyslm.reporting.techniques import technique

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1></header>
<main>
<p>Each point is a recipe. A recipe is on the frontier where no other is both smaller and better. Loss is in nats per
token on {tokens:,} tokens of {documents}, ± standard deviation over the seeds where there are several.</p>
<figure class="card scroll">{figure}</figure>
<div class="scroll" tabindex="0"><table>
<thead><tr><th>recipe</th><th>frontier</th><th>stored</th><th>parameters</th><th>multiply-adds</th><th>loss</th>
<th>change</th><th>seeds</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
</main>
<footer class="note"><p>Written by tinyslm {version}. Every number of every point: points.jsonl.</p></footer>
</body>
</html>
"""


class Spot(NamedTuple):
    """One recipe: means over its seeds, with the standard deviation of the loss over them (None for one seed)."""

    name: str
    technique: str
    bits: float
    parameters: float
    multiply_adds: float
    loss: float
    deviation: float | None
    change: float  # of the loss, from the dense model's on the same documents
    seeds: int
    on_frontier: bool


def spots(points) -> list[Spot]:
    """The recipes of a sweep, smallest first. points: what `tinyslm sweep` wrote for each recipe and seed."""
    groups = {}
    for point in points:
        groups.setdefault(point["name"], []).append(point)
    made = []
    for name, group in groups.items():
        rows = [point["measured"] for point in group]
        losses = [row["loss"]["nats"] for row in rows]
        made.append(
            Spot(
                name,
                technique(group[0]),
                *(mean(row[key] for row in rows) for key in ("bits", "parameters", "multiply_adds")),
                mean(losses),
                stdev(losses) if len(losses) > 1 else None,
                mean(row["change"]["nats"] for row in rows),
                len(group),
                False,
            )
        )
    made.sort(key=lambda spot: (spot.bits, spot.loss))
    return [spot._replace(on_frontier=is_on_frontier(spot, made)) for spot in made]


def is_on_frontier(spot, others) -> bool:
    """Whether no other is at least as small and as good, and better in one of the two."""
    return not any(
        other.bits <= spot.bits and other.loss <= spot.loss and (other.bits < spot.bits or other.loss < spot.loss)
        for other in others
    )


def format_frontier(points) -> str:
    """A table for the terminal, smallest first; a star marks the frontier."""
    found = spots(points)
    width = min(40, max(5, *(units.width(units.one_line(spot.name)) for spot in found)))
    lines = [f"{'recipe':{width}}     stored  parameters           loss    change"]
    for spot in found:
        name = units.shorten(spot.name, width)
        cells = (_stored(spot), units.scaled(spot.parameters), _loss(spot), f"{spot.change:+.3f}")
        lines.append(
            f"{name}{' ' * (width - units.width(name))} {'*' if spot.on_frontier else ' '}"
            + "".join(f"{cell:>{room}}" for cell, room in zip(cells, (9, 12, 15, 10), strict=True))
        )
    return "\n".join([*lines, "*: no other recipe is both smaller and better.  loss: nats per token"])


def _stored(spot):
    return units.size(spot.bits / 8)


def _loss(spot):
    return f"{spot.loss:.3f}" + ("" if spot.deviation is None else f" ±{spot.deviation:.3f}")


def frontier_figure(points) -> str:
    """Stored size to the right, loss upwards, the frontier as a line of steps; SVG text."""
    found = spots(points)
    frontier = [spot for spot in found if spot.on_frontier]
    with plain_style():
        figure, axes = new_figure(8.5, 5.2)
        sizes = [spot.bits / 8e6 for spot in found]
        logarithmic = set_scale(axes, "x", sizes)
        ends = [spot.loss + side * (spot.deviation or 0) for spot in found for side in (-1, 1)]
        set_scale(axes, "y", ends)
        corners = [spot.bits / 8e6 for spot in frontier], [spot.loss for spot in frontier]
        axes.step(*corners, where="post", color="#555555", linewidth=1, linestyle=(0, (4, 2)), zorder=1)
        for spot, x in zip(found, sizes, strict=True):
            shape, colour = MARKS[spot.technique]
            axes.errorbar(x, spot.loss, spot.deviation or 0, color="#777777", linewidth=1, capsize=2, zorder=2)
            axes.plot(x, spot.loss, shape, color=colour, markersize=9, markeredgecolor="white", zorder=3)
        axes.set_xlabel(f"stored size, MB{' on a logarithmic scale' if logarithmic else ''} (smaller is better: left)")
        axes.set_ylabel("loss, nats per token (lower is better)")
        named = frontier if len(found) > 20 else found  # more names than that hide the points
        label_points(axes, [(spot.bits / 8e6, spot.loss, units.shorten(spot.name, 26)) for spot in named])
        return to_svg(figure, "frontier", "Scatter plot of the loss of each recipe against its stored size")


def render_frontier(points) -> str:
    """The page as text. Where matplotlib is missing it has the table, and says how to get the figure."""
    try:
        figure = frontier_figure(points)
    except ImportError:
        figure = '<p>The figure is drawn by matplotlib: pip install "tinyslm[report]"</p>'
    found, first = spots(points), points[0]
    experiment = first["experiment"]
    documents = "your own text" if experiment["texts"] else f"{experiment['validation']:,} documents of the town"
    return PAGE.format(
        title=f"Size against loss: {escape(units.one_line(experiment['model']))}",
        style=STYLE,
        tokens=first["measured"]["loss"]["tokens"],
        documents=documents,
        figure=figure,
        rows="\n".join(map(_table_row, found)),
        version=escape(first["record"]["versions"]["tinyslm"]),
    )


def _table_row(spot):
    cells = (
        "★" if spot.on_frontier else "",
        _stored(spot),
        units.scaled(spot.parameters),
        units.scaled(spot.multiply_adds),
        _loss(spot),
        f"{spot.change:+.3f}",
        spot.seeds,
    )
    return f'<tr><th scope="row">{escape(units.one_line(spot.name))}</th>' + "".join(
        f"<td>{cell}</td>" for cell in cells
    ) + "</tr>"  # fmt: skip
