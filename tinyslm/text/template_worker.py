"""The process that renders a chat template, with limits of time and memory. `template_rendering` starts it.

A chat template is a program of the author of a model. It runs in Jinja's sandbox, which restricts what it can reach,
but not how long it runs or how much memory it takes. So it is compiled and rendered in a process of its own, which the
system stops. This file imports nothing of the package, so the process starts fast.

Standard input holds one JSON object with "template", "variables", "seconds", "bytes" and "characters" (the longest
text). Standard output gets one JSON object: "text", or "refused" (the message of `raise_exception`) or "error", with
the "line" of the template.
"""

import json
import sys
from contextlib import suppress
from datetime import datetime

NO_JINJA = 3  # exit status
OLDEST_JINJA = (3, 1, 6)  # older sandboxes have known holes
REACHABLE = (str, int, float, list, tuple, dict)  # values whose public attributes a template may read


def limit_process(seconds, number_of_bytes):
    """Limit the processor time and the memory of this process, on systems that can."""
    try:
        import resource
    except ImportError:  # on Windows, where only the time is limited, by the other process
        return
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, number_of_bytes, number_of_bytes),
    ):
        with suppress(ValueError, OSError):  # macOS does not limit memory so
            resource.setrlimit(kind, (soft, hard))


def make_environment():
    """Jinja's environment of chat templates, with the settings and functions of Hugging Face transformers."""
    from jinja2 import nodes, runtime, utils
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block {% generation %}, which marks the text of the model for trainings; its content is rendered."""

        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    class Namespace(utils.Namespace):
        """A namespace without attributes that begin with an underscore."""

        def __init__(*values, **named):
            utils.Namespace.__init__(*values, **named)
            for name in dict(*values[1:], **named):
                require_public(name)

        def __setitem__(self, name, value):
            require_public(name)
            super().__setitem__(name, value)

    def require_public(name):
        if str(name).startswith("_"):
            raise SecurityError(f"the name {name!r} of an attribute begins with an underscore")

    reachable = (*REACHABLE, Namespace, runtime.LoopContext, runtime.Macro, utils.Cycler, utils.Joiner)

    class Environment(ImmutableSandboxedEnvironment):
        def is_safe_attribute(self, value, name, attribute):
            return isinstance(value, reachable) and super().is_safe_attribute(value, name, attribute)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    extensions = [Generation, "jinja2.ext.loopcontrols"]
    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda layout: datetime.now().strftime(layout),
        "namespace": Namespace,
    }
    return environment


class Refused(Exception):
    """The template refuses the conversation."""


def raise_exception(message):
    """The function with which a template refuses a conversation."""
    raise Refused(str(message))


def render(template, variables, characters):
    """The rendered text. Raises ValueError if it has more than `characters`."""
    parts, length = [], 0
    for part in make_environment().from_string(template).generate(variables):
        parts.append(part)
        length += len(part)
        if length > characters:
            raise ValueError(f"the text has more than {characters:,} characters")
    return "".join(parts)


def line_of(error):
    """The line of the template that raised an error, or None."""
    from jinja2 import TemplateSyntaxError

    line, trace = error.lineno if isinstance(error, TemplateSyntaxError) else None, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def answer_to(request):
    """The answer to a request: what is written to standard output."""
    try:
        return {"text": render(request["template"], request["variables"], request["characters"])}
    except Refused as error:
        return {"refused": str(error)[:1000], "line": line_of(error)}
    except Exception as error:  # whatever the program of someone else raises
        message = error.msg if isinstance(error, SyntaxError) else str(error)  # without the line of the compiled code
        return {"error": f"{type(error).__name__}: {message[:1000]}", "line": line_of(error)}


def main():
    """Answer one request."""
    try:
        import jinja2
    except ImportError:
        return NO_JINJA
    numbers = getattr(jinja2, "__version__", "").split(".")  # versions of the future may have none
    if tuple(int(number) for number in numbers if number.isdecimal()) < OLDEST_JINJA and numbers != [""]:
        return NO_JINJA
    request = json.load(sys.stdin)
    make_environment()  # imports what it needs
    limit_process(request["seconds"], request["bytes"])
    json.dump(answer_to(request), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
