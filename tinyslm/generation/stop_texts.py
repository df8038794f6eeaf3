"""Stop texts: strings that end a generation before they appear in its text."""

from collections.abc import Iterable

from tinyslm.errors import ConfigError


def check_stop_texts(stop_texts: Iterable[str]) -> None:
    """Raise ConfigError for an empty stop text."""
    if "" in stop_texts:
        raise ConfigError("a stop text is empty, expected at least one character")


def before_stop(text: str, stop_texts: Iterable[str]) -> str | None:
    """The text before the first stop text in it, or None if it has none."""
    found = [position for stop in stop_texts if (position := text.find(stop)) >= 0]
    return text[: min(found)] if found else None


def without_begun_stop(text: str, stop_texts: Iterable[str]) -> str:
    """The text without its end, if a stop text may begin there: what can be shown before more text is known."""
    begun = [n for stop in stop_texts for n in range(1, len(stop)) if text.endswith(stop[:n])]
    return text[: len(text) - max(begun, default=0)]
