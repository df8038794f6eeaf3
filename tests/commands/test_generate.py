"""tinyslm generate: what is printed is the text and what `tinyslm.generate` says comes after it."""

import contextlib

import numpy as np
import pytest

from tests.commands.files import TEXT, assert_one_line, output, run, write_text
from tinyslm import generate, load, save
from tinyslm.commands import generate as command
from tinyslm.commands import text_stream
from tinyslm.generation import prepare
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.recipes import Quantize
from tinyslm.reporting.number_format import size
from tinyslm.text import train_tokenizer

TOKENIZER = train_tokenizer(TEXT.split("\n\n"), 280)
CONTEXT = 40
MODEL = random_model(llama_shape(280, 16, 24, 1, 2, 1, CONTEXT), seed=3, deviation=0.5)
PROMPTS = ["The", "The old cat saw the", "dog é"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    save(path, MODEL, TOKENIZER)
    return path


def expected(prompt, tokens, **options):
    """The prompt and its continuation up to the end of the document."""
    prompt_ids = TOKENIZER.encode(prompt).ids
    (row,) = generate(MODEL, [prompt_ids], tokens, **options)
    row = row.tolist()
    return prompt + TOKENIZER.decode(row[: row.index(0)] if 0 in row else row)


@pytest.mark.parametrize("prompt", [*PROMPTS, ""])
def test_a_greedy_continuation(directory, capsys, prompt):
    shown = output(capsys, prompt, "--model", directory, "--tokens", 12)
    assert shown == expected(prompt, 12) + "\n"


def test_a_seeded_continuation(directory, capsys):
    options = ["--model", directory, "--tokens", 12, "--temperature", 1.5, "--top-k", 50, "--top-p", 0.95, "--seed"]
    texts = [output(capsys, "The", *options, seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0] == expected("The", 12, temperature=1.5, top_k=50, top_p=0.95, seed=1) + "\n"


def test_weights_that_stay_in_the_file_or_are_rounded(directory, capsys):
    texts = [output(capsys, "The", "--model", directory, *option) for option in ([], ["--weights", "mapped"])]
    assert texts[0] == texts[1]
    (row,) = generate(load(directory, "int8")[0], [TOKENIZER.encode("The").ids], 12)
    row = row.tolist()
    wanted = "The" + TOKENIZER.decode(row[: row.index(0)] if 0 in row else row)
    assert output(capsys, "The", "--model", directory, "--weights", "int8", "--tokens", 12) == wanted + "\n"


def test_a_cache_in_bytes(directory, capsys):
    (row,) = generate(MODEL, [TOKENIZER.encode("The old").ids], 12, cache="int8")
    row = row.tolist()
    wanted = "The old" + TOKENIZER.decode(row[: row.index(0)] if 0 in row else row)
    assert output(capsys, "The old", "--model", directory, "--tokens", 12, "--cache", "int8") == wanted + "\n"


def test_copies_of_compressed_weights(tmp_path, directory, capsys):
    """The same text, faster. The memory of the copies is printed."""
    small = tmp_path / "small"
    save(small, Quantize()(MODEL), TOKENIZER)
    plain = output(capsys, "The old", "--model", small, "--tokens", 12)
    assert run("generate", "The old", "--model", small, "--tokens", 12, "--upcast") == 0
    captured = capsys.readouterr()
    assert captured.out == plain
    engine = prepare(Quantize()(MODEL), upcast=True)
    assert f"--upcast: {size(engine.num_bytes())} of copied weights beside the" in captured.err
    assert run("generate", "x", "--model", directory, "--upcast", "--cache", "int8") == 2
    assert_one_line(capsys.readouterr(), "--upcast needs --cache exact, found --cache int8")


def test_a_batch_of_different_lengths_equals_each_text_alone(directory, capsys):
    """The greedy continuations of these prompts do not depend on the last bits."""
    together = output(capsys, *PROMPTS, "--model", directory, "--tokens", 12)
    assert together == "".join(expected(prompt, 12) + "\n\n" for prompt in PROMPTS)


@pytest.mark.parametrize("texts", [["The old"], ["The old", "A cat"]])
def test_the_end_of_the_document_stops_and_is_not_shown(tmp_path, capsys, texts):
    """Where all logits are equal the first three tokens are drawn evenly, of which one is the end mark."""
    zeros = np.zeros_like(MODEL.embedding.table)
    model = MODEL.replace(embedding=MODEL.embedding.replace(table=zeros))
    save(tmp_path / "even", model, TOKENIZER)
    prompts = np.zeros((len(texts), 5), int)  # of any length: they decide nothing
    drawn = generate(model, prompts, 12, temperature=1.0, top_k=3, seed=8).tolist()
    options = ["--model", tmp_path / "even", "--tokens", 12, "--temperature", 1, "--top-k", 3, "--seed", 8]
    shown = output(capsys, *texts, *options)
    assert all(any(row[row.index(0) :]) for row in drawn)  # it would go on after the end mark
    ended = [text + TOKENIZER.decode(row[: row.index(0)]) for text, row in zip(texts, drawn, strict=True)]
    assert shown == "".join(text + "\n" * len(texts) for text in ended)
    shown = output(capsys, *texts, *options, "--ignore-eos")
    whole = [text + "".join("\n\n" if token == 0 else TOKENIZER.decode([token]) for token in row).rstrip("\n")
             for text, row in zip(texts, drawn, strict=True)]  # fmt: skip
    assert shown == "".join(text + "\n" * len(texts) for text in whole)


def test_the_number_of_tokens_is_cut_to_the_context(directory, capsys):
    prompt = TEXT[:60]
    length = len(TOKENIZER.encode(prompt).ids)
    shown = output(capsys, prompt, "--model", directory, "--tokens", 1000, "--temperature", 3, "--seed", 0)
    options = {"temperature": 3.0, "seed": 0}
    assert shown == expected(prompt, CONTEXT - length + 1, **options) + "\n"


def test_characters_of_several_tokens_are_printed_whole(capsys):
    tokens = TOKENIZER.encode("né 🐈!", add_special_tokens=False).ids
    pieces = []

    class Recorder:
        def write(self, text):
            pieces.append(text)

        def flush(self):
            pass

    with contextlib.redirect_stdout(Recorder()):
        command._print_stream("The", TOKENIZER.encode("The").ids, iter(tokens), TOKENIZER, ())
    assert "".join(pieces) == "Thené 🐈!\n"
    assert not any("\ufffd" in piece for piece in pieces)
    assert "🐈" in pieces


def test_a_tokenizer_whose_first_token_loses_its_space():
    """As those of SentencePiece do: decoded alone, " ran" would be glued to the prompt."""

    class Words:
        def decode(self, tokens):
            return " ".join(tokens)

    assert text_stream.continuation(["dog"], ["ran", "home", "END"], Words(), ("END",)) == " ran home"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["a", "--tokens", "0"], ["0", "at least 1"]),
        (["a", "--tokens", "-2"], ["-2", "at least 1"]),
        (["a", "--temperature", "-1"], ["temperature", "-1"]),
        (["a", "--temperature", "nan"], ["temperature", "nan"]),
        (["a", "--top-k", "0"], ["top_k"]),
        (["a", "--top-p", "1.5"], ["top_p"]),
        (["a", "--seed", "-1"], ["seed is -1"]),
        (["a", "--tokens", "x"], ["--tokens"]),
        (["a", "--weights", "int4"], ["--weights", "int4", "mapped"]),
        (["a", "--cache", "int4"], ["--cache", "int4", "exact", "int8"]),
        ([TEXT], ["longer than the model's context of 40", "shorten"]),
        (["a", TEXT], ["longer than the model's context of 40"]),
        (["caf\udce9"], ["not UTF-8"]),
    ],
)
def test_bad_input(directory, capsys, arguments, parts):
    assert run("generate", *arguments, "--model", directory) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""


def test_bad_models(tmp_path, capsys, directory):
    path = write_text(tmp_path)
    assert run("generate", "a", "--model", path) == 2
    assert_one_line(capsys.readouterr(), "text.txt: is a file, expected the directory of a model")
    assert run("generate", "a", "--model", tmp_path / "nothing") == 2
    assert_one_line(capsys.readouterr(), "nothing: no such directory")
    save(tmp_path / "bare", MODEL)
    assert run("generate", "a", "--model", tmp_path / "bare") == 2
    assert_one_line(capsys.readouterr(), "bare: has no tokenizer.json")
    (tmp_path / "bare" / "tokenizer.json").write_text("{}")
    assert run("generate", "a", "--model", tmp_path / "bare") == 2
    assert_one_line(capsys.readouterr(), "tokenizer.json: not a tokenizer.json")
    train_tokenizer([TEXT], 300).save(str(tmp_path / "bare" / "tokenizer.json"))
    assert run("generate", "g. The shy cat saw the g dog", "--model", tmp_path / "bare") == 2
    assert_one_line(capsys.readouterr(), "outside the vocabulary of 280")
