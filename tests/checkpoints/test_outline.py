"""A model in outline is the loaded model without its numbers, and of the files nothing but headers is read."""

import json
import re
from functools import partial

import numpy as np
import pytest

from tests.checkpoints.models import ALL_FAMILIES, change_config, change_tensors, small_model
from tinyslm.checkpoints import load_model, outline_model, save_model, stored_tensors
from tinyslm.cli import main
from tinyslm.compression.factorization.low_rank_linear import factorize_linear
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask
from tinyslm.errors import CheckpointError, Error
from tinyslm.modules import Linear
from tinyslm.recipes import Quantize
from tinyslm.tree import map_modules, named_arrays

COMPRESSED = {
    "quantized": Quantize(symmetric=False),
    "masked": lambda model: map_modules(
        lambda _, linear: MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.4)), model, Linear
    ),
    "factorized": lambda model: map_modules(lambda _, linear: factorize_linear(linear, 2), model, Linear),
}


def assert_outline(directory):
    """The outline has the tree, shapes and dtypes of the loaded model, and no memory of its own."""
    outline, model = outline_model(directory), load_model(directory)
    assert outline.config == model.config
    assert repr(outline) == repr(model)
    found, wanted = named_arrays(outline), named_arrays(model)
    assert {path: (array.shape, array.dtype) for path, array in found.items()} == {
        path: (array.shape, array.dtype) for path, array in wanted.items()
    }
    assert all(not any(array.strides) for array in found.values())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_family(tmp_path, family, tied):
    save_model(tmp_path / "model", small_model(family, tie_word_embeddings=tied), dtype="bfloat16")
    assert_outline(tmp_path / "model")


@pytest.mark.parametrize("family", ["llama", "mixtral", "bert"])
@pytest.mark.parametrize("compress", COMPRESSED.values(), ids=COMPRESSED)
def test_compressed_models(tmp_path, family, compress):
    save_model(tmp_path / "model", compress(small_model(family)))
    assert_outline(tmp_path / "model")


def test_the_numbers_are_not_looked_at(tmp_path):
    """Infinite scales and masks without a weight: nothing that could be loaded."""
    save_model(tmp_path / "model", COMPRESSED["masked"](small_model("phi3")))
    path = tmp_path / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    before = repr(outline_model(path.parent))
    content[begin:] = b"\xff" * (len(content) - begin)
    path.write_bytes(content)
    assert repr(outline_model(path.parent)) == before
    with pytest.raises(Error):
        load_model(path.parent)


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: change_tensors(directory, {"model.norm.weight": None}),
        lambda directory: change_tensors(directory, {"model.norm.weight": np.ones(7, np.float32)}),
        lambda directory: change_tensors(directory, {"model.more.weight": np.ones(7, np.float32)}),
        lambda directory: change_config(directory, intermediate_size=3),
        lambda directory: change_config(directory, num_hidden_layers=300),
        lambda directory: change_config(directory, tinyslm={"replaced": {"layers.0.feed_forward.up": {"kind": "Bag"}}}),
        lambda directory: change_config(directory, tinyslm={"replaced": {"norm": {"kind": "QuantizedLinear"}}}),
        lambda directory: (directory / "model.safetensors").unlink(),
    ],
)
def test_damage_that_shows_in_headers_is_the_same_error(tmp_path, damage):
    save_model(tmp_path / "model", small_model("llama"))
    damage(tmp_path / "model")
    messages = []
    for read in (outline_model, load_model):
        with pytest.raises(Error) as error:
            read(tmp_path / "model")
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("shape", [(5,), (5, 6), (0, 0)])
def test_a_compressed_module_of_the_wrong_shape(tmp_path, shape):
    save_model(tmp_path / "model", Quantize()(small_model("llama")))
    change_tensors(tmp_path / "model", {"layers.0.feed_forward.up.codes": np.zeros(shape, np.int8)})
    with pytest.raises(Error, match=r"layers\.0\.feed_forward\.up"):
        outline_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["packed_mask", "kept_weights"])
@pytest.mark.parametrize("shape", [(0,), (), (3, 2), (4, 0), (5000,)])
def test_a_masked_layer_of_the_wrong_shape(tmp_path, name, shape):
    """The number of kept weights depends on the mask, which an outline does not read: an empty array is accepted."""
    save_model(tmp_path / "model", COMPRESSED["masked"](small_model("llama")))
    path = f"layers.0.feed_forward.up.{name}"
    tensor = stored_tensors(tmp_path / "model")[path]
    change_tensors(tmp_path / "model", {path: np.zeros(shape, tensor.read().dtype)})
    for read in (outline_model, load_model) if (name, shape) != ("kept_weights", (0,)) else (load_model,):
        with pytest.raises(
            CheckpointError, match=rf"replaced.layers.0.feed_forward.up: {name} is .*, expected"
        ) as error:
            read(tmp_path / "model")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.up_proj.weight"])
@pytest.mark.parametrize("shape", [(4, 0), (2**40, 0), (0, 24), (0,)])
def test_a_tensor_without_numbers(tmp_path, capsys, name, shape):
    """Of any number of rows: refused at once, in one line, wherever the directory is read."""
    path = tmp_path / "model"
    save_model(path, small_model("llama"))
    change_tensors(path, {name: np.zeros(0, np.float32)})
    content = (path / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header[name]["shape"] = shape
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    for read in (outline_model, load_model, partial(load_model, weights="int8"), partial(load_model, weights="mapped")):
        with pytest.raises(CheckpointError, match=re.escape(f"tensor '{name}': shape is {shape}, expected (")):
            read(path)
    assert main(["inspect", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
