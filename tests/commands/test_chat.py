"""tinyslm chat: answers are those of `tinyslm.generate` for the conversation so far, and the conversation survives."""

import os
import re
import select
import signal
import sys
import time

import huggingface_hub.constants
import numpy as np
import pytest

from tests.checkpoints.hub_server import add_to_cache
from tests.commands.chat_models import (
    CONTEXT,
    END,
    MODEL,
    TEMPLATE,
    TOKENIZER,
    prompt_of,
    save_chat_model,
    save_talking_model,
)
from tests.commands.encoders import save_encoder
from tests.commands.files import assert_one_line, run, write_text
from tests.text.rendering import render_here
from tinyslm import generate, save
from tinyslm.commands import chat as command
from tinyslm.errors import ConfigError
from tinyslm.text import template_rendering

FIRST, SECOND = "The old cat", "ran home"
FILE = "tokenizer_config.json, chat_template"


@pytest.fixture(autouse=True)
def rendered_here(monkeypatch):
    monkeypatch.setattr("tinyslm.text.chat_template.render_template", render_here)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_chat_model(tmp_path_factory.mktemp("models") / "model")


def answer_to(*messages, tokens=6, **options):
    """The answer to the last message of a conversation."""
    row = generate(MODEL, [prompt_of(*messages)], tokens, stop_tokens=(0, END), **options)[0].tolist()
    ends = [i for i, token in enumerate(row) if token in (0, END)]
    return TOKENIZER.decode(row[: ends[0]] if ends else row)


def chat(monkeypatch, tmp_path, directory, *lines, options=("--tokens", 6), content=None):
    """The exit status of the command for these lines of standard input."""
    path = write_text(tmp_path, content or "".join(f"{line}\n" for line in lines), "messages.txt")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        return run("chat", directory, *options)


def test_every_line_is_answered_with_the_conversation_before_it(monkeypatch, tmp_path, directory, capsys):
    assert chat(monkeypatch, tmp_path, directory, FIRST, "", SECOND) == 0
    first = answer_to(FIRST)
    captured = capsys.readouterr()
    assert captured.out == f"{first}\n{answer_to(FIRST, first, SECOND)}\n"
    assert captured.err == 2 * "tinyslm: the answer ends after --tokens 6\n"


def test_only_new_tokens_are_read(monkeypatch, tmp_path, directory):
    read = []
    hidden_states = type(MODEL).hidden_states

    def counted(self, token_ids, *arguments, **options):
        read.append(np.shape(token_ids)[1])
        return hidden_states(self, token_ids, *arguments, **options)

    monkeypatch.setattr("tinyslm.models.decoder.Decoder.hidden_states", counted)
    assert chat(monkeypatch, tmp_path, directory, FIRST, SECOND, options=["--tokens", 1]) == 0
    found = read[:]
    first, second = prompt_of(FIRST), prompt_of(FIRST, answer_to(FIRST, tokens=1), SECOND)
    assert second[: len(first)] == first
    assert found == [len(first), len(second) - len(first)]


def test_a_new_conversation(monkeypatch, tmp_path, directory, capsys):
    assert chat(monkeypatch, tmp_path, directory, FIRST, "/reset", SECOND, "/exit", FIRST) == 0
    assert capsys.readouterr().out == f"{answer_to(FIRST)}\n{answer_to(SECOND)}\n"


def test_an_unknown_command_is_no_message(monkeypatch, tmp_path, directory, capsys):
    assert chat(monkeypatch, tmp_path, directory, "/quit") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_line(captured, "/quit is not a command; the commands are /reset and /exit")


def test_sampling_and_a_message_of_the_system(monkeypatch, tmp_path, directory, capsys):
    options = ["--temperature", 2, "--top-k", 9, "--seed", 5, "--tokens", 6, "--system", "shy", "--cache", "int8"]
    assert chat(monkeypatch, tmp_path, directory, FIRST, options=options) == 0
    text = "<|system|>shy<|end|><|user|>" + FIRST + "<|end|><|assistant|>"
    prompt = TOKENIZER.encode(text, add_special_tokens=False).ids
    row = generate(MODEL, [prompt], 6, temperature=2.0, top_k=9, seed=5, cache="int8")[0]
    assert capsys.readouterr().out == TOKENIZER.decode(row) + "\n"


def test_the_token_after_an_answer_in_the_template_ends_it(monkeypatch, tmp_path, directory, capsys):
    prompt = [prompt_of(FIRST)]
    row = generate(MODEL, prompt, 20, temperature=9.0, seed=5)[0].tolist()
    assert END in row[1:] and 0 not in row
    options = ["--temperature", 9, "--seed", 5, "--tokens", 20]
    assert chat(monkeypatch, tmp_path, directory, FIRST, options=options) == 0
    captured = capsys.readouterr()
    assert captured.out == TOKENIZER.decode(row[: row.index(END)]) + "\n"
    assert captured.err == ""


