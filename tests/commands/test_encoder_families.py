"""fill, embed, trace and inspect with the families whose tokens, positions or windows are not those of BERT."""

import json

import numpy as np
import pytest
from scipy import special
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.commands.encoders import WORDS
from tests.commands.files import assert_one_line, run, write_text
from tests.golden import DIRECTORY
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.models import EncoderConfig

VOCABULARY = ("<s>", "<pad>", "</s>", "<unk>", *WORDS, "<mask>")  # as of MPNet: with all tokens of BERT, [MASK] too
CONTEXT = 9


def mpnet_tokenizer():
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(an MPNet, its directory)."""
    positions = {"pad_token_id": 1, "padding_idx": 1, "relative_attention_num_buckets": 32}
    sizes = len(VOCABULARY), 12, 20, 2, 3, 4, CONTEXT
    config = EncoderConfig("mpnet", *sizes, norm_eps=1e-2, transform_activation="gelu", **positions)
    directory, model = tmp_path_factory.mktemp("mpnet") / "model", generic_model(config, 1, np.float32)
    save(directory, model, mpnet_tokenizer())
    return model, directory


def token_ids(*words):
    return np.array([[VOCABULARY.index(word) for word in ("<s>", *words, "</s>")]])


def test_the_mask_token_is_that_of_the_tokenizer(saved, capsys):
    """Its vocabulary has [MASK] as well, which is a word like others there."""
    model, directory = saved
    assert run("fill", directory, "The old <mask> ran.", "--top", "1") == 0
    probabilities = special.softmax(model(token_ids("the", "old", "<mask>", "ran", "."))[0, 3].astype(np.float64))
    best = int(np.argmax(probabilities))
    assert capsys.readouterr().out.split() == [f"{probabilities[best]:.2%}", VOCABULARY[best]]
    assert run("fill", directory, "The old [MASK] ran.") == 2
    assert_one_line(capsys.readouterr(), "the text has no <mask>")


def test_trace_shows_the_tokens_at_the_mask(saved, capsys):
    _, directory = saved
    assert run("trace", directory, "The <mask> ran.") == 0
    assert "Most probable tokens at position 2:" in capsys.readouterr().out
    assert run("trace", directory, "The dog ran.") == 0
    assert "Write <mask> in the text" in capsys.readouterr().out


def test_texts_of_one_batch_have_the_vectors_they_have_alone(saved, tmp_path, capsys):
    """Positions of a shorter text do not depend on its padding; the longest text has the whole context."""
    model, directory = saved
    texts = [["the", "cat"], ["dog"], ["the", "old", "dog"] * 9]
    out, text = tmp_path / "vectors.npy", write_text(tmp_path, "\n".join(map(" ".join, texts)))
    assert run("embed", directory, text, "--out", out) == 0
    assert capsys.readouterr().err == f"tinyslm: cut to the model's context of {CONTEXT} tokens: line 3\n"
    for vector, words in zip(np.load(out), texts, strict=True):
        mean = model.hidden_states(token_ids(*words[: CONTEXT - 2]))[0].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_text_longer_than_the_positions(saved, capsys):
    """The table has two rows more than the context."""
    model, directory = saved
    assert len(model.position_embedding.table) == CONTEXT + 2
    assert run("fill", directory, "dog " * (CONTEXT - 2) + "<mask>") == 2
    message = f"a sequence of {CONTEXT + 1} tokens is longer than the model's context of {CONTEXT}"
    assert_one_line(capsys.readouterr(), message)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "modernbert",
            ["BWB", "all tokens, on both sides  RoPE, theta 20,000", "3 tokens on each side      RoPE, theta 50"],
        ),
        ("mpnet", ["BB", "all tokens, on both sides  learned position embeddings and relative position biases"]),
        ("roberta", ["BB", "all tokens, on both sides  learned position embeddings"]),
    ],
)
def test_inspect_names_positions_and_windows(capsys, monkeypatch, name, lines):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("inspect", DIRECTORY / name) == 0
    shown = capsys.readouterr().out
    for line in lines:
        assert f"{line}\n" in shown


def test_inspect_compares_windows(capsys):
    """Tokens of both sides and the token itself."""
    assert run("inspect", "--compare", DIRECTORY / "modernbert", DIRECTORY / "roberta", "--json") == 0
    first, second = json.loads(capsys.readouterr().out).values()
    assert [layer["window"] for layer in first["attention"]] == [None, 4, None]
    assert (first["longest_context"], second["longest_context"]) == (64, 19)
    assert run("inspect", "--compare", "modernbert-base", "roberta-base") == 0
    assert "129 in 14 of 22" in capsys.readouterr().out
