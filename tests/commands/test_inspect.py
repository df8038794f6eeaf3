"""tinyslm inspect: numbers that are right, for names and directories, in lines that fit a terminal."""

import json
import os
import re

import numpy as np
import pytest

from tests.commands.files import assert_one_line, run, write_text
from tests.strategies import generic_model
from tinyslm import footprint, save
from tinyslm.checkpoints.families import find_family
from tinyslm.checkpoints.tensor_mapping import tensor_mappings
from tinyslm.models import EncoderConfig, EncoderDecoderConfig, random_model, shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.recipes import Quantize
from tinyslm.reporting import terminal_table
from tinyslm.reporting.plain_text import width
from tinyslm.tree import named_arrays

MODEL = random_model(llama_shape(31, 16, 20, 3, 4, 2, 40))


def output(capsys, *arguments):
    assert run("inspect", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def numbers(capsys, *arguments):
    return json.loads(output(capsys, *arguments, "--json"))


def test_a_published_shape(capsys):
    shown = output(capsys, "llama-3.2-1b", "--context", 8192)
    for part in (
        "llama-3.2-1b: decoder, family llama (published shape without weights)",
        "layers.0-15 ×16",
        "feed-forward    805,306,368   65.2 %",
        "all           1,235,814,400  100.0 %",
        "Feed-forward layers hold 65.2 % of all parameters, and 82.8 % of those in layers.",
        "4.94 GB in float32",
        "2.47 GB in bfloat16",
        "1.24 GB in INT8",
        "1.24 G per token with weights",
        "537 M more in attention, with 8,192 tokens in the context",
        "32.8 kB per token in bfloat16, 268 MB for 8,192 tokens",
        "  FFFFFFFFFFFFFFFF\n",
        "  F  16 layers, 0-15  all earlier tokens  RoPE, theta 500,000, llama3 scaling",
    ):
        assert part in shown


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_published_shape_fits_in_a_terminal(capsys, name):
    shown = output(capsys, name)
    assert all(width(line) <= 110 for line in shown.splitlines())
    assert "None" not in shown


@pytest.mark.parametrize("arguments", [["gemma-3-1b"], ["t5-small"], ["--compare", *list(CATALOGUE)[:6]], []])
def test_nothing_is_wider_than_a_terminal_and_nothing_is_lost(capsys, monkeypatch, arguments):
    piped = output(capsys, *arguments)
    monkeypatch.setattr(terminal_table, "terminal_width", lambda: 80)
    shown = output(capsys, *arguments)
    assert all(width(line) <= 80 for line in shown.splitlines())
    assert set(piped.split()) - {"─" * 99} <= set(shown.split()) | {word for word in piped.split() if "─" in word}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "gemma-3-1b",
            [
                "WWWWWFWWWWWFWWWWWFWWWWWFWW",
                "W  22 layers, 0-4,6-10,…,24-25  the last 512 tokens  RoPE, theta 10,000",
                "F  4 layers, 5,11,17,23         all earlier tokens   RoPE, theta 1,000,000",
            ],
        ),
        ("gemma-2-2b", ["WFWFWFWFWFWFWFWFWFWFWFWFWF"]),
        (
            "smollm3-3b",
            ["FFFNFFFNFFFNFFFN", "N  9 layers, 3,7,…,35", "all earlier tokens  no position encoding"],
        ),
        ("phi-3-mini-128k", ["the last 262,144 tokens (all)"]),
        ("phi-2", ["RoPE, theta 10,000, 40 % of a head"]),
        ("gpt2", ["F  12 layers, 0-11  all earlier tokens  learned position embeddings"]),
        ("bert-base", ["BBBBBBBBBBBB", "B  12 layers, 0-11  all tokens, on both sides  learned position embeddings"]),
        ("t5-small", ["  encoder BBBBBB\n", "  decoder FFFFFF\n", "relative position biases", "Cross attention"]),
    ],
)
def test_what_the_layers_see(capsys, name, rows):
    shown = output(capsys, name)
    for row in rows:
        assert row in shown


def test_a_mixture_says_what_one_token_uses(capsys):
    assert "Active parameters per token: 12,879,925,248 (27.6 %)" in output(capsys, "mixtral-8x7b")
    assert "Active" not in output(capsys, "gpt2")


def test_an_encoder_has_no_cache(capsys):
    assert "cache" not in output(capsys, "bert-base")


def test_windows_limit_what_is_kept(capsys):
    found = numbers(capsys, "mistral-7b-v0.1", "--context", 8192)["mistral-7b-v0.1"]
    assert found["cache_bytes_per_token"] == 2 * 32 * 2 * 8 * 128
    assert found["cache_bytes"] == 4096 * found["cache_bytes_per_token"]


