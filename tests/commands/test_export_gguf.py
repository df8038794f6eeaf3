"""tinyslm export --to gguf."""

import os

import numpy as np
import pytest

import tinyslm
from tests.checkpoints.gguf_files import wide_model
from tests.checkpoints.models import small_model
from tests.commands.files import assert_one_line, run
from tests.text.gguf_metadata import BYTE_LEVEL, SPECIAL, byte_level_tokenizer
from tinyslm.checkpoints import save_model
from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.compression.quantization import linear_from_codes, quantize
from tinyslm.modules import Linear
from tinyslm.recipes import Factorize
from tinyslm.reporting.number_format import size
from tinyslm.tree import map_modules

TEXT = "The cat THINKs 12345"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A Qwen2 with a tokenizer, a chat template and two tokens that end a text."""
    path = tmp_path_factory.mktemp("models") / "qwen"
    model = wide_model("qwen2", vocab_size=340, use_sliding_window=False)
    save_model(path, model, byte_level_tokenizer(*BYTE_LEVEL["qwen2"]), "bfloat16")
    (path / "generation_config.json").write_text('{"eos_token_id": [0, 5]}')
    settings = f'{{"eos_token": "{SPECIAL[0]}", "chat_template": "{{{{ messages }}}}"}}'
    (path / "tokenizer_config.json").write_text(settings)
    return path


def test_the_file_is_the_model(directory, tmp_path, capsys):
    """Logits, tokens, chat template and end tokens; the dtype of the directory."""
    out = tmp_path / "new" / "model.gguf"
    assert run("export", directory, "--to", "gguf", out) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == f"{out}: GGUF, architecture qwen2, {size(os.path.getsize(out))}"
    assert "  BF16     16 tensors" in printed.out and "  F32" in printed.out and printed.err == ""
    model, tokenizer = tinyslm.load(directory)
    found, again = tinyslm.load(out)
    token_ids = np.array([tokenizer.encode(TEXT).ids])
    assert again.encode(TEXT).ids == token_ids[0].tolist()
    np.testing.assert_array_equal(found(token_ids), model(token_ids))
    assert again.chat_template == "{{ messages }}"
    assert read_generation_config(out).end_tokens[:2] == (0, 5)
    assert os.listdir(out.parent) == ["model.gguf"]


def test_a_quantized_model(directory, tmp_path, capsys):
    """Codes are kept, and what differs is printed; a file that is quantized is read with its codes."""
    model, tokenizer = tinyslm.load(directory)

    def make(path, layer):
        return linear_from_codes(quantize(layer.weight, bits=4, group_size=32), layer.bias)

    tinyslm.save(tmp_path / "small", map_modules(make, model, Linear), tokenizer)
    assert run("export", tmp_path / "small", "--to", "gguf", "--dtype", "Q8_0", tmp_path / "a.gguf") == 0
    printed = capsys.readouterr().out
    assert (
        "- 15 PackedLinear: codes kept in Q4_0, 46.8 kB in place of" in printed
        and "- scales are rounded to float16" in printed
    )
    assert run("export", tmp_path / "a.gguf", "--to", "gguf", tmp_path / "b.gguf") == 0
    token_ids = np.array([tokenizer.encode(TEXT).ids])
    first, second = (tinyslm.load(tmp_path / name)[0](token_ids) for name in ("a.gguf", "b.gguf"))
    np.testing.assert_array_equal(first, second)


def test_low_rank_layers_are_named_with_their_size(directory, tmp_path, capsys):
    model, tokenizer = tinyslm.load(directory)
    tinyslm.save(tmp_path / "small", Factorize(0.5)(model), tokenizer)
    assert run("export", tmp_path / "small", "--to", "gguf", tmp_path / "a.gguf") == 0
    assert "- 14 LowRankLinear: dense matrices in F32, 246 kB in place of 121 kB" in capsys.readouterr().out


def test_without_a_tokenizer(tmp_path, capsys):
    save_model(tmp_path / "model", wide_model("llama"))
    arguments = ("export", tmp_path / "model", "--to", "gguf", tmp_path / "model.gguf")
    assert run(*arguments) == 2
    assert_one_line(capsys.readouterr(), "has no tokenizer; with --no-tokenizer the file holds none")
    assert run(*arguments, "--no-tokenizer") == 0
    assert "- there is no tokenizer in the file: programs take token ids only" in capsys.readouterr().out
    assert run("export", tmp_path / "model.gguf", "--to", "gguf", "--no-tokenizer", tmp_path / "again.gguf") == 0
    assert "tokenizer.ggml.model is 'no_vocab', expected gpt2 or llama" in capsys.readouterr().err


def test_a_tokenizer_that_gguf_does_not_hold(directory, tmp_path, capsys):
    model, _ = tinyslm.load(directory)
    save_model(tmp_path / "model", model, byte_level_tokenizer(BYTE_LEVEL["gpt-2"][0], True, None))
    assert run("export", tmp_path / "model", "--to", "gguf", tmp_path / "model.gguf") == 2
    assert_one_line(capsys.readouterr(), "splits texts in a way that llama.cpp does not have", "with --no-tokenizer")
    assert os.listdir(tmp_path) == ["model"]


def test_wrong_arguments(directory, tmp_path, capsys):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine")
    save_model(tmp_path / "phi", small_model("phi"))
    save_model(tmp_path / "bert", small_model("bert"))
    (tmp_path / "empty").mkdir()
    out = tmp_path / "model.gguf"
    for arguments, message in [
        ((directory, "--to", "gguf", mine), "mine.gguf: exists already; choose another path or remove it first"),
        ((directory, "--to", "gguf", tmp_path), "exists already"),
        ((directory, "--to", "gguf", mine / "a.gguf"), "cannot be written"),
        ((directory, "--to", "gguf", "--dtype", "q5_k", out), "--dtype is q5_k, expected one of f32, f16, bf16, q8_0"),
        ((directory, "--to", "onnx", out), "invalid choice: 'onnx'"),
        ((directory, out), "--to"),
        ((tmp_path / "phi", "--to", "gguf", out), "family phi cannot be written as GGUF, expected one of gemma"),
        ((tmp_path / "bert", "--to", "gguf", out), "bert"),
        ((tmp_path / "nowhere", "--to", "gguf", out), "no such directory"),
        ((tmp_path / "empty", "--to", "gguf", out), "empty/model.safetensors: no such file"),
        ((mine, "--to", "gguf", out), "mine.gguf"),
    ]:
        assert run("export", *arguments) == 2
        assert_one_line(capsys.readouterr(), message)
    assert mine.read_bytes() == b"mine" and not out.exists()
