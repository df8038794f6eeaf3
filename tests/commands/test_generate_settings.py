"""tinyslm generate: settings and end tokens of generation_config.json, stop texts, and where prompts come from."""

import contextlib
import io
import json

import pytest

from tests.commands.files import TEXT, assert_one_line, output, run, write_text
from tinyslm import generate, save
from tinyslm.commands import generate as command
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import train_tokenizer

TOKENIZER = train_tokenizer(TEXT.split("\n\n"), 280)
MODEL = random_model(llama_shape(280, 16, 24, 1, 2, 1, 40), seed=3, deviation=0.5)
PROMPT = "The old"
PROMPT_IDS = TOKENIZER.encode(PROMPT).ids


@pytest.fixture
def directory(tmp_path):
    save(tmp_path / "model", MODEL, TOKENIZER)
    return tmp_path / "model"


def configure(directory, **values):
    (directory / "generation_config.json").write_text(json.dumps(values))


def written(tokens=12, prompt_ids=PROMPT_IDS, **options):
    """The new tokens of a generation."""
    return generate(MODEL, [prompt_ids], tokens, **options)[0].tolist()


def text_of(row):
    return TOKENIZER.decode(PROMPT_IDS + row)


def test_the_end_tokens_of_the_file_end_the_text(directory, capsys):
    row = written()
    options = [PROMPT, "--model", directory, "--tokens", 12]
    assert output(capsys, *options) == text_of(row) + "\n"
    end = row[5]
    for ends in (end, [0, end]):
        configure(directory, eos_token_id=ends)
        assert output(capsys, *options) == text_of(row[: row.index(end)]) + "\n"
    assert output(capsys, PROMPT, *options) == 2 * (text_of(row[: row.index(end)]) + "\n\n")
    documents = output(capsys, *options, "--ignore-eos").split("\n\n")
    assert documents[0] == text_of(row[: row.index(end)]) and len(documents) > 1


def test_the_settings_of_the_file_are_used_where_no_option_is_given(directory, capsys):
    configure(directory, do_sample=True, temperature=2.5, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    given = {"temperature": 2.5, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}
    for option, name, value in (
        ([], "top_k", 30),
        (["--temperature", 1.5], "temperature", 1.5),
        (["--temperature", 0], "temperature", 0),
        (["--top-k", 5], "top_k", 5),
        (["--top-p", 0.5], "top_p", 0.5),
        (["--min-p", 0.3], "min_p", 0.3),
        (["--repetition-penalty", 3], "repetition_penalty", 3),
    ):
        shown = output(capsys, PROMPT, "--model", directory, "--tokens", 12, "--seed", 1, *option)
        row = written(seed=1, **(given | {name: value}))
        assert shown == text_of(row[: row.index(0)] if 0 in row else row) + "\n", option


def test_a_file_that_does_not_sample(directory, capsys):
    configure(directory, temperature=2.5, top_k=3)
    options = [PROMPT, "--model", directory, "--tokens", 12]
    assert output(capsys, *options) == text_of(written()) + "\n"
    shown = output(capsys, *options, "--temperature", 3, "--seed", 4)
    assert shown == text_of(written(temperature=3.0, seed=4)) + "\n"


def test_a_wrong_file_is_one_line(directory, capsys):
    configure(directory, do_sample=True, top_k="20")
    assert run("generate", PROMPT, "--model", directory) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, "generation_config.json: top_k is '20', expected an integer from 0")
    assert captured.out == ""


def test_a_stop_text_is_not_shown(directory, capsys):
    whole = text_of(written())
    stop = whole[-4:-1]
    wanted = whole[: whole.index(stop, len(PROMPT))]
    options = ["--model", directory, "--tokens", 12]
    assert output(capsys, PROMPT, *options, "--stop", stop) == wanted + "\n"
    assert output(capsys, PROMPT, *options, "--stop", "not in the text", "--stop", stop) == wanted + "\n"
    assert output(capsys, PROMPT, *options, "--stop", "not in the text") == whole + "\n"
    assert output(capsys, PROMPT, PROMPT, *options, "--stop", stop) == 2 * (wanted + "\n\n")
    assert output(capsys, PROMPT, *options, "--stop", PROMPT) == whole + "\n"  # of the prompt


