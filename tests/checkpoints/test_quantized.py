"""Quantized weights of other libraries: the numbers of these libraries, the layers that hold them, damaged files."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.models import small_model
from tests.commands.files import assert_one_line, run
from tinyslm import load, save
from tinyslm.checkpoints import load_model, outline_model, read_safetensors, weight_tensors, write_safetensors
from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.quantized import with_quantized
from tinyslm.compression.quantization import (
    AbsmaxCodebookLinear,
    OutlierLinear,
    PackedLinear,
    QuantizedLinear,
    StaticQuantizedLinear,
    pack_codes,
    quantize,
)
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes import Quantize
from tinyslm.tree import named_arrays, named_modules

GOLDEN = Path(__file__).parent.parent / "golden" / "quantized"
LAYERS = {  # {directory: the layer that keeps the stored form}
    "int4_groups": PackedLinear,
    "int4_asymmetric": PackedLinear,
    "int3_rows": PackedLinear,
    "int8_matrix": QuantizedLinear,
    "w8a8_dynamic": QuantizedLinear,
    "w8a8_static": StaticQuantizedLinear,
    "float8_rows": Linear,
    "gptq_4": PackedLinear,
    "gptq_3": PackedLinear,
    "gptq_8_permuted": Linear,
    "gptq_4_v2": PackedLinear,
    "awq": PackedLinear,
    "nf4": AbsmaxCodebookLinear,
    "nf4_nested": AbsmaxCodebookLinear,
    "fp4": AbsmaxCodebookLinear,
    "llm_int8": OutlierLinear,
    "fp8_blocks": Linear,
    "fp8_matrix": Linear,
}
NAMES = {
    "self_attn": {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"},
    "mlp": {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"},
}
TENSORS = {
    last: f"model.layers.0.{part}.{name}.weight" for part, names in NAMES.items() for name, last in names.items()
}  # {last part of the path of a layer: the tensor}
PATHS = {"k_proj": "layers.0.attention.key", "down_proj": "layers.0.feed_forward.down"}


def golden(name):
    """{key: array} of golden.npz."""
    with np.load(GOLDEN / name / "golden.npz") as file:
        return dict(file)


def quietly(path, weights="stored"):
    """The model, without the warning that weights are dequantized."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        return load_model(path, weights)


def changed(directory, name, tensors=None, config=None, quantization=None):
    """A copy of a golden directory with other tensors and settings; None takes away."""
    path = directory / name
    path.mkdir(parents=True)
    stored = read_safetensors(GOLDEN / name / "model.safetensors")
    arrays = {key: tensor.bits.copy() for key, tensor in stored.items()} | (tensors or {})
    kept = {key: array for key, array in arrays.items() if array is not None}
    write_bits(path / "model.safetensors", kept, {key: tensor.dtype for key, tensor in stored.items()})
    values = json.loads((GOLDEN / name / "config.json").read_text()) | (config or {})
    if quantization:
        values["quantization_config"] = {**values["quantization_config"], **quantization}
    (path / "config.json").write_text(json.dumps(values))
    return path


def write_bits(path, arrays, dtypes):
    """Write arrays whose bits have these dtypes of the format."""
    header, data = {}, b""
    for name, array in arrays.items():
        own = {"float32": "F32", "float16": "F16", "int32": "I32", "int8": "I8", "uint8": "U8"}.get(array.dtype.name)
        is_same = name in dtypes and np.dtype(array.dtype).itemsize == ITEM_SIZES[dtypes[name]]
        dtype = dtypes[name] if is_same else own
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}


