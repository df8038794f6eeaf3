"""tinyslm fill: the tokens that the model finds most probable, each masked place by itself."""

import re

import numpy as np
import pytest
from scipy import special

from tests.commands.encoders import CONTEXT, WORDS, save_encoder, word_pieces
from tests.commands.files import assert_one_line, run
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.models.tiny_shapes import llama_shape

MASK, CLS, SEP = WORDS.index("[MASK]"), WORDS.index("[CLS]"), WORDS.index("[SEP]")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(an encoder with a masked head, its directory)."""
    return save_encoder(tmp_path_factory.mktemp("fill") / "model")


def shown(capsys, *arguments):
    """[(percentage, token)] of every line, and the headings."""
    assert run("fill", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = re.findall(r"^ *(\d+\.\d\d)%  (.+)$", captured.out, re.MULTILINE)
    headings = [line for line in captured.out.splitlines() if "%" not in line]
    assert len(rows) + len(headings) == captured.out.count("\n")
    return rows, headings


def expected(model, token_ids, place, count):
    """The same from the whole distribution."""
    probabilities = special.softmax(model(np.array([token_ids]))[0, place].astype(np.float64))
    best = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])[:count]
    return [(f"{100 * probabilities[i]:.2f}", WORDS[i] if i < len(WORDS) else f"token {i}") for i in best]


def test_one_masked_token(saved, capsys):
    model, directory = saved
    token_ids = [CLS, *map(WORDS.index, ["the", "old"]), MASK, *map(WORDS.index, ["ran", "."]), SEP]
    rows, headings = shown(capsys, directory, "The old [MASK] ran.")
    assert rows == expected(model, token_ids, 3, 5) and headings == []
    rows, _ = shown(capsys, directory, "The old [MASK] ran.", "--top", "1")
    assert rows == expected(model, token_ids, 3, 1)
    rows, _ = shown(capsys, directory, "The old [MASK] ran.", "--top", "1000")
    assert rows == expected(model, token_ids, 3, 1000) and len(rows) == len(WORDS) + 3
    assert sum(float(percentage) for percentage, _ in rows) == pytest.approx(100, abs=0.3)


def test_several_masked_tokens(saved, capsys):
    model, directory = saved
    token_ids = [CLS, MASK, WORDS.index("saw"), MASK, SEP]
    rows, headings = shown(capsys, directory, "[MASK] saw [MASK]", "--top", "3")
    assert rows == expected(model, token_ids, 1, 3) + expected(model, token_ids, 3, 3)
    assert headings == ["[MASK] 1 of 2", "[MASK] 2 of 2"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["the cat"], "the text has no [MASK]"),
        ([""], "the text has no [MASK]"),
        (["[mask]"], "the text has no [MASK]"),
        (["[MASK]", "--top", "0"], "--top is 0, expected at least 1"),
        (["[MASK] " * CONTEXT], f"longer than the model's context of {CONTEXT}"),
        (["caf\udce9 [MASK]"], "not UTF-8"),
    ],
)
def test_bad_input(saved, capsys, arguments, part):
    assert run("fill", saved[1], *arguments) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, part)
    assert captured.out == ""


def test_models_that_cannot_fill(tmp_path, capsys):
    save_encoder(tmp_path / "headless", masked_head=False, pooler=True)
    assert run("fill", tmp_path / "headless", "[MASK]") == 2
    assert_one_line(capsys.readouterr(), "headless: has no masked-LM head", "tinyslm embed")
    save_encoder(tmp_path / "bare", tokenizer=None)
    assert run("fill", tmp_path / "bare", "[MASK]") == 2
    assert_one_line(capsys.readouterr(), "bare: has no tokenizer.json, which filling in masked tokens needs")
    save_encoder(tmp_path / "unmasked", tokenizer=word_pieces([word for word in WORDS if word != "[MASK]"]))
    assert run("fill", tmp_path / "unmasked", "[MASK]") == 2
    assert_one_line(capsys.readouterr(), "its tokenizer has no mask token ([MASK] or <mask>)")
    save(tmp_path / "decoder", generic_model(llama_shape(60, 16, 24, 1, 2, 1, 40), 0, np.float32), word_pieces())
    assert run("fill", tmp_path / "decoder", "[MASK]") == 2
    assert_one_line(capsys.readouterr(), "decoder: is a llama model, but filling in masked tokens needs an encoder")