def test_end_tokens_and_sampling_of_the_model(monkeypatch, tmp_path, capsys):
    row = generate(MODEL, [prompt_of(FIRST)], 20, temperature=3.0, top_k=50, seed=1)[0].tolist()
    directory = save_chat_model(tmp_path / "model", do_sample=True, temperature=3.0, eos_token_id=[0, row[4]])
    assert chat(monkeypatch, tmp_path, directory, FIRST, options=["--seed", 1]) == 0
    assert capsys.readouterr().out == TOKENIZER.decode(row[: row.index(row[4])]) + "\n"


def test_a_stop_text(monkeypatch, tmp_path, directory, capsys):
    first = answer_to(FIRST, tokens=9)
    stop = first[-3:-1]
    assert chat(monkeypatch, tmp_path, directory, FIRST, options=["--tokens", 9, "--stop", stop]) == 0
    captured = capsys.readouterr()
    assert captured.out == first[: first.index(stop)] + "\n" and captured.err == ""


def test_a_template_of_a_file(monkeypatch, tmp_path, directory, capsys):
    path = write_text(tmp_path, "{{ messages[-1].content }}", "mine.jinja")
    assert chat(monkeypatch, tmp_path, directory, FIRST, options=["--tokens", 6, "--template", path]) == 0
    row = generate(MODEL, [TOKENIZER.encode(FIRST, add_special_tokens=False).ids], 6)[0]
    assert capsys.readouterr().out == TOKENIZER.decode(row) + "\n"


def test_the_end_of_the_context(monkeypatch, tmp_path, directory, capsys):
    """The answer fills it, then no message fits."""
    assert chat(monkeypatch, tmp_path, directory, FIRST, "a " * CONTEXT, options=[]) == 2
    captured = capsys.readouterr()
    length = CONTEXT - len(prompt_of(FIRST)) + 1
    assert captured.out == answer_to(FIRST, tokens=length) + "\n"
    full, too_long = captured.err.splitlines()
    assert full == f"tinyslm: the model's context of {CONTEXT} tokens is full; /reset begins a new conversation"
    assert too_long.startswith("tinyslm: the conversation has ") and f"the model's context of {CONTEXT}" in too_long


class Terminal:
    """Stands for a terminal where lines are typed. A line that is an exception is raised."""

    def __init__(self, *lines):
        self.lines = list(lines)

    def isatty(self):
        return True

    def readline(self, prompt):
        assert prompt == "> "
        line = self.lines.pop(0) if self.lines else EOFError()
        if isinstance(line, BaseException):
            raise line
        return line


@pytest.fixture
def typed(monkeypatch, directory):
    """A function that types lines into the command; returns the exit status."""

    def type_lines(*lines, options=("--tokens", 6)):
        terminal = Terminal(*lines)
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("builtins.input", terminal.readline)
        return run("chat", directory, *options)

    return type_lines


def interrupt_after(monkeypatch, count):
    """The first answer is interrupted after so many tokens."""
    steps, made = command.decoding_steps, []

    def interrupted(*arguments):
        made.append(arguments)
        for i, step in enumerate(steps(*arguments)):
            if len(made) == 1 and i == count:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(command, "decoding_steps", interrupted)


def test_ctrl_c_stops_the_answer_and_keeps_it_in_the_conversation(monkeypatch, typed, capsys):
    interrupt_after(monkeypatch, 3)
    assert typed(FIRST, SECOND) == 0
    first = answer_to(FIRST, tokens=3)
    captured = capsys.readouterr()
    assert captured.out.split("\n", 1)[1] == f"{first}\n{answer_to(FIRST, first, SECOND)}\n\n"
    assert captured.err == "tinyslm: the answer ends after --tokens 6\n"


def test_ctrl_c_before_the_first_token_forgets_the_message(monkeypatch, typed, capsys):
    interrupt_after(monkeypatch, 0)
    assert typed(FIRST, KeyboardInterrupt(), SECOND) == 0
    assert capsys.readouterr().out.split("\n", 1)[1] == f"\n\n{answer_to(SECOND)}\n\n"


def test_an_error_in_a_terminal_does_not_end_the_conversation(typed, capsys):
    assert typed(FIRST, "bad", "a " * 200, SECOND) == 0
    captured = capsys.readouterr()
    first = answer_to(FIRST)
    assert captured.out.split("\n", 1)[1] == f"{first}\n{answer_to(FIRST, first, SECOND)}\n\n"
    _, refused, too_long, _ = captured.err.splitlines()
    assert refused.endswith(f"{FILE}, line 1: the chat template refuses the conversation: no bad")
    assert "/reset" in too_long


