"""The Pareto frontier of size and loss in the results of `tinyslm sweep`: table, figure and page."""

from statistics import mean, stdev
from typing import NamedTuple

from tinyslm.reporting import number_format
from tinyslm.reporting.figure_style import LONGEST_NAME
from tinyslm.reporting.html_template import figure_or_none, render_template
from tinyslm.reporting.page_figures import LARGE, NARROW, scatter_plot
from tinyslm.reporting.plain_text import shorten
from tinyslm.reporting.recipe_techniques import technique
from tinyslm.reporting.terminal_table import ruled_table

MOST_LABELS = {LARGE: 20, NARROW: 10}  # in the figure; of more recipes, only those on the frontier are labelled


class RecipePoint(NamedTuple):
    """Results of one recipe: means over its seeds, and the standard deviation of the loss (None for one seed)."""

    name: str
    technique: str
    bits: float
    parameters: float
    multiply_adds: float
    loss: float
    deviation: float | None
    change: float  # difference from the dense model's loss on the same documents
    seeds: int
    on_frontier: bool

    @property
    def loss_text(self) -> str:
        """Loss ± standard deviation."""
        return f"{self.loss:.3f}" + ("" if self.deviation is None else f" ±{self.deviation:.3f}")

    @property
    def change_text(self) -> str:
        """Change with its sign; 0 has none."""
        text = f"{self.change:+.3f}"
        return text if float(text) else text[1:]


def spots(points) -> list[RecipePoint]:
    """The recipes of a sweep, smallest first. points: the records of `tinyslm sweep`, one per recipe and seed."""
    groups = {}
    for point in points:
        groups.setdefault(point["name"], []).append(point)
    found = []
    for name, group in groups.items():
        rows = [point["measured"] for point in group]
        losses = [row["loss"]["nats"] for row in rows]
        sizes = [mean(row[key] for row in rows) for key in ("bits", "parameters", "multiply_adds")]
        deviation = stdev(losses) if len(losses) > 1 else None
        change = mean(row["change"]["nats"] for row in rows)
        found.append(RecipePoint(name, technique(group[0]), *sizes, mean(losses), deviation, change, len(group), False))
    found.sort(key=lambda spot: (spot.bits, spot.loss))
    return [spot._replace(on_frontier=is_on_frontier(spot, found)) for spot in found]


def is_on_frontier(spot, others) -> bool:
    """Whether a recipe is Pareto-optimal: no other recipe is better in size or loss and at least equal in both."""
    return not any(
        other.bits <= spot.bits and other.loss <= spot.loss and (other.bits < spot.bits or other.loss < spot.loss)
        for other in others
    )


def format_frontier(points) -> str:
    """A table for the terminal, smallest first; a star marks the frontier."""
    rows = [("recipe", "frontier", "stored", "parameters", "loss", "change")]
    for spot in spots(points):
        sizes = number_format.size(spot.bits / 8), number_format.scaled(spot.parameters)
        star = "*" if spot.on_frontier else ""
        rows.append((shorten(spot.name, 30), star, *sizes, spot.loss_text, spot.change_text))
    notes = (
        "frontier: no other recipe is both smaller and better",
        "loss: nats per token ± standard deviation over seeds; change: difference from the dense model",
    )
    return ruled_table(rows, 1, notes)


def frontier_figure(points, inches=LARGE) -> str:
    """Scatter plot of loss against stored size, with the frontier as a step line; SVG text."""
    found = [((shorten(spot.name, LONGEST_NAME), spot.technique, spot.bits / 8e6, spot.loss, spot.deviation or 0), spot)
             for spot in spots(points)]  # fmt: skip
    frontier = [point for point, spot in found if spot.on_frontier]
    points = [point for point, _ in found]
    return scatter_plot(
        points,
        "stored size",
        "frontier" if inches == LARGE else "frontier-narrow",
        "Scatter plot of the loss of each recipe against its stored size",
        frontier=[(size, nats) for _, _, size, nats, _ in frontier],
        named=frontier if len(points) > MOST_LABELS[inches] else points,
        inches=inches,
    )


def render_frontier(points) -> str:
    """The page as text. Without matplotlib: a hint in place of the figure. ImportError without jinja2."""
    return render_template(
        "sweep.html.j2",
        spots=spots(points),
        figure=figure_or_none(frontier_figure, points),
        narrow_figure=figure_or_none(frontier_figure, points, NARROW),
        first=points[0],
    )
