"""The frontier of a sweep holds the recipes that no other beats in size and loss, and only those."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.reporting.frontier import format_frontier, render_frontier, spots

VERSIONS = {"versions": {"tinyslm": "0.1"}}
EXPERIMENT = {"model": "a <model>", "text": {"name": "town"}, "validation": 30}


def point(name, bits, loss, seed=0, steps=("Quantize",)):
    measured = {
        "bits": bits,
        "parameters": bits // 8,
        "multiply_adds": bits // 16,
        "loss": {"nats": loss, "standard_error": 0.01, "tokens": 1234},
        "change": {"nats": loss - 0.7, "standard_error": 0.001, "tokens": 1234},
    }
    steps = [{"step": step, "settings": {}} for step in steps]
    return {
        "name": name,
        "seed": seed,
        "steps": steps,
        "measured": measured,
        "record": VERSIONS,
        "experiment": EXPERIMENT,
    }


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
    assert "<svg" in page and "a &amp; &lt;b&gt;" in page and "a &lt;model&gt;" in page and "<b>" not in page
    assert page.count("★") == 2 and "1,234 tokens of\n30 documents" in page