@pytest.mark.parametrize("count", [0, 3])
def test_ctrl_c_ends_the_command_in_a_pipe(monkeypatch, tmp_path, directory, count):
    interrupt_after(monkeypatch, count)
    assert chat(monkeypatch, tmp_path, directory, FIRST, SECOND) == 130


@pytest.mark.parametrize(
    ("template", "message", "parts"),
    [
        (TEMPLATE, "bad", [FILE, "line 1", "the chat template refuses the conversation: no bad"]),
        ("{{ raise_exception('not now') }}", FIRST, ["refuses the conversation: not now"]),
        ("{% for %}", FIRST, [FILE, "line 1", "TemplateSyntaxError"]),
        ("{{ messages[0].name.first }}", FIRST, ["UndefinedError"]),
    ],
)
def test_templates_that_fail(monkeypatch, tmp_path, capsys, template, message, parts):
    directory = save_chat_model(tmp_path / "model", template)
    assert chat(monkeypatch, tmp_path, directory, message) == 2
    assert_one_line(capsys.readouterr(), *parts)


def test_an_id_of_the_hub(monkeypatch, tmp_path, directory, capsys):
    """In the cache the files are links, and the directory is that of a revision."""
    add_to_cache(tmp_path / "cache", "org/chat", directory)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert chat(monkeypatch, tmp_path, "org/chat", FIRST) == 0
    assert capsys.readouterr().out == answer_to(FIRST) + "\n"


def test_bad_input(monkeypatch, tmp_path, directory, capsys):
    assert chat(monkeypatch, tmp_path, directory, content=b"\xff\n") == 2
    assert_one_line(capsys.readouterr(), "standard input: not UTF-8 text")
    for options, part in (
        (["--tokens", 0], "--tokens is 0"),
        (["--top-k", 0], "top_k is 0"),
        (["--stop", ""], "a stop text is empty"),
        (["--template", tmp_path / "none"], "none: cannot be read"),
        (["--seed", -1], "seed is -1"),
    ):
        assert chat(monkeypatch, tmp_path, directory, FIRST, options=options) == 2
        assert_one_line(capsys.readouterr(), part)


def test_bad_models(monkeypatch, tmp_path, directory, capsys):
    save(tmp_path / "plain", MODEL, TOKENIZER)
    assert chat(monkeypatch, tmp_path, tmp_path / "plain", FIRST) == 2
    assert_one_line(capsys.readouterr(), "plain: has no chat template", "tinyslm generate", "--template")
    save_encoder(tmp_path / "encoder")
    assert chat(monkeypatch, tmp_path, tmp_path / "encoder", FIRST) == 2
    assert_one_line(capsys.readouterr(), "a chat needs a decoder")
    (tmp_path / "plain" / "tokenizer_config.json").write_text("{")
    assert chat(monkeypatch, tmp_path, tmp_path / "plain", FIRST) == 2
    assert_one_line(capsys.readouterr(), "tokenizer_config.json: is not JSON")

    def without_jinja(*arguments):
        raise ConfigError(template_rendering.MISSING)

    monkeypatch.setattr("tinyslm.text.chat_template.render_template", without_jinja)
    assert chat(monkeypatch, tmp_path, directory, FIRST) == 2
    assert_one_line(capsys.readouterr(), 'pip install "tinyslm[chat]"')


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of POSIX systems")
def test_in_a_terminal(tmp_path):
    """Ctrl-C within an answer of many tokens; then the next message is answered, and Ctrl-D ends."""
    import pty

    directory = save_talking_model(tmp_path / "model")
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is ignored where the tests run in the background of a shell
        arguments = ["chat", str(directory), "--tokens", "900000", "--temperature", "0", "--stop", "zzz"]
        os.execve(sys.executable, [sys.executable, "-m", "tinyslm", *arguments], os.environ | {"COLUMNS": "80"})
    shown = ""

    def wait_for(has_come):
        nonlocal shown
        end = time.monotonic() + 60
        while not has_come(shown):
            assert select.select([terminal], [], [], max(end - time.monotonic(), 0))[0], shown[-500:]
            shown += os.read(terminal, 1 << 16).decode(errors="replace")

    try:
        for message in (FIRST, SECOND):
            wait_for(lambda shown: shown.endswith("> "))
            os.write(terminal, message.encode() + b"\n")
            wait_for(lambda shown, message=message: re.search(message + r"\s+[at]{20}", shown))
            os.write(terminal, b"\x03")
        wait_for(lambda shown: shown.endswith("> "))
        os.write(terminal, b"\x04")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    finally:
        os.close(terminal)  # ends the process if it still runs
    assert "Traceback" not in shown and "tinyslm:" not in shown
    assert max(map(len, shown.split("\r\n")[:1])) <= 80
