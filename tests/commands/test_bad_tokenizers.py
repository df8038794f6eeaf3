"""A tokenizer that loads and cannot encode: every command refuses it with one line that names the text."""

import json
import re

import numpy as np
import pytest

from tests.commands.encoders import save_encoder
from tests.commands.files import QUICK, assert_one_line, run, write_text
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.commands import train
from tinyslm.models import EncoderDecoderConfig
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import town

UNKNOWN = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"the": 0, "[MASK]": 1, ".": 2}}
FOREIGN = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "[MASK]": 1, "the": 999, "zebra": 998}}
MESSAGES = {
    "unknown": (UNKNOWN, ("cannot encode the text", "Missing [UNK] token", "use another tokenizer.json")),
    "foreign": (
        FOREIGN,
        ("token id 99", "of the text", "outside the vocabulary of ", "use the tokenizer.json of this"),
    ),
}
TOWN = ("--text", "town", "--town-documents", 1, "--questions", 1)


def write_tokenizer(directory, model):
    values = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    values |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model}
    (directory / "tokenizer.json").write_text(json.dumps(values))


@pytest.fixture(params=MESSAGES)
def models(request, tmp_path):
    """Directories of a decoder, an encoder-decoder and an encoder with the tokenizer, and the parts of its message."""
    model, message = MESSAGES[request.param]
    decoder = llama_shape(30, 16, 20, 1, 4, 2, 64)
    encoder_decoder = EncoderDecoderConfig("t5", 30, 10, 14, 1, 1, 2, 4, 8, 9, eos_token_id=1)
    for name, config in {"decoder": decoder, "encoder_decoder": encoder_decoder}.items():
        save(tmp_path / name, generic_model(config, dtype=np.float32))
    save_encoder(tmp_path / "encoder")
    for name in ("decoder", "encoder_decoder", "encoder"):
        write_tokenizer(tmp_path / name, model)
    return tmp_path, message


def test_texts_of_the_command_line(models, capsys):
    directory, message = models
    lines = write_text(directory, "the\nthe zebra\n", "lines.txt")
    for arguments in (
        ("generate", "the zebra", "--model", directory / "decoder"),
        ("generate", "the", "the zebra", "--model", directory / "encoder_decoder"),
        ("fill", directory / "encoder", "the zebra [MASK]"),
        ("embed", directory / "encoder", lines),
        ("trace", directory / "decoder", "the zebra"),
        ("trace", directory / "encoder", "the zebra"),
        ("trace", directory / "encoder_decoder", ".", "--target", "the zebra"),
    ):
        assert run(*arguments) == 2, arguments
        assert_one_line(capsys.readouterr(), *message)


def test_documents(models, capsys):
    directory, message = models
    text = write_text(directory)
    for arguments in (
        ("evaluate", directory / "decoder", "--text", text),
        ("evaluate", directory / "decoder", *TOWN),
        ("compress", directory / "decoder", "--text", text, "--out", directory / "out"),
    ):
        assert run(*arguments) == 2, arguments
        assert_one_line(capsys.readouterr(), *message)
        assert not (directory / "out").exists()


def test_an_option_of_the_exam_without_tokens(tmp_path, capsys):
    save(tmp_path / "decoder", generic_model(llama_shape(30, 16, 20, 1, 4, 2, 64), dtype=np.float32))
    write_tokenizer(tmp_path / "decoder", {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0}})
    path, option = tmp_path / "decoder" / "tokenizer.json", town.exam_questions(1)[0].options[0]
    removed = {"type": "Replace", "pattern": {"Regex": rf"\A{re.escape(option)}\z"}, "content": ""}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": removed}))
    assert run("evaluate", tmp_path / "decoder", *TOWN) == 2
    assert_one_line(capsys.readouterr(), f"the text {option!r} has no tokens")


def test_resuming_a_training(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", interrupt)
        assert run("train", "--text", write_text(tmp_path), "--out", tmp_path / "model", *QUICK) == 130
    capsys.readouterr()
    write_tokenizer(tmp_path / "model.training", UNKNOWN)
    assert run("train", "--resume", "--out", tmp_path / "model") == 2
    *progress, last = capsys.readouterr().err.splitlines()
    assert last.startswith("tinyslm: ") and all(part in last for part in MESSAGES["unknown"][1])
    assert not any(line.startswith(("tinyslm:", "Traceback")) for line in progress)
