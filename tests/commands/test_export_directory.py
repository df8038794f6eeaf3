"""tinyslm export --to compressed-tensors and --to transformers."""

import json
import os

import numpy as np
import pytest

import tinyslm
from tests.checkpoints.gguf_files import wide_model
from tests.commands.files import assert_one_line, run
from tests.text.gguf_metadata import BYTE_LEVEL, byte_level_tokenizer
from tinyslm.checkpoints import read_safetensors, save_model
from tinyslm.recipes import Factorize, Quantize, compress

CARRIED = {
    "generation_config.json": '{"eos_token_id": [0, 5]}',
    "tokenizer_config.json": '{"chat_template": "{{ messages }}"}',
    "chat_template.jinja": "{{ messages }}",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A Qwen2 in bfloat16 with a tokenizer, a chat template and two tokens that end a text."""
    path = tmp_path_factory.mktemp("models") / "qwen"
    model = wide_model("qwen2", vocab_size=340, use_sliding_window=False)
    save_model(path, model, byte_level_tokenizer(*BYTE_LEVEL["qwen2"]), "bfloat16")
    for name, text in CARRIED.items():
        (path / name).write_text(text)
    return path


def saved(directory, path, *steps):
    """Save the model of a directory after some steps; returns the path and the model."""
    model, tokenizer = tinyslm.load(directory)
    small, _ = compress(model, list(steps), None)
    tinyslm.save(path, small, tokenizer)
    return path, small


def size(path):
    """Size of the weights as the command prints it, from the length of the file without its header."""
    content = (path / "model.safetensors").read_bytes()
    return f"{(len(content) - 8 - int.from_bytes(content[:8], 'little')) / 1e3:.3g} kB"


def test_quantized_layers_keep_their_codes(directory, tmp_path, capsys):
    path, model = saved(directory, tmp_path / "small", Quantize(bits=4, group_size=32))
    out = tmp_path / "new" / "out"
    assert run("export", path, "--to", "compressed-tensors", out) == 0
    printed = capsys.readouterr()
    first, forms, *notes = printed.out.splitlines()
    assert first == f"{out}: compressed-tensors, {size(out)}; {path}: {size(path)}"
    assert forms == "     14 matrices  4 bits, groups of 32"
    assert (
        notes[0].startswith("- 1 QuantizedEmbedding (embedding) is a dense matrix, ")
        and "outside the blocks" in notes[0]
    )
    assert printed.err == "" and os.listdir(out.parent) == ["out"]
    found, tokenizer = tinyslm.load(out, "stored")
    token_ids = np.array([tokenizer.encode("The cat").ids])
    np.testing.assert_allclose(found(token_ids), model(token_ids), rtol=1e-4, atol=2e-5)
    assert {name: (out / name).read_text() for name in CARRIED} == CARRIED


def test_low_rank_layers_are_folded(directory, tmp_path, capsys):
    path, model = saved(directory, tmp_path / "small", Factorize(0.5))
    out = tmp_path / "out"
    assert run("export", path, "--to", "transformers", out) == 0
    printed = capsys.readouterr()
    first, note = printed.out.splitlines()
    assert first == f"{out}: transformers, {size(out)}; {path}: {size(path)}" and printed.err == ""
    assert note.startswith("- 14 LowRankLinear (layers.0.attention.query, ...) are dense matrices, ")
    found, tokenizer = tinyslm.load(out)
    token_ids = np.array([tokenizer.encode("The cat").ids])
    np.testing.assert_allclose(found(token_ids), model(token_ids), rtol=1e-4, atol=2e-5)
    assert {name: (out / name).read_text() for name in CARRIED} == CARRIED
    assert "tinyslm" not in json.loads((out / "config.json").read_text())
    assert run("export", path, "--to", "transformers", tmp_path / "half", "--dtype", "float16") == 0
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"


def test_the_codes_of_a_quantized_file_are_kept(directory, tmp_path, capsys):
    """What another program quantized, here a directory that was exported."""
    path, _ = saved(directory, tmp_path / "small", Quantize(bits=4, group_size=32))
    assert run("export", path, "--to", "compressed-tensors", tmp_path / "a") == 0
    assert run("export", tmp_path / "a", "--to", "compressed-tensors", tmp_path / "b") == 0
    first, again = (read_safetensors(tmp_path / name / "model.safetensors") for name in "ab")
    assert set(first) == set(again)
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor.read(), again[name].read())
    one, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert one == other
    assert run("export", tmp_path / "a", "--to", "transformers", tmp_path / "c") == 0
    assert "14 PackedLinear (layers.0.attention.query, ...) are dense matrices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "compressed-tensors"), "no layer has codes that compressed-tensors holds, found dense layers only"),
        (("--to", "transformers", "--dtype", "f16"), "--dtype is f16, expected one of float32, float16, bfloat16"),
        (("--to", "transformers", "--no-tokenizer"), "--no-tokenizer is for gguf, found --to transformers"),
        (("--to", "onnx"), "invalid choice: 'onnx'"),
    ],
)
def test_bad_arguments(directory, tmp_path, capsys, arguments, message):
    assert run("export", directory, tmp_path / "out", *arguments) == 2
    assert_one_line(capsys.readouterr(), message)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(directory, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run("export", directory, tmp_path, "--to", "transformers") == 2
    assert_one_line(capsys.readouterr(), tmp_path, "exists already")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