@pytest.mark.parametrize("name", LAYERS)
def test_weights_and_logits_are_those_of_the_library(name):
    model, expected = load_model(GOLDEN / name), golden(name)
    modules = named_modules(model, Linear)
    layers = [key for key in expected if key.endswith(tuple(PATHS))]
    assert len(layers) == len(PATHS)
    for key in layers:
        weight = modules[PATHS[key.rpartition(".")[2]]].weight
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight[: len(expected[key])], expected[key])
    if "logits" in expected and name != "llm_int8":
        np.testing.assert_allclose(model(expected["tokens"]), expected["logits"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_stored_layers_hold_the_same_numbers(name):
    dense, stored = load_model(GOLDEN / name), quietly(GOLDEN / name)
    encoded = {name for name, tensor in weight_tensors(GOLDEN / name).items() if isinstance(tensor, EncodedTensor)}
    wanted = {
        path: layer
        for path, layer in named_modules(dense, Linear).items()
        if TENSORS[path.rpartition(".")[2]] in encoded
    }
    layers = {path: module for path, module in named_modules(stored).items() if path in wanted}
    assert {type(layer) for layer in layers.values()} == {LAYERS[name]}
    for path, layer in layers.items():
        np.testing.assert_array_equal(layer.dense_weight(), wanted[path].weight)
        assert layer.dense_weight().dtype == np.float32
    tokens = golden(name)["tokens"]
    if "w8a8" not in name and name != "llm_int8":  # these quantize their inputs
        np.testing.assert_allclose(stored(tokens), dense(tokens), rtol=1e-4, atol=2e-5)


def test_llm_int8_products_are_those_of_the_library():
    """Of the first token. The library rounds inputs to float16, which changes codes of later tokens by 1."""
    expected = golden("llm_int8")
    found = load_model(GOLDEN / "llm_int8", "stored")(expected["tokens"])
    np.testing.assert_allclose(found[0, 0], expected["logits"][0, 0], rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["float8_rows", "gptq_8_permuted", "fp8_matrix"])
def test_one_warning_says_what_is_dequantized(name):
    with pytest.warns(CheckpointWarning) as caught:
        load_model(GOLDEN / name, "stored")
    assert len(caught) == 1
    assert "7 of 7 quantized weights are dequantized, because no layer holds their form" in str(caught[0].message)


def test_activations_are_quantized_as_in_the_file():
    layers = [named_modules(load_model(GOLDEN / "w8a8_dynamic", "stored"), QuantizedLinear)]
    assert all(layer.dynamic_activations for layer in layers[0].values())
    for layer in named_modules(load_model(GOLDEN / "w8a8_static", "stored"), StaticQuantizedLinear).values():
        assert (float(layer.input_scale), int(layer.input_zero_point)) == (np.float32(0.03), 5)
        np.testing.assert_array_equal(layer.correction, 5 * layer.codes.sum(axis=1, dtype=np.int32))


@pytest.mark.parametrize(
    "name", ["int4_asymmetric", "gptq_8_permuted", "awq", "nf4_nested", "fp8_blocks", "w8a8_static"]
)
def test_int8_quantizes_the_dequantized_rows(name):
    expected = Quantize()(load_model(GOLDEN / name))
    for path, array in named_arrays(load_model(GOLDEN / name, "int8")).items():
        np.testing.assert_array_equal(array, named_arrays(expected)[path])


@pytest.mark.parametrize("name", LAYERS)
def test_any_rows_are_those_of_the_whole(name):
    tensors = weight_tensors(GOLDEN / name)
    for tensor in (tensor for tensor in tensors.values() if isinstance(tensor, EncodedTensor)):
        whole, half = tensor.read(), tensor.part(slice(3, 30))
        np.testing.assert_array_equal(half.read(), whole[3:30])
        np.testing.assert_array_equal(half.part(slice(2, 9)).read(np.float64), whole[5:12])
        layer = half.layer(None)
        assert layer is None or np.array_equal(layer.dense_weight(), whole[3:30])
    assert not any(array.flags.owndata for array in named_arrays(outline_model(GOLDEN / name)).values())


@pytest.mark.parametrize("name", ["int4_groups", "gptq_4", "nf4", "llm_int8", "w8a8_static", "fp8_blocks"])
@pytest.mark.parametrize("weights", ["float32", "stored"])
def test_a_saved_model_has_its_own_form_and_is_read_back(tmp_path, name, weights):
    model = quietly(GOLDEN / name, weights)
    save(tmp_path / "saved", model)
    values = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in values
    assert ("tinyslm" in values) == (weights == "stored" and LAYERS[name] is not Linear)
    again, _ = load(tmp_path / "saved")
    for path, array in named_arrays(model).items():
        np.testing.assert_array_equal(named_arrays(again)[path], array)


def test_a_mapped_model_is_refused_in_one_line():
    for name in ("int4_groups", "fp8_blocks"):
        with pytest.raises(ConfigError, match=r"is quantized .* cannot be mapped; use the weights"):
            load_model(GOLDEN / name, "mapped")


def test_the_key_of_older_files(tmp_path):
    config = json.loads((GOLDEN / "int4_groups" / "config.json").read_text())
    nested = {"quantization_config": config["quantization_config"], "sparsity_config": {"format": "dense"}}
    path = changed(tmp_path, "int4_groups", config={"quantization_config": None, "compression_config": nested})
    np.testing.assert_array_equal(load_model(path).layers[0].feed_forward.down.weight, weight_of("int4_groups"))
    sparse = nested | {"sparsity_config": {"format": "sparse-24-bitmask"}}
    config = {"quantization_config": None, "compression_config": sparse}
    with pytest.raises(ConfigError, match=r"compression_config.sparsity_config.format is 'sparse-24-bitmask'"):
        load_model(changed(tmp_path / "sparse", "int4_groups", config=config))


def weight_of(name):
    """The dequantized weight of one layer."""
    return load_model(GOLDEN / name).layers[0].feed_forward.down.weight


def test_modules_can_be_dense(tmp_path):
    """A dense weight beside quantized ones, as for modules_to_not_convert."""
    weight = weight_of("awq").astype(np.float32)
    module = "model.layers.0.mlp.down_proj"
    parts = dict.fromkeys((f"{module}.{field}" for field in ("qweight", "qzeros", "scales")), None)
    path = changed(tmp_path, "awq", parts | {f"{module}.weight": weight})
    assert not isinstance(weight_tensors(path)[f"{module}.weight"], EncodedTensor)
    np.testing.assert_array_equal(load_model(path).layers[0].feed_forward.down.weight, weight)


def test_groups_may_be_missing_where_they_are_neighbours(tmp_path):
    parts = {key: None for key in read_safetensors(GOLDEN / "gptq_4" / "model.safetensors") if key.endswith("g_idx")}
    path = changed(tmp_path, "gptq_4", parts)
    np.testing.assert_array_equal(load_model(path).layers[0].feed_forward.down.weight, weight_of("gptq_4"))


def test_zero_points_of_all_ones_wrap_to_0(tmp_path):
    """AutoGPTQ subtracts 1 from a zero point of 0, and masks after adding it again."""
    path = changed(tmp_path, "gptq_4", {f"{DOWN}.qzeros": np.full((4, 4), -1, np.int32)})
    layer = load_model(path, "stored").layers[0].feed_forward.down
    assert np.unique(layer.zero_point).tolist() == [-8]


def test_fp8_blocks_at_the_edges_are_smaller(tmp_path):
    """Blocks of 24 x 40 numbers in a matrix of 32 x 64."""
    scales = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32)
    tensors = {}
    for key, tensor in read_safetensors(GOLDEN / "fp8_blocks" / "model.safetensors").items():
        if key.endswith("weight_scale_inv"):
            rows, columns = read_safetensors(tensor.file)[key.removesuffix("_scale_inv")].shape
            tensors[key] = np.resize(scales, (-(-rows // 24), -(-columns // 40)))
    path = changed(tmp_path, "fp8_blocks", tensors, quantization={"weight_block_size": [24, 40]})
    numbers = read_safetensors(path / "model.safetensors")[f"{DOWN}.weight"].read()
    expected = numbers * np.kron(scales, np.ones((24, 40), np.float32))[:32, :64]
    np.testing.assert_array_equal(load_model(path).layers[0].feed_forward.down.weight, expected)


DOWN = "model.layers.0.mlp.down_proj"
NAN = np.float32("nan")
DAMAGED = {  # {what is wrong: (directory, {field of one module: change of its array}, settings, message)}
    "a missing scale": ("int4_groups", {"weight_scale": None}, {}, r"down_proj.weight_scale' is missing"),
    "a missing shape": ("int4_groups", {"weight_shape": None}, {}, r"weight_shape' is missing"),
    "missing codes": ("gptq_4", {"qweight": None}, {}, r"qweight' is missing"),
    "codes without a scale": ("w8a8_dynamic", {"weight_scale": None}, {}, r"weight_scale' is missing"),
    "floats without a scale": ("fp8_blocks", {"weight_scale_inv": None}, {}, r"weight_scale_inv' is missing"),
    "missing zero points": ("int4_asymmetric", {"weight_zero_point": None}, {}, r"weight_zero_point' is missing"),
    "scales of another shape": ("awq", {"scales": lambda a: a[:, :8]}, {}, r"scales': shape is \(4, 8\), expected"),
    "blocks of another shape": (
        "fp8_blocks",
        {"weight_scale_inv": lambda a: a[:1]},
        {},
        r"shape is \(1, 4\), expected",
    ),
    "nan": ("int4_groups", {"weight_scale": lambda a: a * NAN}, {}, r"weight_scale' holds nan or infinity"),
    "infinity": ("gptq_4", {"scales": lambda a: a + np.float16("inf")}, {}, r"scales' holds nan or infinity"),
    "nan in SCB": ("llm_int8", {"SCB": lambda a: a * NAN}, {}, r"SCB' holds nan"),
    "nan in nested scales": ("nf4_nested", {"weight.nested_absmax": lambda a: a * NAN}, {}, r"absmax' holds nan"),
    "group indices": (
        "gptq_8_permuted",
        {"g_idx": lambda a: a + 1},
        {},
        r"g_idx' holds 1 to 4, expected groups from 0",
    ),
    "negative group indices": ("gptq_8_permuted", {"g_idx": lambda a: a - 1}, {}, r"g_idx' holds -1 to 2, expected"),
    "codes beyond their bits": (
        "int8_matrix",
        {"weight": lambda a: a | 64},
        {"config_groups": {"g": {"weights": {"num_bits": 4, "symmetric": True, "strategy": "tensor"}}}},
        r"weight' holds .*, expected codes of 4 bits, from -8 to 7",
    ),
    "a shape that lies": (
        "int4_groups",
        {"weight_shape": lambda a: a * 2**40},
        {},
        r"weight_shape' holds \[.*expected 32",
    ),
    "group size 0": (
        "awq",
        {},
        {"group_size": 0},
        r"quantization_config.group_size is 0, expected a whole number above 0",
    ),
    "a group size that does not divide": (
        "gptq_4",
        {},
        {"group_size": 24},
        r"inputs, expected a multiple of group_size 24",
    ),
    "bits": ("gptq_4", {}, {"bits": 5}, r"quantization_config.bits is 5, expected 2 or 3 or 4 or 8"),
    "other bits": ("gptq_4", {}, {"bits": 8}, r"g_idx': shape is \(\d+,\), expected"),
    "an unknown method": ("gptq_4", {}, {"quant_method": "hqq"}, r"quant_method is 'hqq', expected .*; dequantize the"),
    "no method": ("gptq_4", {}, {"quant_method": None}, r"quantization_config.quant_method is None, expected"),
    "an unknown format": (
        "int4_groups",
        {},
        {"format": "marlin-24"},
        r"format is 'marlin-24', expected .*; decompress",
    ),
    "another format of GPTQ": (
        "gptq_4",
        {},
        {"checkpoint_format": "marlin"},
        r"is 'marlin', expected 'gptq' or 'gptq_v2'",
    ),
    "another version of AWQ": ("awq", {}, {"version": "gemv"}, r"version is 'gemv', expected 'gemm'"),
    "sparse": (
        "int4_groups",
        {},
        {"sparsity_config": {"format": "sparse-24-bitmask"}},
        r"format is 'sparse-24-bitmask'",
    ),
    "floats of 4 bits": (
        "float8_rows",
        {},
        {"config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}}}},
        r"weights.num_bits is 4, expected 8; decompress",
    ),
    "no groups": ("int4_groups", {}, {"config_groups": {}}, r"config_groups is missing"),
    "a group that is no object": (
        "int4_groups",
        {},
        {"config_groups": {"W4A16": ["Linear"]}},
        r"W4A16 is \['Linear'\]",
    ),
    "blocks of 0": ("fp8_blocks", {}, {"weight_block_size": [0, 16]}, r"weight_block_size is \[0, 16\], expected"),
    "nested scales without levels": (
        "nf4_nested",
        {"weight.nested_quant_map": None},
        {},
        r"nested_quant_map' is missing",
    ),
    "nested scales without scales": ("nf4_nested", {"weight.nested_absmax": None}, {}, r"nested_absmax' is missing"),
    "a state without its JSON": ("nf4", {"STATE": None}, {}, r"quant_state.bitsandbytes__nf4' is missing"),
    "a truncated state": ("nf4", {"STATE": lambda a: a[:-5]}, {}, r"bitsandbytes__nf4': is not JSON"),
    "a state of zeros": ("nf4", {"STATE": lambda a: a * 0}, {}, r"bitsandbytes__nf4': is not JSON"),
    "a long state": (
        "nf4",
        {"STATE": lambda a: np.resize(a, 20_000)},
        {},
        r"has 20000 bytes, expected JSON of at most",
    ),
    "levels": ("nf4", {"weight.quant_map": lambda a: a[:8]}, {}, r"quant_map': shape is \(8,\), expected \(16,\)"),
    "too few codes": ("nf4", {"weight": lambda a: a[:-1]}, {}, r"weight' has \d+ bytes, expected \d+ for a matrix"),
    "a layout of 8-bit codes": ("llm_int8", {"weight_format": lambda a: a + 1}, {}, r"weight_format' is 1, expected 0"),
    "a threshold": ("llm_int8", {}, {"llm_int8_threshold": -1}, r"llm_int8_threshold is -1, expected a number from 0"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_and_settings_are_refused(tmp_path, case):
    name, changes, settings, message = DAMAGED[case]
    path = damaged(tmp_path, name, changes, settings)
    for weights in ("float32", "stored"):
        with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
            quietly(path, weights)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def damaged(directory, name, changes, settings):
    """A golden directory with changed arrays of one module and other settings."""
    stored = read_safetensors(GOLDEN / name / "model.safetensors")
    state = next((key.removeprefix(f"{DOWN}.") for key in stored if f"{DOWN}.weight.quant_state" in key), "")
    tensors = {}
    for field, change in changes.items():
        key = f"{DOWN}.{state if field == 'STATE' else field}"
        tensors[key] = None if change is None else np.asarray(change(stored[key].bits.copy()), order="C")
    return changed(directory, name, tensors, quantization=settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocksize": 0}, "blocksize is 0, expected a whole number from 1"),
        ({"shape": [32]}, r"shape is \[32\], expected two whole numbers"),
        ({"shape": [2**40, 2**40]}, "shape is .*, expected two whole numbers"),
        ({"shape": [64, 128]}, "bytes, expected 4096 for a matrix"),
        ({"nested_blocksize": None}, "nested_blocksize is None, expected"),
        ({"nested_offset": "x"}, "nested_offset is 'x', expected a number"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path, change, message):
    def edit(content):
        return np.frombuffer(json.dumps(json.loads(content.tobytes()) | change).encode(), np.uint8)

    path = damaged(tmp_path, "nf4_nested", {"STATE": edit}, {})
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("int4_groups", "compressed-tensors"),
        ("gptq_4", "GPTQ"),
        ("awq", "AWQ"),
        ("nf4", "bitsandbytes"),
        ("fp8_blocks", "FP8"),
    ],
)
def test_a_file_without_the_key_is_recognised(tmp_path, name, library):
    path = changed(tmp_path, name, config={"quantization_config": None})
    with pytest.raises(
        CheckpointError, match=f"quantized by .*{library}.*, but config.json has no quantization_config"
    ):
        load_model(path)


def test_scales_of_the_key_value_cache_are_left_out(tmp_path):
    scales = {f"model.layers.0.self_attn.{name}_scale": np.ones(1, np.float32) for name in "kv"}
    np.testing.assert_array_equal(
        load_model(changed(tmp_path, "fp8_matrix", scales)).layers[0].feed_forward.down.weight, weight_of("fp8_matrix")
    )


def test_inspect_says_how_each_tensor_is_stored(capsys, monkeypatch):
    assert run("inspect", GOLDEN / "gptq_4") == 0
    shown = capsys.readouterr().out
    for row in (
        "stored as  bits  one scale per  zero points  tensors    bytes  names",
        "GPTQ          4  groups of 16   yes                7  7.74 kB  down_proj, gate_proj, up_proj, k_proj, ",
        "F16          16                                    4  2.24 kB  embed_tokens, input_layernorm, ",
    ):
        assert row in shown


def test_the_command_gives_one_line(tmp_path, capsys):
    path = changed(tmp_path, "gptq_4", quantization={"quant_method": "hqq"})
    assert run("inspect", path) == 2
    assert_one_line(capsys.readouterr(), "quant_method is 'hqq'", "dequantize the model with the library that wrote it")


def gptq_parts(module, weight):
    """The tensors of a matrix (out, in) in 4 bits with groups of 8, and the dequantized matrix."""
    found = quantize(weight, bits=4, group_size=8)
    words = pack_codes(found.codes, 4).view(np.int32).T
    groups, outputs = found.scale.T.shape
    zeros = np.full((groups, -(-outputs // 8)), 0x77777777, np.int32)  # 8 less 1
    parts = {"qweight": words, "qzeros": zeros, "scales": found.scale.T}
    return {f"{module}.{field}": array for field, array in parts.items()}, found.dequantize()


@pytest.mark.parametrize(
    ("family", "names", "layers"),
    [
        ("phi3", ["self_attn.qkv_proj", "mlp.gate_up_proj"], 10),
        ("gpt2", ["attn.c_attn", "mlp.c_fc", "mlp.c_proj"], 10),
        ("gpt_neox", ["attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h"], 4),
    ],
)
@pytest.mark.parametrize("weights", ["float32", "stored"])
def test_joined_and_transposed_tensors(tmp_path, family, names, layers, weights):
    """Parts of a joined tensor are its rows; a quantized matrix is (out, in) also in GPT-2, which stores (in, out).

    In GPT-NeoX the rows of query, key and value alternate, and no layer holds them.
    """
    dense, path = small_model(family), tmp_path / "model"
    save(path, dense)
    tensors = {name: tensor.read() for name, tensor in read_safetensors(path / "model.safetensors").items()}
    rounded = dict(tensors)
    for name in list(tensors):
        if name.removesuffix(".weight").endswith(tuple(names)) and name.endswith(".weight"):
            is_transposed = family == "gpt2"
            stored = tensors.pop(name)
            parts, matrix = gptq_parts(name.removesuffix(".weight"), stored.T if is_transposed else stored)
            tensors |= parts
            rounded[name] = matrix.T if is_transposed else matrix
    config = json.loads((path / "config.json").read_text())
    shutil.copytree(path, tmp_path / "rounded")
    write_safetensors(tmp_path / "rounded" / "model.safetensors", rounded)
    write_safetensors(path / "model.safetensors", tensors)
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 8}
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_model(path, weights)
    is_partly_dense = family == "gpt_neox" and weights == "stored"
    assert ["6 of 10 quantized weights are dequantized" in str(warning.message) for warning in caught] == (
        [True] if is_partly_dense else []
    )
    expected = load_model(tmp_path / "rounded")
    assert len(named_modules(found, PackedLinear)) == (0 if weights == "float32" else layers)
    for layer, wanted in zip(
        named_modules(found, LinearLayer).values(), named_modules(expected, LinearLayer).values(), strict=True
    ):
        np.testing.assert_array_equal(layer.dense_weight(), wanted.dense_weight())


def test_blocks_of_4_bit_codes_continue_from_row_to_row(tmp_path):
    """63 codes in blocks of 4, whose 16 scales are in blocks of 3: any rows are those of the definition."""
    rng, shape = np.random.default_rng(0), (7, 9)
    codes, scale_codes = rng.integers(0, 16, 64).astype(np.uint8), rng.integers(0, 256, 16).astype(np.uint8)
    levels, nested_levels, nested_absmax = (rng.standard_normal(n).astype(np.float32) for n in (16, 256, 6))
    state = {"blocksize": 4, "nested_blocksize": 3, "nested_offset": 0.5, "shape": shape}
    parts = {
        "weight": (codes[::2] << 4 | codes[1::2])[:, None],
        "weight.absmax": scale_codes,
        "weight.quant_map": levels,
        "weight.nested_absmax": nested_absmax,
        "weight.nested_quant_map": nested_levels,
        "weight.quant_state.bitsandbytes__fp4": np.frombuffer(json.dumps(state).encode(), np.uint8),
    }
    write_safetensors(tmp_path / "x", {f"m.{field}": array for field, array in parts.items()})
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    tensor = with_quantized(read_safetensors(tmp_path / "x"), config, "config.json")["m.weight"]
    scales = nested_levels[scale_codes] * np.repeat(nested_absmax, 3)[:16] + np.float32(0.5)
    expected = (levels[codes] * np.repeat(scales, 4))[:63].reshape(shape)
    for start in range(7):
        for stop in range(start + 1, 8):
            np.testing.assert_array_equal(tensor.part(slice(start, stop)).read(), expected[start:stop])
    assert tensor.layer(None) is None
    assert tensor.storage == ("FP4", 4, "blocks of 4, nested", None)


ROWS, COLUMNS = 10, 32
ROW, INPUT = np.arange(ROWS)[:, None], np.arange(COLUMNS)[None]
OTHER_FORMS = {  # {name: (settings of the weights, shape of the scales, index of the scale of each row and input)}
    "matrix": ({"strategy": "tensor"}, (1,), 0 * ROW * INPUT),
    "groups": ({"strategy": "group", "group_size": 8}, (ROWS, 4), (ROW, INPUT // 8)),
    "ordered groups": ({"strategy": "group", "group_size": 8}, (ROWS, 4), (ROW, INPUT * 7 % 4)),
    "blocks": ({"strategy": "block", "block_structure": [4, 12]}, (3, 3), (ROW // 4, INPUT // 12)),
}


def other_form(path, name, kind, is_symmetric=True):
    """The matrix "m.weight" of a file of compressed-tensors, and its numbers: scale (code - zero point).

    kind: "int", "packed" or "float".
    """
    weights, shape, index = OTHER_FORMS[name]
    rng, bits = np.random.default_rng(0), 4 if kind == "packed" else 8
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (ROWS, COLUMNS)).astype(np.int8)
    scale, zero_point = rng.random(shape).astype(np.float32), rng.integers(-8, 8, shape).astype(np.int8)
    tensors = {"weight": codes, "weight_scale": scale}
    if kind == "packed":
        del tensors["weight"]
        size = np.array([ROWS, COLUMNS], np.int64)
        tensors |= {"weight_packed": pack_codes(codes, 4).view(np.int32), "weight_shape": size}
    if name == "ordered groups":
        tensors["weight_g_idx"] = np.ravel(INPUT * 7 % 4).astype(np.int32)
    if kind == "packed" and name != "matrix":  # 10 codes of 4 bits need two words
        packed = pack_codes(np.pad(zero_point, [(0, 6), (0, 0)]).T, 4).view(np.int32).T
        tensors |= {} if is_symmetric else {"weight_zero_point": packed}
    elif not is_symmetric:
        tensors["weight_zero_point"] = zero_point
    dtypes = {"m.weight_shape": "I64"} | ({"m.weight": "F8_E5M2"} if kind == "float" else {})
    write_bits(path, {f"m.{field}": array for field, array in tensors.items()}, dtypes)
    scheme = {"num_bits": bits, "type": "float" if kind == "float" else "int", "symmetric": is_symmetric, **weights}
    values = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": scheme}}}
    stored = read_safetensors(path)
    tensor = with_quantized(stored, {"quantization_config": values}, "config.json")["m.weight"]
    numbers = stored["m.weight"].read() if kind == "float" else codes.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        return tensor, scale[index] * (numbers if is_symmetric else numbers - zero_point[index])


@pytest.mark.parametrize(
    ("name", "kind", "is_symmetric"),
    [
        *(("matrix", kind, is_symmetric) for kind in ("int", "packed") for is_symmetric in (True, False)),
        *(("groups", kind, is_symmetric) for kind in ("int", "packed") for is_symmetric in (True, False)),
        *(("ordered groups", "packed", is_symmetric) for is_symmetric in (True, False)),
        *((name, "float", True) for name in ("matrix", "groups", "blocks")),
    ],
)
def test_other_forms_of_compressed_tensors(tmp_path, name, kind, is_symmetric):
    tensor, expected = other_form(tmp_path / "x", name, kind, is_symmetric)
    np.testing.assert_array_equal(tensor.read(), expected)
    np.testing.assert_array_equal(tensor.part(slice(5, 9)).read(), expected[5:9])
    layer = tensor.layer(None)
    assert (layer is None) == (kind == "float" or name == "ordered groups")
    if layer is not None:
        np.testing.assert_array_equal(layer.dense_weight(), expected)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("blocks", "int", "'m' has integer codes in blocks of rows; decompress"),
        ("ordered groups", "int", "'m' has weight_g_idx beside numbers that are not packed; decompress"),
        ("ordered groups", "float", "'m' has weight_g_idx beside numbers that are not packed; decompress"),
    ],
)
def test_forms_of_compressed_tensors_that_are_refused(tmp_path, name, kind, message):
    with pytest.raises(CheckpointError, match=message):
        other_form(tmp_path / "x", name, kind)


def test_fp8_with_a_scale_per_row(tmp_path):
    numbers, scale = np.arange(24, dtype=np.uint8).reshape(6, 4), np.arange(6, dtype=np.float32)[:, None]
    write_bits(tmp_path / "x", {"m.weight": numbers, "m.weight_scale": scale}, {"m.weight": "F8_E4M3"})
    config = {"quantization_config": {"quant_method": "fbgemm_fp8"}}
    stored = read_safetensors(tmp_path / "x")
    tensor = with_quantized(stored, config, "config.json")["m.weight"]
    np.testing.assert_array_equal(tensor.read(), stored["m.weight"].read() * scale)
    np.testing.assert_array_equal(tensor.part(slice(2, 5)).read(), (stored["m.weight"].read() * scale)[2:5])


def test_a_scheme_with_the_name_of_a_module_is_its_own(tmp_path):
    """Also if it comes after others that fit the tensors."""
    groups = json.loads((GOLDEN / "w8a8_dynamic" / "config.json").read_text())["quantization_config"]["config_groups"]
    dynamic, name = groups["group_0"], "model.layers.0.self_attn.k_proj"
    weights_only = dynamic | {"input_activations": None}
    for first, second, wanted in (
        (dynamic, weights_only | {"targets": [name]}, {"key": False, "query": True}),
        (weights_only | {"targets": [name]}, dynamic, {"key": False, "query": True}),
        (dynamic | {"targets": [name]}, weights_only | {"targets": ["re:.*"]}, {"key": True, "query": False}),
        (dynamic | {"targets": ["other.name"]}, weights_only | {"targets": ["another.name"]}, {"key": True}),
    ):
        path = changed(tmp_path, "w8a8_dynamic", quantization={"config_groups": {"a": first, "b": second}})
        attention = quietly(path).layers[0].attention
        assert {key: getattr(attention, key).dynamic_activations for key in wanted} == wanted
        shutil.rmtree(path)


def test_zero_points_belong_to_an_asymmetric_scheme(tmp_path):
    """Of several schemes for the same modules, the first that fits the tensors."""
    groups = json.loads((GOLDEN / "int4_asymmetric" / "config.json").read_text())["quantization_config"][
        "config_groups"
    ]
    own = groups["group_0"]
    symmetric = own | {"weights": own["weights"] | {"symmetric": True}}
    wanted = load_model(GOLDEN / "int4_asymmetric").layers[0].attention.key.weight
    path = changed(tmp_path, "int4_asymmetric", quantization={"config_groups": {"a": symmetric, "b": own}})
    np.testing.assert_array_equal(load_model(path).layers[0].attention.key.weight, wanted)
