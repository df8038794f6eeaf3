"""GGUF files that are written: the model that is read back is the model that was written."""

import sys
from dataclasses import replace

import gguf
import numpy as np
import pytest

from tests.checkpoints.gguf_files import CHOICES, FAMILIES, wide_model, write_gguf
from tests.checkpoints.models import small_model
from tinyslm.checkpoints import load_model, save_model, stored_tensors
from tinyslm.checkpoints.gguf.container import read_container
from tinyslm.checkpoints.gguf.writing import Layers, save_gguf
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear
from tinyslm.compression.factorization import factorize_linear
from tinyslm.compression.quantization import (
    PackedLinear,
    PackedNMLinear,
    QuantizedEmbedding,
    StaticQuantizedLinear,
    linear_from_codes,
    quantize,
)
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.modules import Linear
from tinyslm.tree import map_modules, named_arrays, named_modules

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
KINDS = gguf.GGMLQuantizationType
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
SCALINGS = {  # {family: scalings of rotary positions}
    "llama": [LLAMA3 | {"original_max_position_embeddings": 32}, {"rope_type": "linear", "factor": 4.0}],
    "qwen2": [{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}],
}


def writable(family, is_tied=True):
    """A small model of a family with settings that its GGUF files can hold."""
    values = CHOICES.get(family, {}) | {"tie_word_embeddings": is_tied}
    if family == "gemma3_text":
        values |= {"num_hidden_layers": 7, "rope_local_base_freq": 500.0}  # the sixth layer has full attention
    return small_model(family, **values)


def with_layers(model, make, kind=Linear):
    """The model with `make(layer)` in place of every layer of a class."""
    return map_modules(lambda path, layer: make(layer), model, kind)


def grouped(bits, symmetric=True, group_size=32):
    """A function that quantizes a linear layer."""

    def make(layer):
        return linear_from_codes(
            quantize(layer.weight, bits=bits, symmetric=symmetric, group_size=group_size), layer.bias
        )

    return make


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(tmp_path, family, is_tied):
    """The model that is read back, and the metadata and tensors as the converter of llama.cpp writes them."""
    model = writable(family, is_tied)
    save_gguf(tmp_path / "model.gguf", model)
    np.testing.assert_allclose(load_model(tmp_path / "model.gguf")(TOKENS), model(TOKENS), rtol=1e-5, atol=1e-5)
    write_gguf(tmp_path / "other.gguf", model)
    found, other = read_container(tmp_path / "model.gguf"), read_container(tmp_path / "other.gguf")
    assert found.tensors.keys() == other.tensors.keys()
    for name, entry in other.tensors.items():
        assert entry.shape == found.tensors[name].shape
        numbers, expected = (each.content.view("<f4") for each in (found.tensors[name], entry))
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=2e-7, err_msg=name)
    for key, value in other.metadata.items():
        if not key.startswith("tokenizer."):
            assert found.metadata[key] == value, key


@pytest.mark.parametrize(
    ("family", "rope"), [(family, rope) for family, ropes in SCALINGS.items() for rope in ropes], ids=str
)
def test_scalings_of_rotary_positions(tmp_path, family, rope):
    values = CHOICES.get(family, {}) | {"rope_parameters": {"rope_theta": 10000.0} | rope}
    model = small_model(family, **values)
    save_gguf(tmp_path / "model.gguf", model)
    token_ids = np.arange(48)[None] % 50
    np.testing.assert_allclose(load_model(tmp_path)(token_ids), model(token_ids), rtol=1e-4, atol=1e-5)
    if rope["rope_type"] == "yarn":
        metadata = read_container(tmp_path / "model.gguf").metadata
        assert metadata["qwen2.rope.scaling.original_context_length"] == 16


def test_a_window_becomes_the_longest_context(tmp_path):
    model = small_model("mistral", sliding_window=6)
    export = save_gguf(tmp_path / "model.gguf", model)
    found = load_model(tmp_path)
    assert (export.architecture, found.config.family, found.config.max_position_embeddings) == ("llama", "llama", 6)
    assert "the longest context is 6 tokens" in export.notes[0]
    np.testing.assert_allclose(found(TOKENS[:, :6]), model(TOKENS[:, :6]), rtol=1e-5, atol=1e-5)
    assert not save_gguf(tmp_path / "full.gguf", small_model("mistral", sliding_window=None)).notes


FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3}


