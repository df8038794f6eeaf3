"""Rendering of a chat template in a process of its own, with limits of time, memory and output.

macOS and Windows limit no memory; there the limits of time and output hold.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import CheckpointError, ConfigError, DataError
from tinyslm.text import template_worker

MOST_SECONDS = 2  # of the processor; published templates take milliseconds
LONGEST_WAIT = 15.0  # seconds, on a busy machine
MOST_BYTES = 2**29  # of memory
MOST_ADDED = 1_000_000  # characters beyond twice those of the variables
STOPPED = getattr(signal, "SIGXCPU", None)  # ends a process that takes more processor time
MISSING = 'chat templates need Jinja2 3.1.6 or newer: pip install "tinyslm[chat]"'


def render_template(template: str, variables: Mapping[str, Any], source: str) -> str:
    """The text that a Jinja template gives for these variables (of JSON's types). source: name for messages.

    Raises DataError with the template's own message if it refuses the conversation. Raises CheckpointError, with the
    line of the template, if it has an error, or takes more than MOST_SECONDS, MOST_BYTES or MOST_ADDED. Raises
    ConfigError without Jinja2.
    """
    try:
        content = json.dumps(variables)
    except (TypeError, ValueError, RecursionError) as problem:
        raise DataError(f"the messages cannot be given to a chat template ({problem})") from None
    limits = {"seconds": MOST_SECONDS, "bytes": MOST_BYTES, "characters": MOST_ADDED + 2 * len(content)}
    request = json.dumps({"template": template} | limits)[:-1] + f', "variables": {content}}}'
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(Path(template_worker.__file__))],
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_WAIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(_too_long(source)) from None
    if done.returncode == template_worker.NO_JINJA:
        raise ConfigError(MISSING)
    if STOPPED is not None and done.returncode == -STOPPED:
        raise CheckpointError(_too_long(source))
    if done.returncode:
        raise CheckpointError(f"{source}: the chat template ended the process that rendered it; use another one")
    return _text_of(json.loads(done.stdout), source)


def _too_long(source):
    return f"{source}: the chat template takes more than {MOST_SECONDS} seconds; use another one"


def _text_of(answer, source):
    """The text in the answer of the process, or the error in it."""
    if "text" in answer:
        return answer["text"]
    place = source if answer["line"] is None else f"{source}, line {answer['line']}"
    if "refused" in answer:
        raise DataError(f"{place}: the chat template refuses the conversation: {_one_line(answer['refused'])}")
    if answer["error"].startswith("MemoryError"):
        raise CheckpointError(
            f"{place}: the chat template takes more than {MOST_BYTES >> 20} MB of memory; use another one"
        )
    raise CheckpointError(f"{place}: the chat template cannot be rendered ({_one_line(answer['error'])})")


def _one_line(message):
    """A message of the template, printable and shortened."""
    return shown(message)[1:-1]
