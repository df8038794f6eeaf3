"""Templates that are programs of someone else: bounded time, memory and output, and no access to the process."""

import resource
import sys
import time
from types import SimpleNamespace

import pytest

from tests import process_memory
from tests.text.rendering import render_here
from tinyslm import CheckpointError, ConfigError, DataError
from tinyslm.text import template_rendering, template_worker
from tinyslm.text.template_rendering import render_template

MESSAGES = {"messages": [{"role": "user", "content": "é\ud800 <b>"}]}
MOST_KILOBYTES = (template_rendering.MOST_BYTES >> 10) + 50_000

TOO_MUCH = {  # template: part of the message
    "{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}": "more than 1 seconds",
    "{{ 'a' * 10**10 }}": "more than 512 MB",
    "{{ range(90000) | list | join(range(90000) | join) }}": "more than 512 MB",
}
REFUSED = {
    "\n{% for i in range(10**9) %}{% endfor %}": "line 2: .*Range too big",
    "{{ 'x' | center(10**9) }}": "more than 512 MB",
    "{{ '{:>1000000000}'.format(1) }}": "more than 512 MB",
    "{{ '%1000000000d' | format(1) }}": "more than 512 MB",
    "{{ 'x' * 3000000 }}": "the text has more than 1,000,",
    "{% for i in range(90000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}": "the text has more than 1,000,",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError",
    "{{" + "(" * 5000 + ")" * 5000 + "}}": "RecursionError",
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30: "SyntaxError: too many statically nested blocks",
    "\n\n{{ messages[0].content": "line 3: .*TemplateSyntaxError",
    "\n\n{% macro f(x) %}\n{{ x.y.z }}{% endmacro %}\n{{ f(1) }}": "line 4: .*UndefinedError",
    "{{ 1 / 0 }}": "line 1: .*ZeroDivisionError",
    "{{ 1 | nothing }}": "No filter named 'nothing'",
    "{% include '/etc/passwd' %}": "no loader",
    "{% import 'os' as os %}": "no loader",
    "{{ messages.append(1) }}": "SecurityError",
    "{{ messages.__class__.__mro__ }}": "SecurityError",
    "{% set n = namespace(__call__=1) %}": "SecurityError",
    "{% set n = namespace(x=1) %}{% set n._y = 1 %}": "SecurityError",
    "{{ '{0.__class__.__mro__}'.format(1) }}": "SecurityError",
    "{{ (messages | attr('__class__')).x }}": "SecurityError",
}
UNREACHABLE = [
    "raise_exception.__globals__",
    "strftime_now.__globals__",
    "namespace.mro",
    "dict.mro",
    "range.start",
    "cycler.__init__",
    "lipsum.__globals__",
    "''.__class__",
    "self._TemplateReference__context",
    "(messages | map('upper')).gi_frame",
    "(messages | map('upper')).close",
    "dict.fromkeys",
    "raise_exception.func_globals",
]


@pytest.mark.parametrize(("template", "part"), TOO_MUCH.items(), ids=range(len(TOO_MUCH)))
def test_time_and_memory_are_bounded(monkeypatch, template, part):
    monkeypatch.setattr(template_rendering, "MOST_SECONDS", 1)
    start = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(CheckpointError, match=rf"^file(, line 1)?: the chat template takes {part}") as error:
        render_template(template, MESSAGES, "file")
    assert "\n" not in str(error.value)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert time.process_time() - start[0] < 1
    assert children.ru_utime + children.ru_stime - start[1].ru_utime - start[1].ru_stime < 2
    if sys.platform == "linux":
        hidden = max(start[1].ru_maxrss, process_memory.peak() >> 10)  # of processes before, and of this one
        assert children.ru_maxrss < max(MOST_KILOBYTES, hidden + 1)


@pytest.mark.parametrize(("template", "part"), REFUSED.items(), ids=range(len(REFUSED)))
def test_templates_that_are_refused(template, part):
    """Those that take much memory through the process, the others here."""
    render = render_template if "MB" in part else render_here
    with pytest.raises(CheckpointError, match=part) as error:
        render(template, MESSAGES, "here")
    assert str(error.value).startswith("here") and "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("name", UNREACHABLE)
def test_attributes_that_no_template_needs_are_undefined(name):
    try:
        text = render_here("{{ (" + name + ") is defined }}", MESSAGES, "here")
    except CheckpointError as error:
        assert "SecurityError" in str(error) or "TemplateSyntaxError" in str(error)
    else:
        assert text == "False"


def test_a_refusal_is_the_message_of_the_template():
    message = "\n{{ raise_exception('first the\\nuser\x1b, then ' ~ messages[0].content) }}"
    with pytest.raises(DataError) as error:
        render_template(message, MESSAGES, "file")
    text = r"file, line 2: the chat template refuses the conversation: first the\nuser\x1b, then é\ud800 <b>"
    assert str(error.value) == text


def test_the_process_returns_any_text():
    assert render_template("{{ messages[0].content }}{{ messages | tojson }}", MESSAGES, "file") == (
        'é\ud800 <b>[{"role": "user", "content": "é\ud800 <b>"}]'
    )


def test_the_longest_text_grows_with_the_messages():
    content = "x" * 3_000_000
    assert render_template("{{ a }}{{ a }}", {"a": content}, "file") == 2 * content


def test_without_jinja(monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(f"raise SystemExit({template_worker.NO_JINJA})")
    monkeypatch.setattr(template_worker, "__file__", str(worker))
    with pytest.raises(ConfigError, match=r'need Jinja2 3\.1\.6 or newer: pip install "tinyslm\[chat\]"'):
        render_template("a", MESSAGES, "file")


@pytest.mark.parametrize("version", ["3.1.5", "2.11", None])
def test_an_old_jinja_is_not_used(monkeypatch, version):
    module = None if version is None else SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "jinja2", module)
    assert template_worker.main() == template_worker.NO_JINJA


@pytest.mark.parametrize(
    ("code", "part"),
    [("import os; os.abort()", "ended the process"), ("import time; time.sleep(60)", "takes more than 2 seconds")],
)
def test_a_process_that_gives_no_answer(monkeypatch, tmp_path, code, part):
    (tmp_path / "worker.py").write_text(code)
    monkeypatch.setattr(template_worker, "__file__", str(tmp_path / "worker.py"))
    monkeypatch.setattr(template_rendering, "LONGEST_WAIT", 0.5)
    with pytest.raises(CheckpointError, match=f"^file: the chat template {part}"):
        render_template("a", MESSAGES, "file")
