"""The tree of a model: every parameter once, equal layers as one, nothing said that is not so."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs
from tinyslm.compression.factorization.low_rank_linear import factorize_linear
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.models import random_model, shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Linear
from tinyslm.recipes import Quantize
from tinyslm.reporting.module_tree import outline
from tinyslm.reporting.number_format import index_ranges
from tinyslm.tree import map_modules


def depth(line):
    """How far a line is indented: 0 for what is directly below the model."""
    return (re.search(r"[├└]─ ", line.name).end() - 3) // 3


@given(config=decoder_configs() | encoder_configs() | encoder_decoder_configs())
def test_every_level_adds_up(config):
    model = shape_model(config)
    lines = outline(model)
    assert sum(line.parameters for line in lines if depth(line) == 0) == count_parameters(model)
    assert [line.name.count("└─ ") for line in lines if depth(line) == 0][-1] == 1


@given(indices=st.sets(st.integers(0, 12), min_size=1).map(sorted))
def test_index_ranges_name_every_index(indices):
    text = index_ranges(indices)
    if "…" in text:
        assert text.startswith(str(indices[0])) and text.endswith(str(indices[-1]))
    else:
        ranges = [list(map(int, part.split("-"))) for part in text.split(",")]
        assert [i for part in ranges for i in range(part[0], part[-1] + 1)] == indices


@pytest.mark.parametrize(
    ("indices", "text"),
    [([3], "3"), ([0, 1, 2, 5], "0-2,5"), ([0, 2, 4, 6], "0,2,4,6"), ([0, 2, 4, 6, 8, 9], "0,2,…,8-9")],
)
def test_index_ranges(indices, text):
    assert index_ranges(indices) == text


def rows(model):
    """{name without its branch: line}, of the first that has the name."""
    found = {}
    for line in outline(model):
        found.setdefault(line.name.split("─ ")[1], line)
    return found


def test_a_published_model():
    lines = rows(shape_model(CATALOGUE["mixtral-8x7b"]))
    assert lines["layers.0-31 ×32"].note == "1,451,270,144 in each"
    assert lines["attention"].note == "32 query heads share 8 key/value heads of 128"
    assert lines["feed_forward"].note == "each token uses 2 of 8 experts"
    assert lines["experts.0-7 ×8"].parameters == 8 * 3 * 4096 * 14336
    assert (lines["down"].shape, lines["key"].shape) == ("(4096, 14336)", "(1024, 4096)")
    assert lines["head"].shape == "(32000, 4096)"


def test_layers_that_differ_only_in_what_they_see_are_one():
    assert "layers.0-25 ×26" in rows(shape_model(CATALOGUE["gemma-3-1b"]))


def test_biases_and_tied_heads():
    lines = rows(shape_model(CATALOGUE["gpt2"]))
    assert lines["up"].shape == "(3072, 768) + (3072)"
    assert "output head" in lines["embedding"].note
    assert "output head" not in rows(shape_model(CATALOGUE["mixtral-8x7b"]))["embedding"].note


def test_compressed_layers_are_told_apart():
    model = random_model(llama_shape(31, 16, 20, 3, 4, 2))
    lines = rows(Quantize()(model))
    assert lines["embedding"].note == "8 bits per number; tied with the output head"
    assert (lines["up"].shape, lines["up"].note) == ("(20, 16)", "8 bits per weight")
    lines = rows(map_modules(lambda path, x: factorize_linear(x, 2) if "layers.1" in path else x, model, Linear))
    assert "layers.0,2 ×2" in lines and "layers.1" in lines
    assert lines["up"].note == ""


def test_notes_of_blocks():
    """The number of parameters of each block, and what the shapes do not show."""
    assert rows(shape_model(CATALOGUE["phi-2"]))["layers.0-31 ×32"].note == "78,671,360 in each; parallel"
    assert rows(shape_model(CATALOGUE["granite-3.1-2b"]))["layers.0-39 ×40"].note.endswith("; outputs times 0.22")
    assert rows(shape_model(CATALOGUE["gpt2"]))["layers.0-11 ×12"].note == "7,087,872 in each"
