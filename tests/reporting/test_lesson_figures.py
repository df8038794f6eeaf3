"""Figures of the lessons: what the parts of a figure show."""

import numpy as np

from tinyslm.reporting.figure_style import new_figure, plain_style
from tinyslm.reporting.lesson_figures import show_stacked_bars


def test_the_parts_of_a_stacked_bar_follow_each_other_and_have_their_lengths():
    parts = {"floor": [3.0, 1.0], "error": [0.5, 2.0], "rest": [1.0, 0.0]}
    with plain_style():
        _, axes = new_figure(6, 3)
        show_stacked_bars(axes, parts, ["stories", "facts"], "nats")
    starts = np.zeros(2)
    for bars, (part, lengths) in zip(axes.containers, parts.items(), strict=True):
        assert bars.get_label() == part
        assert [bar.get_width() for bar in bars] == lengths
        assert [bar.get_x() for bar in bars] == starts.tolist()
        starts = starts + lengths
    assert axes.yaxis_inverted()  # the first name is at the top
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(parts)
