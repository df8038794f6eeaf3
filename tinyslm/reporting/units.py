"""Numbers and names as people read them. What was not measured, or is not a finite number, is a dash."""

import math
import unicodedata

DASH = "–"


def is_number(value) -> bool:
    """Whether there is a finite number to show."""
    return isinstance(value, int | float) and math.isfinite(value)


def scaled(value, unit="") -> str:
    """Three significant digits and a decimal prefix: 3935488 is "3.94 M", 15741952 bytes are "15.7 MB"."""
    if not is_number(value):
        return DASH
    prefixes = iter(("", "k", "M", "G", "T"))
    prefix = next(prefixes)
    while abs(value) >= 999.5 and prefix != "T":
        value, prefix = value / 1000, next(prefixes)
    digits = 0 if prefix == "" and value == int(value) else 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {prefix}{unit}".rstrip()


def size(value) -> str:
    """Bytes, in decimal units as disks are sold: 1 MB is 1,000,000 bytes."""
    return scaled(value, "B")


def speed(measured, spread=True) -> str:
    """Tokens per second: the median, and half the distance between the quartiles."""
    if not measured or not is_number(measured["median"]):
        return DASH
    median, half = measured["median"], (measured["high"] - measured["low"]) / 2
    if median >= 100_000:
        return f"{scaled(median)} ±{scaled(half)}" if spread else scaled(median)
    digits = 0 if median >= 100 else 1
    return f"{median:,.{digits}f}" + (f" ±{half:,.{digits}f}" if spread else "")


def loss(measured, spread=True) -> str:
    """Nats per token, with the standard error."""
    if not measured or not is_number(measured["nats"]):
        return DASH
    return f"{measured['nats']:.3f}" + (f" ±{measured['standard_error']:.3f}" if spread else "")


def percent(share, digits=0, signed=False) -> str:
    """A share as a percentage: 0.914 is "91 %"."""
    if not is_number(share):
        return DASH
    text = f"{100 * share:{'+' if signed else ''},.{digits}f}"
    negative_zero = float(text.replace(",", "")) == 0
    return (text.replace("-", "").replace("+", "") if negative_zero else text.replace("-", "−")) + " %"


def exam(measured) -> str:
    """The share of right answers, and half the width of its 95 % confidence interval in percentage points."""
    if not measured or not is_number(measured["accuracy"]):
        return DASH
    return f"{100 * measured['accuracy']:.0f} ±{50 * (measured['high'] - measured['low']):.0f} %"


def duration(seconds) -> str:
    """Seconds as "0.1 s", "43 s" or "4 min 43 s"."""
    if not is_number(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def clean(text) -> str:
    """Text without control characters, unpaired surrogates and marks of writing direction, which could disturb a
    terminal or a file; line breaks and tabs stay."""
    return "".join("\ufffd" if _is_control(letter) else letter for letter in str(text).replace("\r\n", "\n"))


def _is_control(letter):
    direction = letter in "\u200e\u200f\u061c" or "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
    return direction or (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t")


def one_line(text) -> str:
    """The text with every run of white space as one space."""
    return " ".join(clean(text).split())


def width(text) -> int:
    """How many columns of a terminal the text takes: marks take none, East Asian wide letters take two."""
    return sum(_letter_width(letter) for letter in text)


def _letter_width(letter):
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def shorten(text, columns) -> str:
    """The text in one line of at most this many columns, with an ellipsis where something is cut off."""
    text = one_line(text)
    if width(text) <= columns:
        return text
    used, kept = 1, []
    for letter in text:
        used += _letter_width(letter)
        if used > columns:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + "…"
