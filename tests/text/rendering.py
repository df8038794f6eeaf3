"""Rendering of chat templates in the process of the tests, which is faster and has no limits."""

import json

from tinyslm.text import template_rendering, template_worker

LONGEST = 10**6  # characters


def render_here(template, variables, source):
    """As `render_template`."""
    request = {"template": template, "variables": json.loads(json.dumps(variables)), "characters": LONGEST}
    return template_rendering._text_of(template_worker.answer_to(request), source)
