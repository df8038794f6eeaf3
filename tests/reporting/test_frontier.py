"""The frontier of a sweep holds the recipes that no other beats in size and loss, and only those."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.reporting.results import sweep_point as point
from tinyslm.reporting.frontier import NARROW, format_frontier, frontier_figure, render_frontier, spots

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(sizes)
def test_the_frontier_is_what_no_other_beats(pairs):
    """Every point off the frontier is beaten by one on it, and none on it by any."""
    found = spots([point(f"recipe {i}", 1000 * bits, loss / 10) for i, (bits, loss) in enumerate(pairs)])
    frontier = [spot for spot in found if spot.on_frontier]
    assert len(found) == len(pairs) and frontier

    def beats(one, other):
        return one != other and one.bits <= other.bits and one.loss <= other.loss and one[2:6] != other[2:6]

    for spot in found:
        beaten = any(beats(other, spot) for other in (frontier if not spot.on_frontier else found))
        assert beaten != spot.on_frontier


def test_seeds_of_a_recipe_are_one_spot():
    losses = [0.70, 0.74, 0.75]
    found = spots([point("a", 800, loss, seed) for seed, loss in enumerate(losses)] + [point("b", 400, 0.9)])
    small, large = found
    assert (small.name, small.seeds, small.deviation) == ("b", 1, None)
    assert large.seeds == 3 and np.isclose(large.loss, np.mean(losses))
    assert np.isclose(large.deviation, np.std(losses, ddof=1)) and np.isclose(large.change, np.mean(losses) - 0.7)


def test_the_table_and_the_page():
    points = [point("dense", 8_000_000, 0.7, steps=()), point("a & <b>", 2_000_000, 0.71), point("c", 3_000_000, 0.9)]
    lines = format_frontier(points).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["a", "c", "dense"]
    assert ["*" in line for line in lines[2:5]] == [True, False, True]
    assert "250 kB" in lines[2] and "0.710" in lines[2] and "+0.010" in lines[2]
    page = render_frontier(points)
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert page.count("<svg") == 2 and len(ids) == len(set(ids))
    shaded = re.findall(r'<tr class="dense"><th scope="row">([^<]*)</th>', page)
    assert shaded == ["dense"]
    assert "<svg" in page and "a &amp; &lt;b&gt;" in page and "a &lt;model&gt;" in page and "<b>" not in page
    assert page.count("★") == 2 and "1,234 tokens of\n30 documents" in page


def test_of_many_recipes_only_those_on_the_frontier_have_a_label():
    """A phone has room for fewer labels."""
    points = [point(f"recipe {i}!", 1_000_000 * (i + 1), 0.7 + (i > 0) / 10) for i in range(15)]
    large, narrow = frontier_figure(points), frontier_figure(points, NARROW)
    assert all(f"recipe {i}!" in large for i in range(15))
    assert [i for i in range(15) if f"recipe {i}!" in narrow] == [0]


def test_a_change_of_zero_has_no_sign():
    changes = [spot.change_text for spot in spots([point("a", 800, 0.7 - 1e-9), point("b", 400, 0.69)])]
    assert changes == ["-0.010", "0.000"]
