"""Rendering of the page templates by jinja2. Values are escaped, and cleaned of control characters."""

import re

from tinyslm.checkpoints import atomic_file
from tinyslm.reporting import number_format
from tinyslm.reporting.corpus_text import corpus_text
from tinyslm.reporting.plain_text import clean, one_line, shorten

FILTERS = ("scaled", "size", "speed", "loss", "percent", "exam", "duration", "relative_size")


def render_template(name: str, **values) -> str:
    """The page of a template in `templates/`; functions of `number_format` are filters. ImportError without jinja2."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("tinyslm.reporting")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(number_format, name) for name in FILTERS}
    environment.tests["is_number"] = number_format.is_number
    environment.filters |= {"one_line": one_line, "shorten": shorten, "corpus_text": corpus_text}
    return environment.get_template(name).render(values)


def _finalize(value):
    """Clean a text, and put a no-break space between a number and its unit. Figures (Markup) are not changed."""
    return value if hasattr(value, "__html__") else re.sub(r"(?<=\d) (?=%|[kMGT]?B\b|M\b)", "\u00a0", clean(value))


def figure_or_none(draw, *arguments):
    """The SVG text, or list of SVG texts, of a function that draws; None where matplotlib is not installed."""
    try:
        return draw(*arguments)
    except ImportError:
        return None


def write_page(path, render, *arguments) -> str:
    """Write the page that a function renders; returns a line about the file, or an installation hint without jinja2."""
    try:
        text = render(*arguments)
    except ImportError:
        return f'{path} was not written, because jinja2 is missing: pip install "tinyslm[report]"'
    with atomic_file(path) as file:
        file.write(text.encode())
    return f"{path}: the same measurements as a page with figures"
