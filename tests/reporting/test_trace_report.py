"""What a pass looks like as text: aligned, complete, and saying what the numbers say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs, generic_model
from tinyslm import trace
from tinyslm.reporting.plain_text import width
from tinyslm.reporting.trace_report import (
    MOST_TOKENS,
    format_head,
    format_likely,
    format_steps,
    format_tokens,
    piece,
    shade,
)
from tinyslm.text import train_tokenizer

WORDS = {"▁the": 0, "▁cat": 1, "##s": 2, "a\nb": 3, "\x1b": 4, "": 5}
TOKENIZER = Tokenizer(models.WordLevel(WORDS, unk_token="##s"))


@pytest.mark.parametrize(
    ("token", "text"), [(0, "␣the"), (2, "##s"), (3, "a⏎b"), (4, "\ufffd"), (5, ""), (77, "token 77")]
)
def test_pieces(token, text):
    assert piece(TOKENIZER, token) == text


def test_pieces_of_bytes():
    tokenizer = train_tokenizer(["the cat"], 257)
    pieces = [piece(tokenizer, token) for token in tokenizer.encode("é a\n").ids]
    assert pieces == ["<|endoftext|>", "\ufffd", "\ufffd", "␣", "a", "⏎"]


@given(count=st.integers(1, 60), seed=st.integers(0, 99))
def test_tokens_in_blocks(count, seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 100_000, count).tolist()
    pieces = ["x" * int(n) for n in rng.integers(1, 30, count)]
    lines = format_tokens(pieces, ids)
    assert all(width(line) <= 100 for line in lines)
    shown = [int(word) for line in lines if line.startswith("id ") for word in line.split()[1:]]
    assert shown == ids[:MOST_TOKENS]
    assert (f"of {count} tokens" in lines[-1]) == (count > MOST_TOKENS)


@given(config=decoder_configs() | encoder_configs() | encoder_decoder_configs())
def test_every_step_is_explained_and_measured(config):
    model, tokens = generic_model(config, dtype=np.float32), np.array([[3, 1, 4]])
    inputs = {"decoder_token_ids": tokens[:, :2]} if config.num_decoder_layers else {}
    steps = trace(model, tokens, **inputs)
    lines = format_steps(steps)
    for line, (name, values) in zip(lines[1:], steps.items(), strict=False):
        shape = str(values.shape)
        assert line.startswith(name + " ") and shape in line
        letters, (mean, spread, meaning) = _split(line.partition(shape)[2])
        assert len(letters) == values.ndim, line
        if values.size:
            measured = [values.mean(), values.std()]
            np.testing.assert_allclose([float(mean), float(spread)], measured, atol=5.1e-5, rtol=1e-3)
        else:
            assert (mean, spread) == ("-", "-") and ".experts." in name
        assert len(meaning) > 8
    assert [name for name in steps if name not in "\n".join(lines)] == []


def _split(text):
    """The letters of a shape, and mean, spread and meaning."""
    words = text.split()
    count = next(i for i, word in enumerate(words) if not re.fullmatch("[A-Z]|HD", word))
    return words[:count], [*words[count : count + 2], " ".join(words[count + 2 :])]


@given(config=decoder_configs(num_hidden_layers=3, ropes=(), windows=(), dense_layers=()))
def test_the_steps_of_one_layer(config):
    steps = trace(generic_model(config), np.array([[3, 1, 4]]))
    names = [line.split()[0] for line in format_steps(steps, layer=1)[1:]]
    assert [name for name in names if name.startswith(("layers.", "attentions."))] == [
        name for name in steps if name.startswith(("layers.1.", "attentions.1"))
    ]
    assert [name for name in names if name.startswith("hidden")] == [f"hidden_states.{i}" for i in range(4)]


def test_a_head():
    probabilities = np.array([[1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.04, 0.46, 0.5]])
    lines = format_head(probabilities, ["<s>", "␣the", "cat"], ["<s>", "␣the", "cat"])
    assert lines == [
        "        ␣",
        "      < t c",
        "      s h a",
        "      > e t",
        " <s>  ██",
        "␣the  ▒▒██",
        " cat  ··▓▓▓▓",
    ]


@pytest.mark.parametrize(("T", "S"), [(50, 50), (3, 50), (50, 3), (MOST_TOKENS, MOST_TOKENS)])
def test_a_long_text_is_cut_with_a_note(T, S):
    lines = format_head(np.full((T, S), 1 / S), ["longer than the room for it"] * T, ["x"] * S)
    assert len([line for line in lines if "longer than" in line]) == min(T, MOST_TOKENS)
    assert all(width(line) <= 96 for line in lines)
    assert lines[-1].startswith("(the first") == (max(T, S) > MOST_TOKENS)


def test_shades_are_ordered_and_nothing_is_blank_but_zero():
    shades = [shade(p) for p in (0.0, 1e-30, 0.05, 0.2, 0.4, 0.7, 1.0)]
    assert shades == [" ", "·", "░", "▒", "▓", "█", "█"]


def test_the_likely_tokens():
    lines = format_likely(np.array([0.1, 0.5, 0.15, 0.0, 0.25], np.float32), TOKENIZER, count=3)
    assert lines == ["  50.0 %  ␣cat", "  25.0 %  \ufffd", "  15.0 %  ##s"]
