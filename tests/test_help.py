"""`help(tinyslm)` begins with the calls of the package, as they are."""

import inspect
import pydoc
import re

import tinyslm


def listed_calls():
    """{name: parameters} of the calls in the package's docstring."""
    text = inspect.getdoc(tinyslm).partition("Example:")[0]
    calls = re.findall(r"^(\w+)\((.*?)\)$", text, re.MULTILINE | re.DOTALL)
    return {name: " ".join(inside.split()) for name, inside in calls}


def parameters(function):
    """Names and defaults as in a call: "a, b=1, *, c, **d". A default that is a function is left out."""
    shown = []
    for each in inspect.signature(function).parameters.values():
        has_default = each.default is not each.empty and not callable(each.default)
        text = str(each.replace(annotation=each.empty, default=each.default if has_default else each.empty))
        if each.kind is each.KEYWORD_ONLY and not any(part.startswith("*") for part in shown):
            shown.append("*")
        shown.append(text.replace("'", '"'))
    return ", ".join(shown)


def test_every_function_is_listed_with_its_parameters():
    exported = {name: getattr(tinyslm, name) for name in tinyslm.__all__}
    assert listed_calls() == {name: parameters(it) for name, it in exported.items() if not inspect.isclass(it)}


def test_help_begins_with_the_calls_and_fits_a_terminal():
    shown = pydoc.plain(pydoc.render_doc(tinyslm)).partition("PACKAGE CONTENTS")[0].split("\n")
    assert max(map(len, shown)) <= 80
    start = shown.index("DESCRIPTION") + 1
    assert shown[start].strip().startswith("load(")
