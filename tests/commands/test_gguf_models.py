"""Commands with a GGUF file, or a directory that holds one, as the model."""

import io

import gguf
import numpy as np
import pytest

import tinyslm
from tests.checkpoints.gguf_files import wide_model, write_gguf
from tests.commands.files import assert_one_line, output, run, write_text
from tests.text.gguf_metadata import byte_level_metadata
from tinyslm.commands.compression_inputs import CompressionOptions, digest_of_files
from tinyslm.text.text_source import source_of_files

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A Llama of two layers with a byte-level tokenizer and a chat template."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    metadata = byte_level_metadata() | {"tokenizer.chat_template": TEMPLATE}
    model = wide_model("llama", vocab_size=340, max_position_embeddings=96)
    write_gguf(path, model, types={"ffn_up.weight": gguf.GGMLQuantizationType.Q8_0}, metadata=metadata)
    return path


def test_generate(path, capsys):
    model, tokenizer = tinyslm.load(path)
    token_ids = np.array([tokenizer.encode("The cat").ids])
    text = tokenizer.decode(tinyslm.generate(model, token_ids, 4)[0])
    arguments = ["The cat", "--tokens", 4, "--ignore-eos", "--model"]
    assert output(capsys, *arguments, path) == output(capsys, *arguments, path.parent) == f"The cat{text}\n"
    assert output(capsys, *arguments, path, "--weights", "mapped") == f"The cat{text}\n"


def test_chat(path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hello\n")))
    assert run("chat", path, "--tokens", 3) == 0
    capsys.readouterr()
    _, tokenizer = tinyslm.load(path)
    prompt = tinyslm.chat_prompt(tokenizer, [{"role": "user", "content": "Hello"}])[0]
    assert tokenizer.decode(prompt, skip_special_tokens=False) == "<|begin|>user: Hello\n"


def test_evaluate(path, tmp_path, capsys):
    """The same loss as of the saved directory."""
    text = write_text(tmp_path)
    tinyslm.save(tmp_path / "saved", *tinyslm.load(path))
    assert run("evaluate", path, "--text", text) == 0
    printed = capsys.readouterr().out
    assert run("evaluate", tmp_path / "saved", "--text", text) == 0
    assert printed == capsys.readouterr().out and "bits per byte" in printed


def test_inspect(path, capsys):
    assert run("inspect", path) == 0
    printed = capsys.readouterr().out
    assert "model.gguf: decoder, family llama (from file headers)" in printed and "in Q8_0" in printed


def test_a_sweep_knows_the_file(path, tmp_path):
    """The digest changes with the content of the file."""
    options = CompressionOptions(str(path), source_of_files([str(write_text(tmp_path))], "paragraph", None))
    before = digest_of_files(options)
    assert digest_of_files(options) == before
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + b"\1")
        assert digest_of_files(options) != before
    finally:
        path.write_bytes(content)


def test_a_tokenizer_of_an_unknown_kind(tmp_path, capsys):
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), metadata=byte_level_metadata(pre="new"))
    assert run("generate", "a", "--model", tmp_path) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "model.gguf: tokenizer.ggml.pre is 'new', expected one of gpt-2" in first
    assert second.endswith("has no tokenizer of a known kind, which generating from text needs")


def test_several_files(tmp_path, capsys):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert run("inspect", tmp_path) == 2
    assert_one_line(capsys.readouterr(), "holds 2 GGUF files: give the path of one, such as", "a.gguf")