def test_what_llama_cpp_does_otherwise_with_phi3(tmp_path):
    """It ignores windows, and chooses between short and long factors by the context that it is given."""
    values = {"sliding_window": 16, "max_position_embeddings": 64}
    first, second = save_gguf(tmp_path / "a.gguf", small_model("phi3", **values)).notes
    assert first == "llama.cpp ignores the sliding window of this family: texts of over 16 tokens differ there"
    assert second.startswith("llama.cpp uses the frequencies for long texts if it is started with a context of over 6")
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "sliding_window": 64}
    assert not save_gguf(tmp_path / "b.gguf", small_model("phi3", **plain)).notes


@pytest.mark.parametrize("dtype", FILE_TYPES)
def test_every_type(tmp_path, dtype):
    """Matrices as the package `gguf` rounds them; norms in float32; the matrix of the logits has at least 8 bits."""
    model = wide_model("llama", tie_word_embeddings=False)
    export = save_gguf(tmp_path / "model.gguf", model, dtype)
    expected = named_arrays(model)
    for path, array in named_arrays(load_model(tmp_path)).items():
        of_matrix = "Q8_0" if path == "head.weight" and dtype.startswith("Q4") else dtype
        kind = KINDS[of_matrix if array.ndim == 2 else "F32"]
        rounded = gguf.quants.dequantize(gguf.quants.quantize(expected[path], kind), kind)
        np.testing.assert_array_equal(array, rounded.reshape(array.shape), err_msg=path)
    stored = stored_tensors(tmp_path).values()
    assert len(stored) == sum(count for count, _ in export.types.values())
    assert sum(tensor.nbytes for tensor in stored) == sum(size for _, size in export.types.values())
    assert read_container(tmp_path / "model.gguf").metadata["general.file_type"] == FILE_TYPES[dtype]


