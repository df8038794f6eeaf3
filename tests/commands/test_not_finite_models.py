"""Commands on a model with nan or infinity in a weight: one line that names the tensor, and no warnings of NumPy."""

import numpy as np
import pytest

from tests.commands.files import TEXT, assert_one_line, run, write_text
from tests.strategies import generic_model
from tinyslm import save
from tinyslm.models import EncoderConfig, random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import train_tokenizer

TOKENIZER = train_tokenizer(TEXT.split("\n\n"), 280)


def save_damaged(directory, value):
    """A model with one number that is not finite; returns its path."""
    model = random_model(llama_shape(280, 16, 24, 2, 2, 1, 40), seed=3)
    model.layers[1].attention.query.weight[0, 0] = value
    save(directory / "model", model, TOKENIZER)
    return directory / "model"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "The", "--model", "MODEL"),
        ("generate", "The", "--model", "MODEL", "--temperature", 1),
        ("generate", "The", "A cat", "--model", "MODEL", "--weights", "int8"),
        ("trace", "MODEL", "The"),
        ("evaluate", "MODEL", "--text", "TEXT"),
        ("compress", "MODEL", "--text", "TEXT", "--out", "OUT", "--recipe", "gptq-4-bits"),
    ],
)
def test_one_line_names_the_tensor(tmp_path, capsys, recwarn, arguments, value):
    paths = {"MODEL": save_damaged(tmp_path, value), "TEXT": write_text(tmp_path), "OUT": tmp_path / "out"}
    assert run(*(paths.get(argument, argument) for argument in arguments)) == 2
    assert_one_line(capsys.readouterr(), "q_proj")
    assert not recwarn.list


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_encoder(tmp_path, capsys, recwarn, value):
    config = EncoderConfig("bert", 280, 24, 36, 2, 3, 8, 20, type_vocab_size=2)
    model, tokenizer = generic_model(config, dtype=np.float32), train_tokenizer(TEXT.split("\n\n"), 279)
    tokenizer.add_special_tokens(["[MASK]"])
    model.layers[1].attention.query.weight[0, 0] = value
    save(tmp_path / "model", model, tokenizer)
    text = write_text(tmp_path, "The cat\nA dog")
    for command, argument in (("fill", "The [MASK] cat"), ("trace", "The [MASK] cat"), ("embed", text)):
        assert run(command, tmp_path / "model", argument) == 2
        assert_one_line(capsys.readouterr(), "encoder.layer.1.attention.self.query.weight holds nan or infinity")
    assert not recwarn.list


@pytest.mark.slow
def test_a_sweep_in_processes(tmp_path, capfd):
    """Its workers show no warnings either."""
    recipes = write_text(tmp_path, '[[recipe]]\nname = "q"\nstep = [{use = "Quantize", bits = 8}]\n', "recipes.toml")
    path, text = save_damaged(tmp_path, np.inf), write_text(tmp_path)
    assert run("sweep", recipes, "--model", path, "--text", text, "--out", tmp_path / "out") == 2
    captured = capfd.readouterr()
    assert captured.out.count("q_proj.weight holds nan or infinity") == 2  # of the dense model and the recipe
    *plan, last = captured.err.splitlines()
    assert [line.partition(":")[0] for line in plan] == ["model", "expected"]
    assert last == "tinyslm: none of the recipes could be measured"
