"""Tensors of GPT-NeoX in which the rows of query, key and value alternate, in every form of the weights."""

from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_tensors, small_model
from tinyslm.checkpoints import load_model, outline_model, read_safetensors, save_model
from tinyslm.checkpoints.alternating_rows import AlternatingRows
from tinyslm.checkpoints.encoded_tensor import EncodedTensor, Encoding
from tinyslm.checkpoints.mapped_layers import MappedLinear
from tinyslm.errors import ConfigError
from tinyslm.evaluation import footprint
from tinyslm.recipes import Quantize
from tinyslm.tree import named_modules

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture
def directory(tmp_path):
    save_model(tmp_path / "model", small_model("gpt_neox"), dtype="bfloat16")
    return tmp_path / "model"


def test_every_form_of_the_weights(directory):
    whole = load_model(directory)
    assert_same_model(load_model(directory, "int8"), Quantize()(whole))
    np.testing.assert_array_equal(load_model(directory, "stored")(TOKENS), whole(TOKENS))
    np.testing.assert_allclose(load_model(directory, "mapped")(TOKENS), whole(TOKENS), rtol=1e-5, atol=1e-5)
    assert footprint(outline_model(directory)).bytes == footprint(whole).bytes


def test_mapped_rows_are_copied_and_count_as_memory(directory):
    layers = named_modules(load_model(directory, "mapped"), MappedLinear)
    for path, layer in layers.items():
        copied = 2 * layer.weight.size if path.endswith(("query", "key", "value")) else 0
        assert layer.num_bytes() == copied + (0 if layer.bias is None else 4 * layer.bias.size), path


def test_mapped_rows_of_a_quantized_tensor_are_refused():
    class Codes(Encoding):
        shape = (12, 5)

        def arrays(self):
            return []

        def dequantize(self, rows):
            return np.arange(60, dtype=np.float32).reshape(12, 5)[rows]

    rows = AlternatingRows(EncodedTensor(Path("file"), "tensor", (12, 5), Codes()), first=1, every=3, size=2)
    np.testing.assert_array_equal(rows.read(np.float32)[:, 0] / 5, [2, 3, 8, 9])
    with pytest.raises(ConfigError, match="tensor 'tensor' is quantized, and its rows alternate"):
        _ = rows.bits


def test_the_head_under_its_name_in_memory(directory):
    """transformers calls it lm_head, and writes embed_out."""
    whole = load_model(directory)
    stored = read_safetensors(directory / "model.safetensors")
    change_tensors(directory, {"embed_out.weight": None, "lm_head.weight": stored["embed_out.weight"].read()})
    np.testing.assert_array_equal(load_model(directory).head.weight, whole.head.weight)