@pytest.mark.parametrize(
    ("continuation", "stops", "wanted"),
    [
        (" cat zq zqx zqxv xx", ["zqxv"], " cat zq zqx "),
        (" cat zqx", ["zqxv"], " cat zqx"),  # ends within what may be a stop text
        (" cat zqx", [], " cat zqx"),
        (" cat né zqx", ["é zqx", "x"], " cat n"),
    ],
)
def test_no_part_of_a_stop_text_is_streamed(continuation, stops, wanted):
    """These stop texts have several tokens. What is shown grows, and no token is requested after the stop text."""
    tokens = TOKENIZER.encode(continuation, add_special_tokens=False).ids
    pieces, requested = [], []

    class Recorder(io.StringIO):
        def write(self, text):
            pieces.append((len(requested), text))
            return len(text)

    def new_tokens():
        for token in tokens:
            requested.append(token)
            yield token

    with contextlib.redirect_stdout(Recorder()):
        command._print_stream("The", TOKENIZER.encode("The").ids, new_tokens(), TOKENIZER, (), stops)
    assert "".join(text for _, text in pieces) == f"The{wanted}\n"
    read = TOKENIZER.decode(requested)
    assert not any(stop in TOKENIZER.decode(requested[:-1]) for stop in stops)
    assert read == continuation or any(stop in read for stop in stops)
    assert pieces[0][0] == 1  # the first token is shown at once


def test_a_batch_ends_with_its_last_stop_text(directory, capsys, monkeypatch):
    """Rows stop at different steps; no step is computed after the last."""
    rows = [written(), written(prompt_ids=TOKENIZER.encode("A cat").ids)]
    texts = [text_of(rows[0]), TOKENIZER.decode(TOKENIZER.encode("A cat").ids + rows[1])]
    stops = [texts[0][len(PROMPT) + 3 :][:3], texts[1][len("A cat") + 6 :][:3]]
    steps, stream = [], command.stream

    def counting(*arguments, **options):
        for tokens in stream(*arguments, **options):
            steps.append(tokens)
            yield tokens

    monkeypatch.setattr(command, "stream", counting)
    shown = output(
        capsys, PROMPT, "A cat", "--model", directory, "--tokens", 12, "--stop", stops[0], "--stop", stops[1]
    )

    def cut(text, start):
        return text[: min(at for stop in stops if (at := text.find(stop, start)) >= 0)]

    assert shown == f"{cut(texts[0], len(PROMPT))}\n\n{cut(texts[1], len('A cat'))}\n\n"
    assert len(steps) < 12


def test_a_prompt_from_a_file_or_from_standard_input(directory, tmp_path, capsys, monkeypatch):
    options = ["--model", directory, "--tokens", 12]
    wanted = output(capsys, PROMPT, *options)
    for content in (PROMPT, PROMPT + "\n", PROMPT + "\r\n", b"\xef\xbb\xbf" + PROMPT.encode()):
        path = write_text(tmp_path, content, "prompt.txt")
        assert output(capsys, "--file", path, *options) == wanted
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            assert output(capsys, "-", *options) == wanted
    path = write_text(tmp_path, "The\n\n", "prompt.txt")  # only the last newline is left out
    assert output(capsys, "--file", path, *options) == output(capsys, "The\n", *options)
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert output(capsys, "-", PROMPT, *options) == output(capsys, "The\n", PROMPT, *options)


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        ("a", ["text", "--file", "FILE"], ["expected one of TEXT and --file PATH", "--help"]),
        ("a", [], ["expected one of TEXT and --file PATH", "--help"]),
        ("", ["--file", "FILE"], ["prompt.txt: contains no text"]),
        ("\n", ["--file", "FILE"], ["prompt.txt: contains no text"]),
        (b"\xff\xfe", ["--file", "FILE"], ["prompt.txt: not UTF-8 text"]),
        ("a", ["--file", "no-such-file"], ["no-such-file: cannot be read"]),
        ("a", ["a", "--stop", ""], ["a stop text is empty"]),
        ("a", ["a", "--min-p", "2"], ["min_p is 2.0"]),
        ("a", ["a", "--repetition-penalty", "0"], ["repetition_penalty is 0.0"]),
    ],
)
def test_bad_input(directory, tmp_path, capsys, content, arguments, parts):
    path = write_text(tmp_path, content, "prompt.txt")
    arguments = [str(path) if argument == "FILE" else argument for argument in arguments]
    assert run("generate", *arguments, "--model", directory) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""
