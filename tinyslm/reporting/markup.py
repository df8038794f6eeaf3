"""Text to HTML."""

import html

from tinyslm.reporting import units


def escape(text) -> str:
    """Any text as text of the page, never as markup."""
    return html.escape(units.clean(text))


def prose(text) -> str:
    """The same, where a percent sign stays on the line of its number."""
    return escape(text).replace(" %", "&nbsp;%")


def paragraphs(pairs) -> str:
    """One paragraph for each (first words, rest), with the first words in bold."""
    return "\n".join(f"<p><b>{escape(first)}</b>{prose(rest)}</p>" for first, rest in pairs)


def bullets(sentences) -> str:
    """One point of a list for each text."""
    return "<ul>\n" + "\n".join(f"<li>{prose(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def definitions(pairs, name) -> str:
    """A list of (term, definition); name: the class that says how it looks."""
    lines = (f"<dt>{prose(term)}</dt>\n<dd>{prose(definition)}</dd>" for term, definition in pairs)
    return f'<dl class="{name}">\n' + "\n".join(lines) + "\n</dl>"