@pytest.mark.parametrize("model", [MODEL, Quantize()(MODEL)], ids=["dense", "quantized"])
def test_a_directory_says_what_its_model_says(capsys, tmp_path, model):
    save(tmp_path / "model", model)
    found = numbers(capsys, tmp_path / "model")[str(tmp_path / "model")]
    wanted = footprint(model)
    assert (found["parameters"], found["multiply_adds"]) == (wanted.parameters, wanted.multiply_adds)
    assert next(iter(found["memory"].values())) == wanted.bytes
    assert sum(found["stored"]["dtypes"].values()) * 8 == wanted.bits
    assert found["context"] == 40
    shown = output(capsys, tmp_path / "model")
    assert ("1 QuantizedEmbedding, 21 QuantizedLinear" in shown) == (model is not MODEL)


def test_only_headers_are_read(capsys, tmp_path):
    """A file of 14 GB that is nearly all hole."""
    config = CATALOGUE["mistral-7b-v0.3"]
    shapes = {path: array.shape for path, array in named_arrays(shape_model(config)).items()}
    header, position = {}, 0
    for name, mapping in tensor_mappings(find_family("mistral", ""), shapes).items():
        shape = mapping.stored_shape(shapes)
        end = position + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)
    (tmp_path / "config.json").write_text(json.dumps(find_family("mistral", "").write_config(config)))
    if os.stat(tmp_path / "model.safetensors").st_blocks * 512 > 2**30:
        pytest.skip("this file system has no holes")
    found = numbers(capsys, tmp_path)[str(tmp_path)]
    assert found["parameters"] == 7_248_023_552
    (form,) = found["stored"].pop("forms")
    assert found["stored"] == {"files": 1, "tensors": 291, "dtypes": {"BF16": 14_496_047_104}, "replaced": {}}
    assert (form["format"], form["bits"], form["tensors"], form["names"][0]) == ("BF16", 16, 291, "embed_tokens")


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig("bert", 40, 24, 36, 2, 3, 8, 20, type_vocab_size=2),
        EncoderConfig("bert", 40, 24, 36, 2, 3, 8, 20, type_vocab_size=2, masked_head=False, pooler=True),
        EncoderDecoderConfig("t5", 40, 24, 36, 2, 3, 3, 8, 8, 16),
    ],
)
def test_models_that_are_no_decoders(capsys, tmp_path, config):
    save(tmp_path / "model", generic_model(config, dtype=np.float32))
    shown = output(capsys, tmp_path / "model", "--context", 10)
    assert f"{footprint(generic_model(config)).parameters:,}" in shown
    assert "10 tokens in the context" in shown


def test_side_by_side(capsys):
    shown = output(capsys, "--compare", "llama-3.2-1b", "phi-3-mini-4k", "mixtral-8x7b", "bert-base").splitlines()
    rows = {cells[0].strip(): cells[1:] for cells in (re.split(r"(?<=\S) {2,}", line) for line in shown)}
    assert shown[0].split() == ["llama-3.2-1b", "phi-3-mini-4k", "mixtral-8x7b", "bert-base"]
    assert rows["parameters"] == ["1,235,814,400", "3,821,079,552", "46,702,792,704", "109,514,298"]
    assert rows["active per token"] == ["–", "–", "12,879,925,248", "–"]
    assert "512 tokens" in rows  # the shortest of the longest contexts
    first, last = (i for i, line in enumerate(shown) if line.startswith("─"))
    assert len({len(line) for line in shown[first : last + 1]}) == 1


def test_without_a_model_there_is_a_list(capsys):
    shown = output(capsys)
    assert "teacher" in shown and all(name in shown for name in CATALOGUE)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["gpt3"], ["gpt3: no such directory", "teacher", "mixtral-8x7b"]),
        (["gpt2", "llama-3.2-1b"], ["2 models", "--compare"]),
        (["gpt2", "--context", "1025"], ["--context is 1025", "gpt2 is 1024"]),
        (["--compare", "llama-3.2-1b", "gpt2", "--context", "1025"], ["gpt2 is 1024"]),
        (["gpt2", "--context", "0"], ["--context is 0"]),
        (["gpt2", "--context", "many"], ["--context"]),
    ],
)
def test_bad_input(capsys, arguments, parts):
    assert run("inspect", *arguments) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""


def test_bad_directories(capsys, tmp_path):
    path = write_text(tmp_path)
    assert run("inspect", path) == 2
    assert_one_line(capsys.readouterr(), "text.txt: is a file, expected the directory of a model")
    assert run("inspect", tmp_path) == 2
    assert_one_line(capsys.readouterr(), "config.json: no such file")
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert run("inspect", tmp_path) == 2
    assert_one_line(capsys.readouterr(), "model_type 'mamba' is not supported: it needs state-space layers")
