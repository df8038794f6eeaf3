"""tinyslm generate with an encoder-decoder: the text is the source, and what is printed is the answer alone."""

import numpy as np
import pytest

from tests.commands.files import TEXT, assert_one_line, output, run
from tests.strategies import generic_model
from tinyslm import generate, save
from tinyslm.models import EncoderDecoderConfig
from tinyslm.text import train_tokenizer

TOKENIZER = train_tokenizer(TEXT.split("\n\n"), 280)
CONFIG = EncoderDecoderConfig("t5", 280, 16, 24, 1, 2, 2, 8, 8, 20, tie_word_embeddings=False, eos_token_id=1)
MODEL = generic_model(CONFIG, 1, np.float32)
SOURCES = ["The", "The old cat saw the", "dog é"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    save(path, MODEL, TOKENIZER)
    return path


def answer(source, tokens, model=MODEL, **options):
    """What the model writes after reading a text, up to the end."""
    row = generate(model, [TOKENIZER.encode(source).ids], tokens, **options)[0].tolist()
    return TOKENIZER.decode(row[: row.index(1)] if 1 in row else row)


@pytest.mark.parametrize("source", SOURCES)
def test_an_answer(directory, capsys, source):
    assert output(capsys, source, "--model", directory, "--tokens", 12) == answer(source, 12) + "\n"


def test_a_seeded_answer_of_any_length(directory, capsys):
    options = ["--temperature", 1.5, "--top-k", 50, "--top-p", 0.95, "--seed", 1]
    shown = output(capsys, TEXT[:200], "--model", directory, "--tokens", 60, *options)
    assert shown == answer(TEXT[:200], 60, temperature=1.5, top_k=50, top_p=0.95, seed=1) + "\n"


def test_a_batch_of_different_lengths_equals_each_source_alone(directory, capsys):
    together = output(capsys, *SOURCES, "--model", directory, "--tokens", 12)
    assert together == "".join(answer(source, 12) + "\n\n" for source in SOURCES)
    assert len(set(together.split("\n\n"))) == len(SOURCES) + 1  # the answers differ


@pytest.mark.parametrize("sources", [["The old"], ["The old", "A cat"]])
def test_the_end_of_the_answer_stops_and_is_not_shown(tmp_path, capsys, sources):
    """Where all logits are equal the first three tokens are drawn evenly, of which one is the end."""
    model = MODEL.replace(head=MODEL.head.replace(weight=np.zeros_like(MODEL.head.weight)))
    save(tmp_path / "even", model, TOKENIZER)
    drawn = generate(model, np.zeros((len(sources), 5), int), 12, temperature=1.0, top_k=3, seed=8).tolist()
    options = ["--model", tmp_path / "even", "--tokens", 12, "--temperature", 1, "--top-k", 3, "--seed", 8]
    shown = output(capsys, *sources, *options)
    assert all(1 in row[:-1] for row in drawn)  # it would go on after the end
    ended = [TOKENIZER.decode(row[: row.index(1)]) for row in drawn]
    assert shown == "".join(text + "\n" * len(sources) for text in ended)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["a", "--tokens", "0"], ["0", "at least 1"]),
        (["a", "--temperature", "-1"], ["temperature", "-1"]),
        (["caf\udce9"], ["not UTF-8"]),
    ],
)
def test_bad_input(directory, capsys, arguments, parts):
    assert run("generate", *arguments, "--model", directory) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""
