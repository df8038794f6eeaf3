"""Three ways of holding the weights are one model: exactly, where nothing is rounded or all is rounded in one way.

The matrices of these tests have several tiles, the last one incomplete.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, assert_same_model, change_config, change_tensors, small_model
from tests.process_memory import STATUS
from tests.strategies import generators
from tinyslm import footprint, generate, load, value_and_grad
from tinyslm.autodiff import check_gradient
from tinyslm.checkpoints import (
    checkpoint_tensors,
    load_model,
    read_safetensors,
    save_model,
    upcasting,
    write_safetensors,
)
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear, linear_in_tiles
from tinyslm.checkpoints.safetensors import round_to_bfloat16
from tinyslm.checkpoints.upcasting import release_pages, row_slices, upcast_array, upcast_tiles
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.models import Encoder, EncoderDecoder, next_token_loss, random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Embedding, Linear, MixtureOfExperts
from tinyslm.ops import linear
from tinyslm.recipes import Quantize
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.tree import named_arrays, named_modules, named_parameters

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DENSE_FORMS = ("float32", "int8", "mapped")  # of the weights of a file without quantized tensors


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(upcasting, "TILE_BYTES", 4 * 24 * 7)


def outputs(model):
    """What a model of any kind computes for the same tokens."""
    inputs = {"decoder_token_ids": TOKENS[:, :3]} if isinstance(model, EncoderDecoder) else {}
    return model(TOKENS, np.array([[1] * 8, [1] * 6 + [0] * 2]), **inputs)


def split_into_shards(directory, dtype):
    """Two files with an index, in the dtype of the whole."""
    whole = directory / "model.safetensors"
    arrays = {name: tensor.read() for name, tensor in read_safetensors(whole).items()}
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(arrays))}
    for file in set(files.values()):
        inside = {name: arrays[name] for name in files if files[name] == file}
        write_safetensors(directory / file, inside, dict.fromkeys(inside, DTYPES[dtype]))
    whole.unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ALL_FAMILIES)
@settings(max_examples=3)
@given(tied=st.booleans(), sharded=st.booleans(), seed=st.integers(0, 99))
def test_int8_is_the_recipe_and_mapped_is_the_model(family, dtype, tied, sharded, seed):
    with TemporaryDirectory() as path:
        path = Path(path) / "model"
        save_model(path, small_model(family, seed, tie_word_embeddings=tied), dtype=dtype)
        if sharded:
            split_into_shards(path, dtype)
        whole, smaller, mapped = (load(path, weights)[0] for weights in DENSE_FORMS)
        assert_same_model(smaller, Quantize()(whole))
        np.testing.assert_allclose(outputs(mapped), outputs(whole), rtol=1e-5, atol=1e-5)
        if not isinstance(whole, Encoder):
            np.testing.assert_array_equal(*(generate(model, TOKENS, 4) for model in (whole, mapped)))


def saved(directory, family="llama", dtype="bfloat16", **values):
    """The directory of a model, stored in half precision."""
    save_model(directory / "model", small_model(family, **values), dtype=dtype)
    return directory / "model"


@pytest.mark.parametrize("family", ["bert", "mixtral", "phi3"])
def test_which_modules_are_held_otherwise(tmp_path, family):
    """All linear layers and embeddings but the routers of mixtures, which are float32."""
    whole, smaller, mapped = (load_model(saved(tmp_path / form, family), form) for form in DENSE_FORMS)
    routers = {f"{path}.router" for path in named_modules(whole, MixtureOfExperts)}
    assert len(routers) == (2 if family == "mixtral" else 0)
    for kind, *others in ((Linear, QuantizedLinear, MappedLinear), (Embedding, QuantizedEmbedding, MappedEmbedding)):
        paths = named_modules(whole, kind).keys() - routers
        for model, other in zip((smaller, mapped), others, strict=True):
            assert named_modules(model, other).keys() == paths
            assert named_modules(model, kind).keys() == (routers if kind is Linear else set())


def test_mapped_weights_are_views_of_the_file_in_its_precision(tmp_path):
    for dtype, expected in (("bfloat16", np.uint16), ("float16", np.float16), ("float32", np.float32)):
        mapped = load_model(saved(tmp_path / dtype, "phi3", dtype), "mapped")
        layers = named_modules(mapped, MappedLinear | MappedEmbedding)
        for path, layer in layers.items():
            array = next(iter(named_arrays(layer).values()))
            assert (array.dtype, array.base is not None, array.flags.writeable) == (expected, True, False), path
        assert {array.dtype for array in named_parameters(mapped).values()} == {np.dtype(np.float32)}


def test_a_mapped_embedding_and_its_whole_matrix(tmp_path):
    directory = saved(tmp_path)
    whole, mapped = load_model(directory), load_model(directory, "mapped")
    np.testing.assert_array_equal(mapped.embedding(TOKENS), whole.embedding(TOKENS))
    query = mapped.layers[0].attention.query
    np.testing.assert_array_equal(query.dense_weight(), whole.layers[0].attention.query.weight)
    assert (query.out_features, query.in_features) == query.weight.shape
    assert repr(query) == "MappedLinear(weight=uint16[24, 24], bias=float32[24])"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_footprint_of_a_mapped_model(tmp_path, dtype):
    """The parameters, zeros and arithmetic of the whole model; the bits of the file; in memory only what is small."""
    directory = saved(tmp_path, "mixtral", dtype)
    name = "model.layers.0.self_attn.q_proj.weight"
    change_tensors(directory, {name: np.zeros((24, 24), np.float32)})
    whole, mapped = (load_model(directory, form) for form in ("float32", "mapped"))
    wanted, found = footprint(whole), footprint(mapped)
    for number in ("parameters", "non_zeros", "multiply_adds"):
        assert getattr(found, number) == getattr(wanted, number)
    small = {path: array for path, array in named_arrays(mapped).items() if "norm" in path or "router" in path}
    assert found.bytes == sum(array.nbytes for array in small.values())
    assert found.bits == 8 * sum(array.nbytes for array in named_arrays(mapped).values())


def test_negative_zeros_of_bfloat16_are_zeros():
    """Their bits are not."""
    embedding = MappedEmbedding(round_to_bfloat16(np.array([[-0.0, 1.0], [2.0, 0.0]], np.float32)))
    model = load_tiny_with(embedding)
    assert footprint(model).non_zeros == 2 + footprint(load_tiny_with(None)).non_zeros


def load_tiny_with(embedding):
    """A model without layers, norm or head but this embedding."""
    model = small_model("llama")
    return model.replace(embedding=embedding, layers=[], norm=None)


def test_the_weights_of_a_mapped_model_are_not_trained(tmp_path):
    directory = saved(tmp_path)
    whole, mapped = load_model(directory), load_model(directory, "mapped")
    loss, gradients = value_and_grad(next_token_loss)(mapped, TOKENS)
    wanted_loss, wanted = value_and_grad(next_token_loss)(whole, TOKENS)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    found = named_arrays(gradients)
    assert found.keys() == {path for path in named_arrays(whole) if "norm" in path}
    for path, gradient in found.items():  # what is dense still learns, through the mapped layers
        np.testing.assert_allclose(gradient, named_arrays(wanted)[path], rtol=1e-3, atol=1e-6, err_msg=path)
    assert checkpoint_tensors(gradients).keys() == {name for name in checkpoint_tensors(whole) if "norm" in name}
    with pytest.raises(ConfigError, match=r"layers.0.attention.query is a MappedLinear"):
        require_dense(mapped)
    with pytest.raises(CheckpointError, match=r"embedding is memory-mapped: load the model with"):
        checkpoint_tensors(mapped)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "bert", "gpt_neox"])  # fused, transposed, by head
def test_a_mapped_model_is_saved_as_it_is(tmp_path, family, dtype):
    save_model(tmp_path / "model", small_model(family), dtype=dtype)
    save_model(tmp_path / "again", load_model(tmp_path / "model", "mapped"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize("form", ["int8", "mapped"])
def test_what_was_compressed_when_it_was_saved_stays_as_it_was(tmp_path, form):
    model = Quantize(symmetric=False)(small_model("phi3"))
    save_model(tmp_path / "model", model)
    assert_same_model(load_model(tmp_path / "model", form), model)


def test_a_model_loaded_in_int8_is_saved_as_such(tmp_path):
    smaller = load_model(saved(tmp_path, "gpt2"), "int8")
    save_model(tmp_path / "smaller", smaller)
    assert_same_model(load_model(tmp_path / "smaller"), smaller)


def test_a_head_that_differs_in_its_last_row_is_not_tied(tmp_path):
    """However many tiles before it are equal."""
    directory = saved(tmp_path, dtype="float32")
    table = load_model(directory).embedding.table
    change_config(directory, tie_word_embeddings=True)
    for row, tied in ((0, True), (-1, False)):
        head = table.copy()
        head[row, 3] += 0 if tied else 1
        change_tensors(directory, {"lm_head.weight": head})
        assert load_model(directory, "mapped").tied_head is tied


def test_bad_input(tmp_path):
    directory = saved(tmp_path)
    with pytest.raises(ConfigError, match="weights is 'int4', expected one of float32, int8, mapped"):
        load(directory, "int4")
    name = "model.layers.1.mlp.up_proj.weight"
    change_tensors(directory, {name: np.full((40, 24), np.nan, np.float32)})
    with pytest.raises(CheckpointError, match=rf"model.safetensors: tensor '{name}': cannot quantize nan"):
        load(directory, "int8")


@given(generators(), st.integers(1, 40), st.integers(1, 9), st.booleans(), st.sampled_from(sorted(DTYPES)))
def test_tiles_are_the_matrix(rng, outputs, inputs, transposed, dtype):
    matrix = rng.standard_normal((inputs, outputs) if transposed else (outputs, inputs)).astype(np.float32)
    stored = round_to_bfloat16(matrix) if dtype == "bfloat16" else matrix.astype(dtype)
    stored, matrix = (array.T if transposed else array for array in (stored, matrix))
    exact = upcast_array(stored)
    np.testing.assert_allclose(exact, matrix, rtol=2**-8, atol=1e-7)
    assert exact.flags.c_contiguous
    assert [rows for rows, _ in upcast_tiles(stored)] == list(row_slices(stored))
    np.testing.assert_array_equal(np.concatenate([tile.copy() for _, tile in upcast_tiles(stored)]), exact)
    x, bias = rng.standard_normal((2, 3, inputs)).astype(np.float32), rng.standard_normal(outputs).astype(np.float32)
    np.testing.assert_allclose(linear_in_tiles(x, stored, bias), linear(x, exact, bias), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_product_in_tiles():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((2, 3, 5)), rng.standard_normal((60, 5)), rng.standard_normal(60)
    assert check_gradient(linear_in_tiles, x, weight.astype(np.float16), bias) < 1e-6


def test_arrays_that_are_not_mapped_have_nothing_to_give_back():
    array = np.arange(12.0).reshape(3, 4)
    release_pages(array[1:])
    release_pages(array[:0])
    np.testing.assert_array_equal(array, np.arange(12.0).reshape(3, 4))


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells the peak memory of one process")
def test_peak_memory(tmp_path):
    """Of a model with 108 MB in bfloat16, above what the process had before (the interpreter, its modules and a small
    model that was used once). int8: at most 1.15 times the model when loaded; mapped: a few tiles, also when used."""
    save_model(tmp_path / "small", random_model(llama_shape(50, 32, 48, 1, 4, 2, 64)), dtype="bfloat16")
    big = random_model(llama_shape(16000, 768, 2048, 6, 12, 6, 64))
    save_model(tmp_path / "big", big, dtype="bfloat16")
    stored = (tmp_path / "big" / "model.safetensors").stat().st_size
    assert 100e6 < stored < 115e6
    del big
    peaks = {}
    for form in DENSE_FORMS:
        command = [sys.executable, "-m", "tests.checkpoints.peak_memory", tmp_path / "big", tmp_path / "small", form]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[form] = [int(number) for number in done.stdout.split()]
    sizes = {form: footprint(load_model(tmp_path / "big", form)).bytes for form in ("float32", "int8")}
    assert peaks["float32"][0] < 1.1 * sizes["float32"]
    assert peaks["int8"][0] < 1.15 * sizes["int8"]
    assert peaks["int8"][1] < 1.15 * sizes["int8"] + 10e6  # tiles of weights, activations and the cache
    assert peaks["mapped"][0] < 2e6
    assert peaks["mapped"][1] < 20e6
