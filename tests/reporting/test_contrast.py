"""Texts are readable on the pages: WCAG 2 asks for a contrast of 4.5 (level AA), in the light and in the dark mode."""

import re
from importlib.resources import files

import numpy as np
import pytest

from tests.reporting import results
from tinyslm.reporting import figure_style, page_figures

STYLE = (files("tinyslm.reporting") / "templates" / "style.css").read_text()
NAMES = ("light", "dark", "print")
LEAST = 4.5


def colours_of_pages():
    """{mode: {variable: red, green and blue from 0 to 1}}; variables that a mode does not set are those of light."""
    blocks = re.findall(r":root \{([^}]*)\}", STYLE)
    found = [dict(re.findall(r"--(\w+):\s*#([0-9a-f]{3,6})\b", block)) for block in blocks]
    assert len(found) == len(NAMES)
    return {name: {key: rgb(text) for key, text in (found[0] | own).items()}
            for name, own in zip(NAMES, found, strict=True)}  # fmt: skip


def rgb(text):
    digits = text if len(text) == 6 else "".join(2 * digit for digit in text)
    return np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])


def luminance(colour):
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_known_pairs():
    """Examples that are published with the definition."""
    assert contrast(rgb("000"), rgb("fff")) == pytest.approx(21)
    assert contrast(rgb("777777"), rgb("ffffff")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("mode", NAMES)
def test_cells_of_the_exam_over_the_whole_range_of_the_colour(mode):
    colours = colours_of_pages()[mode]
    for strength in np.linspace(0, 1, 101):
        cell = strength * colours["heat"] + (1 - strength) * colours["card"]
        assert contrast(colours["text"], cell) >= LEAST, strength


def test_cells_of_the_exam_in_a_figure_that_is_not_on_a_page():
    text, heat, back = (rgb(colour[1:]) for colour in (figure_style.TEXT, figure_style.HEAT, figure_style.BACK))
    for strength in np.linspace(0, 1, 101):
        assert contrast(text, strength * heat + (1 - strength) * back) >= LEAST


@pytest.mark.parametrize("mode", NAMES)
def test_texts_on_every_background(mode):
    colours = colours_of_pages()[mode]
    for back in ("back", "panel", "card"):
        assert contrast(colours["text"], colours[back]) >= LEAST
        assert contrast(colours["soft"], colours[back]) >= LEAST
    assert contrast(colours["link"], colours["back"]) >= LEAST
    assert contrast(colours["text"], colours["line"]) >= LEAST  # the label of the entropy stands on its band


def test_cells_are_stronger_for_more_correct_answers():
    strengths = [page_figures.heat(accuracy) for accuracy in (0, 0.25, 0.5, 0.75, 1)]
    assert strengths == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    given = results.plausible()
    exams = [row["exam"] for row in given["rows"]]
    accuracies = [value for exam in exams for value in (exam["accuracy"], *exam["by_subject"].values())]
    drawn = re.findall(r"fill: var\(--heat\)(?:; fill-opacity: ([\d.]+))?", page_figures.exam_by_subject(given))
    expected = sorted(map(page_figures.heat, accuracies))
    assert sorted(float(text or 1) for text in drawn) == pytest.approx(expected, abs=1e-5)


def test_no_colour_of_a_text_is_fixed():
    """Texts, lines and backgrounds of the figures change with the mode of the page."""
    given = results.plausible()
    drawn = page_figures.size_against_loss(given) + page_figures.exam_by_subject(given)
    assert not re.findall(r"<text[^>]*fill: #", drawn)
    for colour in figure_style.CSS_COLORS:
        assert colour not in drawn
