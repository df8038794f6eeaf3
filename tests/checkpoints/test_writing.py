"""What is saved is read back bit for bit: dense models of every family, compressed ones, and gradients' names."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoints.models import FAMILY_NAMES, assert_same_model, change_config, change_tensors, small_model
from tinyslm.autodiff import value_and_grad
from tinyslm.checkpoints import checkpoint_tensors, load_model, read_safetensors, save_model
from tinyslm.compression.factorization.low_rank_linear import factorize_linear
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.models import next_token_loss
from tinyslm.modules import Linear
from tinyslm.tree import Module, map_arrays, map_modules, named_arrays

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(tmp_path, family, tied):
    model = small_model(family, tie_word_embeddings=tied)
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    assert all(array.base is None for array in named_arrays(again).values())  # memory of its own, also where split
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]
    stored = read_safetensors(tmp_path / "saved" / "model.safetensors")
    head = "embed_out.weight" if family == "gpt_neox" else "lm_head.weight"
    assert (head in stored) is not model.tied_head
    expected = checkpoint_tensors(model)
    assert stored.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(stored[name].read(), array)


def test_names_and_shapes_of_gpt2(tmp_path):
    model = small_model("gpt2")
    tensors = checkpoint_tensors(model)
    attention = model.layers[1].attention
    fused = tensors["transformer.h.1.attn.c_attn.weight"]
    assert fused.shape == (24, 72)
    np.testing.assert_array_equal(fused[:, 24:48], attention.key.weight.T)
    np.testing.assert_array_equal(tensors["transformer.h.1.attn.c_attn.bias"][48:], attention.value.bias)
    np.testing.assert_array_equal(tensors["transformer.h.0.mlp.c_fc.weight"], model.layers[0].feed_forward.up.weight.T)
    np.testing.assert_array_equal(tensors["transformer.wpe.weight"], model.position_embedding.table)


def test_rows_of_gpt_neox_alternate_head_by_head(tmp_path):
    model = small_model("gpt_neox")
    attention = model.layers[1].attention
    tensors = checkpoint_tensors(model)
    weight, bias = (tensors[f"gpt_neox.layers.1.attention.query_key_value.{name}"] for name in ("weight", "bias"))
    D = model.config.head_dim
    for h in range(4):
        for part, linear in enumerate((attention.query, attention.key, attention.value)):
            rows = slice((3 * h + part) * D, (3 * h + part + 1) * D)
            np.testing.assert_array_equal(weight[rows], linear.weight[h * D : (h + 1) * D])
            np.testing.assert_array_equal(bias[rows], linear.bias[h * D : (h + 1) * D])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_names_without_their_first_part_are_kept(tmp_path, family):
    model = small_model(family, tie_word_embeddings=True)
    bare = model.replace(config=replace(model.config, without_prefix=True))
    names = checkpoint_tensors(bare)
    assert not any(name.startswith(("model.", "transformer.")) for name in names)
    save_model(tmp_path / "saved", bare)
    assert_same_model(load_model(tmp_path / "saved"), bare)


@pytest.mark.parametrize(("dtype", "stored_as"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_a_loaded_model_keeps_the_dtype_of_its_file(tmp_path, dtype, stored_as):
    """The second file is the first one, byte for byte."""
    save_model(tmp_path / "first", small_model("gemma3_text"), dtype=dtype)
    found = load_model(tmp_path / "first")
    assert found.config.source.dtype == dtype and found.config.source.directory == tmp_path / "first"
    save_model(tmp_path / "again", found)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    for other, code in (("float32", "F32"), ("bfloat16", "BF16")):
        save_model(tmp_path / other, found, dtype=other)
        assert {tensor.dtype for tensor in read_safetensors(tmp_path / other / "model.safetensors").values()} == {code}
    save_model(tmp_path / "new", small_model("gemma3_text"))  # was never in a file
    assert {tensor.dtype for tensor in read_safetensors(tmp_path / "new" / "model.safetensors").values()} == {"F32"}


def test_tensors_that_the_dtype_of_the_file_cannot_hold_are_float32(tmp_path):
    save_model(tmp_path / "first", small_model("llama"), dtype="bfloat16")
    found = load_model(tmp_path / "first")
    gain = "layers.1.attention_norm.weight"
    changed = map_arrays(lambda path, array: array + np.float32(2**-20) if path == gain else array, found)
    save_model(tmp_path / "again", changed)
    stored = read_safetensors(tmp_path / "again" / "model.safetensors")
    wide = [name for name, tensor in stored.items() if tensor.dtype != "BF16"]
    assert wide == ["model.layers.1.input_layernorm.weight"] and stored[wide[0]].dtype == "F32"
    assert_same_model(load_model(tmp_path / "again"), changed)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "float32"


def test_a_compressed_model_keeps_its_dtypes_and_those_of_its_file(tmp_path):
    save_model(tmp_path / "first", small_model("llama"), dtype="float16")
    small = compress(load_model(tmp_path / "first"), (UP,), HOWS["int8"])
    save_model(tmp_path / "small", small)
    stored = {name: t.dtype for name, t in read_safetensors(tmp_path / "small" / "model.safetensors").items()}
    assert stored.pop(f"{UP}.codes") == "I8" and stored.pop(f"{UP}.scale") == "F32"
    assert {dtype for name, dtype in stored.items() if not name.startswith(UP)} == {"F16"}
    again = load_model(tmp_path / "small")
    assert_same_model(again, small)
    assert again.config.source.dtype == "float16"  # most of the tensors that are not of compressed layers


@pytest.mark.parametrize(("dtype", "stored_as"), [("float16", "F16"), ("bfloat16", "BF16")])
def test_half_precision(tmp_path, dtype, stored_as):
    model = small_model("gpt2")
    save_model(tmp_path / "half", model, dtype=dtype)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == dtype
    stored = read_safetensors(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {stored_as}
    found = load_model(tmp_path / "half")
    np.testing.assert_allclose(found.embedding.table, model.embedding.table, rtol=2**-8, atol=1e-6)
    save_model(tmp_path / "again", found, dtype=dtype)
    assert_same_model(load_model(tmp_path / "again"), found)


def compress(model, chosen, how):
    """The model with `how` applied to the Linear layers whose path ends in one of the names."""
    return map_modules(lambda path, linear: how(linear) if path.endswith(chosen) else linear, model, Linear)


def masked(linear):
    mask = np.abs(linear.weight) > np.quantile(np.abs(linear.weight), 0.6)
    return MaskedLinear.from_linear(linear, mask)


def unclean_masked(linear):
    """Removed weights that are not zero: they must come back too."""
    return MaskedLinear(np.abs(linear.weight), np.abs(linear.weight) > 0.1, linear.bias)


def negative_zero(linear):
    """Removed weights of -0.0, which are equal to 0.0 but have another bit."""
    mask = linear.weight > 0.1
    return MaskedLinear(np.where(mask, linear.weight, np.float32(-0.0)), mask, linear.bias)


HOWS = {
    "masked": masked,
    "unclean": unclean_masked,
    "negative zero": negative_zero,
    "int8": QuantizedLinear.from_linear,
    "int8 asymmetric": lambda linear: QuantizedLinear.from_linear(linear, symmetric=False, per_channel=False),
    "integer products": lambda linear: QuantizedLinear.from_linear(linear, dynamic_activations=True),
    "low rank": lambda linear: factorize_linear(linear, 3),
}


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("how", HOWS)
def test_round_trip_of_compressed_models(tmp_path, family, how):
    model = compress(small_model(family), ("query", "attention.output", "up", "head", "experts.1.down"), HOWS[how])
    save_model(tmp_path / "saved", model, dtype="float32")
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_round_trip_of_a_compressed_embedding(tmp_path, family, tied):
    model = small_model(family, tie_word_embeddings=tied)
    embedding = QuantizedEmbedding.from_embedding(model.embedding)
    model = model.replace(embedding=embedding)
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    change_tensors(tmp_path / "saved", {"embedding.codes": embedding.codes[:-1]})
    with pytest.raises(CheckpointError, match=r"do not fit|expected"):
        load_model(tmp_path / "saved")


def test_a_combination_of_leaves(tmp_path):
    model = compress(small_model("llama"), ("up",), HOWS["int8"])
    model = compress(model, ("down",), masked)
    model = compress(model, ("query", "key"), HOWS["low rank"])
    save_model(tmp_path / "saved", model, dtype="bfloat16")
    again = load_model(tmp_path / "saved")
    down = again.layers[1].feed_forward.down
    assert down.weight.tobytes() == model.layers[1].feed_forward.down.weight.tobytes()  # not rounded to bfloat16
    assert again.layers[0].feed_forward.up.codes.dtype == np.int8
    entries = json.loads((tmp_path / "saved" / "config.json").read_text())["tinyslm"]["replaced"]
    assert entries["layers.1.feed_forward.down"] == {"kind": "MaskedLinear"}
    assert len(entries) == 2 * 4


def test_masked_layers_take_less_of_the_disk(tmp_path):
    model = small_model("llama", hidden_size=64, intermediate_size=256)
    half = compress(model, ("up", "gate", "down", "query", "key", "value", "output", "head"), masked)
    for name, each in (("dense", model), ("half", half)):
        save_model(tmp_path / name, each)
    dense, pruned = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("dense", "half"))
    assert pruned < 0.55 * dense  # 0.4 of the weights, 1 bit each for the mask, and the embedding


UP = "layers.0.feed_forward.up"
DAMAGED = {
    "kind": ({}, {"kind": "os.system"}, ConfigError, "expected an object with a kind of .*Linear"),
    "kind of a wrong type": ({}, {"kind": ["Linear"]}, ConfigError, "expected an object with a kind"),
    "setting": (
        {},
        {"dynamic_activations": "yes"},
        ConfigError,
        "dynamic_activations is 'yes', expected a bool",
    ),
    "unknown setting": ({}, {"color": 1}, CheckpointError, "has no 'color'"),
    "missing tensor": ({"codes": None}, {}, CheckpointError, "tensor layers.0.feed_forward.up.codes .* is missing"),
    "unknown tensor": ({"other": np.ones(2)}, {}, CheckpointError, "has no 'other'"),
    "wrong shape": (
        {"codes": np.ones((40, 3), np.int8)},
        {},
        CheckpointError,
        r"int8\(40, 3\), expected int8\(40, 24\)",
    ),
    "no numbers": ({"codes": np.ones((40, 0), np.int8)}, {}, CheckpointError, r"codes is int8\(40, 0\), expected"),
    "too few outputs": (
        {"codes": np.ones((39, 24), np.int8), "scale": np.ones((39, 1), np.float32)},
        {},
        CheckpointError,
        r"codes is int8\(39, 24\), expected int8\(40, 24\)",
    ),
    "no matrix": ({"codes": np.ones(3, np.int8)}, {}, CheckpointError, r"codes is int8\(3,\), expected"),
    "wrong dtype": ({"codes": np.ones((40, 24))}, {}, CheckpointError, r"codes is float64\(40, 24\), expected int8"),
    "unsigned": ({"codes": np.ones((40, 24), np.uint8)}, {}, CheckpointError, r"codes is uint8\(40, 24\)"),
    "scale of a row": ({"scale": np.ones(40)}, {}, CheckpointError, r"scale is float64\(40,\), expected .*\(40, 1\)"),
    "bias of a column": ({"bias": np.ones((1, 40))}, {}, CheckpointError, r"bias is float64\(1, 40\), expected"),
    "null": ({"codes": None}, {"codes": None}, CheckpointError, "up.codes of a QuantizedLinear is missing"),
    "lost bias": ({"bias": None}, {"bias": None}, CheckpointError, r"up.bias of a QuantizedLinear is missing"),
    "bias in the configuration": ({"bias": None}, {"bias": [0.0] * 40}, ConfigError, "bias is .*, expected null"),
    "lost zero point": ({}, {"zero_point": 3}, ConfigError, "zero_point is 3, expected null, or a tensor"),
    "an embedding": ({}, {"kind": "QuantizedEmbedding"}, ConfigError, "expected an object with a kind of .*Linear"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_compressed_leaves_are_named(tmp_path, damage):
    tensors, settings, error, message = DAMAGED[damage]
    save_model(tmp_path / "saved", compress(small_model("llama"), (UP,), HOWS["int8"]))
    change_tensors(tmp_path / "saved", {f"{UP}.{name}": array for name, array in tensors.items()})
    section = json.loads((tmp_path / "saved" / "config.json").read_text())["tinyslm"]
    section["replaced"][UP] |= settings
    change_config(tmp_path / "saved", tinyslm=section)
    with pytest.raises(error, match=message) as caught:
        load_model(tmp_path / "saved")
    assert UP in str(caught.value) and "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"packed_mask": np.zeros(3, np.uint8)}, r"packed_mask is uint8\(3,\), expected uint8\(120,\)"),
        ({"packed_mask": None}, "packed_mask is missing"),
        ({"kept_weights": np.zeros(3, np.float32)}, r"kept_weights is \(3,\), expected"),
        ({"kept_weights": None}, "kept_weights is missing"),
    ],
)
def test_damaged_masks_are_named(tmp_path, tensors, message):
    save_model(tmp_path / "saved", compress(small_model("llama"), (UP,), masked))
    change_tensors(tmp_path / "saved", {f"{UP}.{name}": array for name, array in tensors.items()})
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "saved")


def test_a_replaced_path_that_does_not_exist(tmp_path):
    save_model(tmp_path / "saved", small_model("llama"))
    change_config(tmp_path / "saved", tinyslm={"replaced": {"layers.7.attention.query": {"kind": "Linear"}}})
    with pytest.raises(
        ConfigError, match=r"names 'layers.7.attention.query', which does not exist in this llama model"
    ):
        load_model(tmp_path / "saved")


class Strange(Module):
    weight: np.ndarray


def test_what_cannot_be_stored_is_refused(tmp_path):
    model = small_model("llama")
    with pytest.raises(CheckpointError, match=r"layers.0.feed_forward.up is a Strange, which cannot be stored"):
        save_model(tmp_path / "x", compress(model, ("up",), lambda linear: Strange(linear.weight)))
    with pytest.raises(CheckpointError, match=r"embedding.table is \(49, 24\), but .* requires \(50, 24\)"):
        sliced = map_arrays(lambda path, array: array[:49] if path == "embedding.table" else array, model)
        save_model(tmp_path / "x", sliced)
    with pytest.raises(ConfigError, match="dtype is 'int4', expected one of float32, float16, bfloat16"):
        save_model(tmp_path / "x", model, dtype="int4")
    with pytest.raises(ConfigError, match="model_type is 'test', expected one of"):
        save_model(tmp_path / "x", model.replace(config=replace(model.config, family="test")))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(tmp_path):
    model = small_model("llama")
    save_model(tmp_path, model)  # an empty directory may stand there
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Error, match="exists already; choose another path"):
        save_model(tmp_path, small_model("gpt2"))
    with pytest.raises(Error, match="exists already"):
        save_model(tmp_path / "config.json", model)
    with pytest.raises(Error, match="cannot be written"):
        save_model(tmp_path / "config.json" / "below", model)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Tokenizer:
    def __init__(self, problem=None):
        self.problem = problem

    def save(self, path):
        if self.problem:
            raise self.problem
        with open(path, "w") as file:
            file.write("{}")


def test_an_interrupted_save_leaves_nothing(tmp_path):
    for problem in (KeyboardInterrupt(), RuntimeError()):
        with pytest.raises(type(problem)):
            save_model(tmp_path / "deep" / "saved", small_model("llama"), Tokenizer(problem))
        assert list((tmp_path / "deep").iterdir()) == []
    save_model(tmp_path / "deep" / "saved", small_model("llama"), Tokenizer(), records={"training.json": {"steps": 3}})
    names = sorted(path.name for path in (tmp_path / "deep" / "saved").iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "training.json"]


def test_gradients_have_the_names_of_the_checkpoint():
    model = small_model("gpt2")
    _, gradients = value_and_grad(next_token_loss)(model, TOKENS)
    found, expected = checkpoint_tensors(gradients), checkpoint_tensors(model)
    assert {name: array.shape for name, array in found.items()} == {n: array.shape for n, array in expected.items()}
    quantized = compress(model, ("query", "up"), HOWS["int8"])
    _, gradients = value_and_grad(next_token_loss)(quantized, TOKENS)
    found = checkpoint_tensors(gradients)
    assert found["layers.0.attention.query.bias"].shape == (24,)
    assert found["layers.0.attention.key.weight"].shape == (24, 24)  # its joined tensor does not exist any more
    assert "layers.0.attention.query.codes" not in found
    assert "transformer.h.0.attn.c_attn.weight" not in found
    assert "transformer.h.0.mlp.c_proj.weight" in found