@pytest.mark.filterwarnings("ignore:.*quantized weights are dequantized")  # the embedding
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("group_size", [32, 64, None], ids=str)
def test_codes_are_kept(tmp_path, bits, group_size):
    """Same codes; scales rounded to float16. Reading them as they are stored gives the layer again."""

    def make(layer):
        settings = {"axis": 0} if group_size is None else {"group_size": group_size}
        return linear_from_codes(quantize(layer.weight, bits=bits, **settings), layer.bias)

    model = with_layers(wide_model("llama", intermediate_size=128), make)
    export = save_gguf(tmp_path / "model.gguf", model, "Q4_0")
    kind = "Q4_0" if bits <= 4 else "Q8_0"
    assert [(layers.type, layers.codes, layers.count) for layers in export.layers] == [(kind, True, 15)]
    found = named_modules(load_model(tmp_path, weights="stored"), PackedLinear)
    assert len(found) == 15
    for path, layer in found.items():
        codes, kept = named_modules(model)[path].quantized_weight(), layer.quantized_weight()
        np.testing.assert_array_equal(codes.codes, kept.codes, err_msg=path)
        scale = np.repeat(codes.scale, kept.scale.shape[1] // codes.scale.shape[1], axis=1)
        np.testing.assert_array_equal(scale.astype(np.float16), kept.scale, err_msg=path)
    assert any("scales are rounded to float16, by at most 0.000" in note for note in export.notes)


def test_codes_with_zero_points(tmp_path):
    """4 bits fit in Q4_1 up to the rounding of its two numbers in float16; 8 bits are written as numbers."""
    model = with_layers(wide_model("llama"), grouped(4, symmetric=False))
    export = save_gguf(tmp_path / "model.gguf", model)
    assert export.notes[0].endswith(", and so are the minima of Q4_1")
    for path, layer in named_modules(load_model(tmp_path), Linear).items():
        own = named_modules(model)[path]
        np.testing.assert_allclose(layer.weight, own.dense_weight(), rtol=0, atol=16 * own.scale.max() * 2**-10)
    export = save_gguf(tmp_path / "eight.gguf", with_layers(wide_model("llama"), grouped(8, symmetric=False)))
    assert export.types.keys() == {"F32"} and export.layers[0].codes is False


def test_codes_as_numbers(tmp_path):
    """A floating-point type is written in place of codes."""
    model = with_layers(wide_model("llama"), grouped(4))
    assert save_gguf(tmp_path / "model.gguf", model, "F32").types.keys() == {"F32"}
    np.testing.assert_allclose(load_model(tmp_path)(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-5)


def test_groups_of_other_sizes_and_large_scales_are_numbers(tmp_path):
    model = with_layers(wide_model("llama"), grouped(4, group_size=16))
    assert save_gguf(tmp_path / "a.gguf", model).types.keys() == {"F32"}
    model = with_layers(
        wide_model("llama"), lambda layer: grouped(8)(layer.replace(weight=layer.weight * np.float32(1e9)))
    )
    assert save_gguf(tmp_path / "b.gguf", model).types.keys() == {"F32"}


def test_other_layers(tmp_path):
    """Low rank, 2:4 with codes, static quantization and a quantized embedding: by name, with their sizes."""
    model = wide_model("llama", vocab_size=64)
    first, second = model.layers
    attention, feed_forward = first.attention, first.feed_forward
    low_rank = factorize_linear(attention.query, rank=4)
    pruned = attention.value.weight * (np.arange(64) % 4 < 2)
    sparse = PackedNMLinear.from_codes(
        linear_from_codes(quantize(pruned, bits=4, group_size=32), attention.value.bias), "2:4"
    )
    static = StaticQuantizedLinear.from_linear(feed_forward.up, -3.0, 3.0)
    first = first.replace(
        attention=attention.replace(query=low_rank, value=sparse), feed_forward=feed_forward.replace(up=static)
    )
    model = model.replace(layers=[first, second], embedding=QuantizedEmbedding.from_embedding(model.embedding))
    export = save_gguf(tmp_path / "model.gguf", model)
    found = load_model(tmp_path)
    np.testing.assert_allclose(found.layers[0].attention.query.weight, low_rank.dense_weight(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.layers[0].attention.value.weight, sparse.dense_weight(), rtol=1e-3)
    np.testing.assert_allclose(found.layers[0].feed_forward.up.weight, static.dense_weight(), rtol=1e-3)
    np.testing.assert_allclose(found.embedding.table, model.embedding.table, rtol=1e-3)
    assert Layers("LowRankLinear", "F32", False, 1, 4 * 4 * 128, 4 * 64 * 64) in export.layers
    assert Layers("PackedNMLinear", "Q4_0", True, 1, sparse.num_bits() // 8 - 4 * 32, 32 * 2 * 18) in export.layers
    assert Layers("QuantizedEmbedding", "Q8_0", True, 1, 64 * 64 + 4 * 64, 64 * 2 * 34) in export.layers
    assert len(export.layers) == 4
    assert export.notes[-2] == "the rounding of the inputs of 1 layer is not in the file"
    assert export.notes[-1].startswith(
        "llama.cpp rounds the inputs of matrices in Q8_0 and Q4_0 to 8 bits in blocks of 32"
    )


def test_learned_positions_are_float32(tmp_path):
    model = wide_model("gpt2", tie_word_embeddings=True)
    assert save_gguf(tmp_path / "model.gguf", model, "Q8_0").types.keys() == {"Q8_0", "F32"}
    np.testing.assert_array_equal(load_model(tmp_path).position_embedding.table, model.position_embedding.table)


def test_a_sliced_model(tmp_path):
    """Fewer heads, neurons and layers; the head size is not hidden_size / heads."""
    model = small_model("llama", hidden_size=24, head_dim=10, num_attention_heads=3, num_key_value_heads=1)
    parts = {name: getattr(model.config, name)[:1] for name in ("ropes", "windows", "dense_layers")}
    config = replace(model.config, num_hidden_layers=1, **parts)
    model = model.replace(layers=model.layers[:1], config=config)
    save_gguf(tmp_path / "model.gguf", model)
    np.testing.assert_allclose(load_model(tmp_path)(TOKENS), model(TOKENS), rtol=1e-5, atol=1e-5)


def test_rows_that_are_not_blocks(tmp_path):
    """F16 in their place, as in llama.cpp."""
    export = save_gguf(tmp_path / "model.gguf", small_model("qwen2", **CHOICES["qwen2"]), "Q8_0")
    assert export.types.keys() == {"F16", "F32"}
    assert "16 matrices in F16, such as token_embd.weight: rows of 24 numbers are not whole blocks" in export.notes[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_dtype_of_the_file_is_kept(tmp_path, dtype):
    """Where it holds all numbers, from a mapped model."""
    save_model(tmp_path / "saved", wide_model("llama"), dtype=dtype)
    model = load_model(tmp_path / "saved", weights="mapped")
    export = save_gguf(tmp_path / "model.gguf", model)
    assert set(export.types) == {"F32", {"float16": "F16", "bfloat16": "BF16"}[dtype]}
    assert not export.notes
    np.testing.assert_array_equal(load_model(tmp_path / "model.gguf")(TOKENS), load_model(tmp_path / "saved")(TOKENS))


@pytest.mark.parametrize("dtype", [None, "Q8_0"])
def test_mapped_matrices_are_never_whole_in_memory(tmp_path, monkeypatch, dtype):
    model = wide_model("qwen2", **CHOICES["qwen2"])
    save_model(tmp_path / "saved", model, dtype="bfloat16")
    expected = save_gguf(tmp_path / "a.gguf", load_model(tmp_path / "saved"), dtype)

    def whole(layer):
        raise AssertionError("the whole matrix is read")

    for kind in (MappedLinear, MappedEmbedding):
        monkeypatch.setattr(kind, "dense_weight", whole)
    assert save_gguf(tmp_path / "b.gguf", load_model(tmp_path / "saved", "mapped"), dtype) == expected
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.filterwarnings("ignore:.*quantized weights are dequantized")  # the embedding
def test_a_gguf_file_is_written_again(tmp_path):
    save_gguf(tmp_path / "a.gguf", wide_model("llama"), "Q8_0")
    save_gguf(tmp_path / "b.gguf", load_model(tmp_path / "a.gguf", weights="stored"), "Q8_0")
    first, second = read_container(tmp_path / "a.gguf"), read_container(tmp_path / "b.gguf")
    for name, entry in first.tensors.items():
        np.testing.assert_array_equal(entry.content, second.tensors[name].content, err_msg=name)


def test_what_cannot_be_written(tmp_path):
    path = tmp_path / "model.gguf"
    refused = [
        (small_model("phi"), None, "family phi cannot be written as GGUF, expected one of gemma, "),
        (small_model("bert"), None, "family bert cannot be written as GGUF"),
        (small_model("gemma", head_dim=10, attention_bias=True), None, "this gemma model has biases, which llama.cpp"),
        (small_model("smollm3", attention_bias=False, mlp_bias=False), None, "positions of layer . with"),
        (small_model("llama", rope_parameters=DYNAMIC), None, "of layer 0 with scaling='dynamic', factor=3.0, orig"),
        (
            wide_model("llama", hidden_act="gelu"),
            None,
            "activation is 'gelu', but a GGUF file of the arch",
        ),
        (wide_model("llama"), "Q2_K", "dtype is 'Q2_K', expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, or None"),
    ]
    for model, dtype, message in refused:
        with pytest.raises(ConfigError, match=message):
            save_gguf(path, model, dtype)
    model = wide_model("llama")
    large, broken = (
        model.replace(norm=model.norm, embedding=model.embedding.replace(table=model.embedding.table * factor))
        for factor in (np.float32(1e8), np.float32(np.nan))
    )
    with pytest.raises(CheckpointError, match=r"tensor 'token_embd.weight': holds .*, too large for F16; export it as"):
        save_gguf(path, large, "F16")
    with pytest.raises(CheckpointError, match=r"tensor 'token_embd.weight': holds numbers that are not finite"):
        save_gguf(path, broken, "Q8_0")
    norm = model.norm.replace(weight=model.norm.weight[:5])
    with pytest.raises(CheckpointError, match=r"norm.weight is \(5,\), but the model's configuration requires \(64,\)"):
        save_gguf(path, model.replace(norm=norm))
    query = model.layers[0].attention.query.replace(bias=None)
    attention = model.layers[0].attention.replace(query=query)
    layers = [model.layers[0].replace(attention=attention), model.layers[1]]
    with pytest.raises(CheckpointError, match=r"attention.query.bias is nothing"):
        save_gguf(path, model.replace(layers=layers))
    assert not list(tmp_path.iterdir())  # nothing is left


def test_an_extra_array_is_not_dropped(tmp_path):
    model = small_model("qwen2", **CHOICES["qwen2"])
    output = model.layers[0].attention.output.replace(bias=np.ones(24, np.float32))
    layer = model.layers[0].replace(attention=model.layers[0].attention.replace(output=output))
    with pytest.raises(CheckpointError, match=r"layers.0.attention.output.bias: a GGUF file of .* has no such array"):
        save_gguf(tmp_path / "model.gguf", model.replace(layers=[layer, *model.layers[1:]]))


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"mine")
    with pytest.raises(Error, match=r"model.gguf: exists already; choose another path or remove it first"):
        save_gguf(path, wide_model("llama"))
    assert path.read_bytes() == b"mine"


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r'writing GGUF files needs the package gguf: pip install "tinyslm\[gguf\]"'):
        save_gguf(tmp_path / "model.gguf", wide_model("llama"))
    assert not list(tmp_path.iterdir())
