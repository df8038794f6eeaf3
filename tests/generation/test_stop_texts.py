"""Stop texts: what is before them, and what can be shown while one may have begun."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.errors import ConfigError
from tinyslm.generation.stop_texts import before_stop, check_stop_texts, without_begun_stop

texts = st.text("ab", max_size=12)
stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(texts, stops)
def test_the_text_before_the_first_stop_text(text, stop_texts):
    found = before_stop(text, stop_texts)
    assert (found is None) == (not any(stop in text for stop in stop_texts))
    if found is not None:
        assert any(text[len(found) :].startswith(stop) for stop in stop_texts)
        assert not any(text[:i].endswith(stop) for stop in stop_texts for i in range(len(found) + len(stop)))


@given(texts, stops)
def test_what_is_shown_of_a_growing_text_is_all_of_it_up_to_the_stop_text(text, stop_texts):
    """Character by character: what is shown never shrinks, and is never beyond the stop text."""
    shown = ""
    for end in range(1, len(text) + 1):
        ended = before_stop(text[:end], stop_texts)
        if ended is not None:
            assert ended.startswith(shown) and ended == before_stop(text, stop_texts)
            return
        visible = without_begun_stop(text[:end], stop_texts)
        assert visible.startswith(shown) and text.startswith(visible)
        hidden = text[len(visible) : end]
        assert not hidden or any(stop.startswith(hidden) for stop in stop_texts)
        shown = visible


def test_only_the_begin_of_a_stop_text_is_held_back():
    assert without_begun_stop("a cat sat", ["sat down", "atoms"]) == "a cat "
    assert without_begun_stop("a cat", []) == "a cat"
    assert without_begun_stop("a dog", ["cat"]) == "a dog"


def test_an_empty_stop_text_is_refused():
    with pytest.raises(ConfigError, match="a stop text is empty"):
        check_stop_texts(["a", ""])
