"""The figures: SVG that is well formed, the same every time, and can stand beside other figures on one page."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tests.reporting import results
from tinyslm.reporting import page_figures as figures
from tinyslm.reporting.figure_style import label_points, new_figure, plain_style

DRAW = {
    "loss": figures.size_against_loss,
    "exam": figures.exam_by_subject,
    "sizes": figures.sizes_and_speed,
    "weights": lambda given: "".join(figures.weight_histograms(given)),
}


CROWDED = ((5.2, 5.4), (5.1, 4.4), (5.4, 5.2), (4.8, 5.3), (5.2, 5.1), (5.0, 5.2), (4.7, 4.9), (4.8, 5.3), (5.0, 4.9))


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_the_same_results_give_the_same_bytes_and_well_formed_xml(draw):
    given = results.one_row()
    first = draw(given)
    assert first == draw(given)
    ElementTree.fromstring(f"<all>{first}</all>")
    assert "http" not in first and "<metadata" not in first and "<style" not in first


def test_names_are_drawn_as_text_and_never_as_formulas_or_markup():
    for draw in (figures.size_against_loss, figures.exam_by_subject, figures.sizes_and_speed):
        svg = draw(results.hostile())
        assert "&lt;script&gt;alert" in svg and "<script" not in svg
        assert "$x^2$" in svg


def test_all_ids_on_a_page_differ_and_every_reference_has_its_target():
    given = results.plausible()
    text = "".join(draw(given) for draw in DRAW.values())
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)
    assert references and set(references) <= set(ids)


def test_the_users_matplotlib_settings_change_nothing_and_stay_as_they_were():
    import matplotlib

    given = results.one_row()
    expected = figures.size_against_loss(given)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        assert figures.size_against_loss(given) == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_labels_of_neighbouring_points_do_not_cover_each_other():
    with plain_style():
        figure, axes = new_figure(7.5, 4.6)
        axes.set(xlim=(0, 10), ylim=(0, 10))
        points = [(4 + 0.1 * i, 5 + 0.05 * i, f"model number {i}") for i in range(9)]
        label_points(axes, points)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        inside = axes.get_window_extent()
    assert len(boxes) == 9
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(inside.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_a_line_to_a_distant_label_covers_no_mark_and_no_label():
    with plain_style():
        figure, axes = new_figure(7.5, 4.6)
        axes.set(xlim=(0, 10), ylim=(0, 10))
        label_points(axes, [(x, y, f"recipe number {i}") for i, (x, y) in enumerate(CROWDED)])
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
        lines = [text.arrow_patch.get_path().interpolated(50).vertices for text in axes.texts if text.arrow_patch]
        marks = [axes.transData.transform(point) for point in CROWDED]
    assert lines
    for line in lines:
        inside = line[: len(line) * 3 // 4]  # it goes from the label to its mark
        assert min(np.hypot(*(inside - mark).T).min() for mark in marks) > 3
        assert not [box for box in boxes if box.count_contains(inside) and not box.contains(*line[0])]


def test_the_floor_is_drawn_only_where_it_is_known():
    assert "entropy of the text, 0.684" in figures.size_against_loss(results.plausible())
    assert "entropy" not in figures.size_against_loss(results.own_text())


def test_cells_at_or_below_what_guessing_reaches_are_marked():
    assert figures.exam_by_subject(results.worthless()).count(">0 *<") == 8 * 8
    assert " *<" not in figures.exam_by_subject(results.plausible())
