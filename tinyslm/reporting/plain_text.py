"""Text of unknown origin, made safe to print, and measured in terminal columns."""

import unicodedata

from rich.cells import cell_len
from rich.text import Text

WRITING_DIRECTION = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}  # control characters


def clean(text) -> str:
    """Replace control characters (line breaks and tabs excepted), unpaired surrogates and direction marks by U+FFFD."""
    return "".join("\ufffd" if _is_control(letter) else letter for letter in str(text).replace("\r\n", "\n"))


def _is_control(letter):
    return letter in WRITING_DIRECTION or (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t")


def one_line(text) -> str:
    """The cleaned text with every run of white space replaced by one space."""
    return " ".join(clean(text).split())


def width(text) -> int:
    """Number of terminal columns of a text: 0 for combining marks, 2 for East Asian wide characters, otherwise 1."""
    return cell_len(text)


def shorten(text, columns) -> str:
    """The text in one line of at most this many terminal columns; an ellipsis marks a cut."""
    shortened = Text(one_line(text))
    if width(shortened.plain) > columns:
        shortened.truncate(columns - 1)
        return shortened.plain.rstrip() + "…"
    return shortened.plain


def joined(texts) -> str:
    """Texts as "a, b and c"."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last
