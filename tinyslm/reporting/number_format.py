"""Numbers with units, as text. A dash stands for a value that is missing or not finite."""

import math

DASH = "–"
UNKNOWN = "?"


def is_number(value) -> bool:
    """Whether the value is a finite number."""
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
    """Bytes with a decimal prefix: 1 MB is 1,000,000 bytes."""
    return scaled(value, "B")


def speed(measured, spread=True) -> str:
    """Tokens per second: the median ± half the interquartile range."""
    if not measured or not is_number(measured["median"]):
        return DASH
    median, half = measured["median"], (measured["high"] - measured["low"]) / 2
    if median >= 100_000:
        return f"{scaled(median)} ±{scaled(half)}" if spread else scaled(median)
    digits = 0 if median >= 100 else 1
    return f"{median:,.{digits}f}" + (f" ±{half:,.{digits}f}" if spread else "")


def loss(measured, spread=True) -> str:
    """Nats per token ± standard error."""
    if not measured or not is_number(measured["nats"]):
        return DASH
    return f"{measured['nats']:.3f}" + (f" ±{standard_error(measured['standard_error'])}" if spread else "")


def bits(value) -> str:
    """A loss in bits per byte, such as "1.234"."""
    return f"{value:.3f}" if is_number(value) else DASH


def standard_error(value, digits=3) -> str:
    """A standard error, or "?" if it is unknown (None), as on a single document."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def percent(share, digits=0) -> str:
    """A fraction as a percentage: 0.914 is "91 %"."""
    return _percent(share, f",.{digits}f")


def signed_percent(share) -> str:
    """A fraction as a signed percentage: 0.0384 is "+3.8 %". 0 has no sign."""
    return _percent(share, "+,.1f")


def _percent(share, form):
    if not is_number(share):
        return DASH
    text = f"{100 * share:{form}}"
    is_zero = float(text.replace(",", "")) == 0
    return (text.lstrip("+-") if is_zero else text.replace("-", "−")) + " %"


def relative_size(part, whole) -> str:
    """One size as a percentage of another: "26 %", or "2.10 times" where it is larger."""
    return percent(part / whole) if part <= whole else times(part / whole)


def times(ratio) -> str:
    """A ratio as "1.04 times" or "120 times"."""
    return f"{ratio:.2f} times" if ratio < 10 else f"{ratio:,.0f} times"


def exam(measured) -> str:
    """Accuracy ± half the width of its 95 % confidence interval, in percent."""
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


def index_ranges(indices) -> str:
    """[0, 1, 2, 5] -> "0-2,5". Of more than four ranges, the first two and the last: "0,2,…,24"."""
    runs = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ",".join(texts if len(texts) <= 4 else [*texts[:2], "…", texts[-1]])
