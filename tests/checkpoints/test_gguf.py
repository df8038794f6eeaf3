"""GGUF files: the model is that of the safetensors files, up to the rounding of the types of tensors."""

import json
import sys
import warnings
from dataclasses import replace

import gguf
import numpy as np
import pytest

from tests.checkpoints.gguf_files import CHOICES, FAMILIES, gguf_tensors, wide_model, write_gguf
from tests.checkpoints.models import small_model
from tinyslm.checkpoints import load_model, outline_model, save_model, stored_tensors
from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.checkpoints.gguf.container import TYPE_NUMBERS, TYPES
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.compression.quantization import PackedLinear, quantize
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.ops.rotary import inverse_frequencies
from tinyslm.tree import named_arrays, named_modules

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]])
KINDS = gguf.GGMLQuantizationType


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture(tmp_path, family, is_tied):
    values = CHOICES.get(family, {}) | {"tie_word_embeddings": is_tied}
    if family == "gemma3_text":
        values["num_hidden_layers"] = 7  # the sixth has full attention
    model = small_model(family, **values)
    write_gguf(tmp_path / "model.gguf", model)
    found = load_model(tmp_path / "model.gguf")
    if family == "phi3":  # the factor of attention has more digits than float32
        (rope,) = set(model.config.ropes)
        rounded = replace(rope, attention_factor=float(str(np.float32(rope.attention_factor))))
        model = model.replace(config=replace(model.config, ropes=(rounded,) * len(model.layers)))
    assert found.config == model.config
    expected = named_arrays(model)
    for path, array in named_arrays(found).items():
        np.testing.assert_allclose(array, expected.pop(path), rtol=0, atol=2e-7, err_msg=path)
    assert not expected
    np.testing.assert_allclose(found(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-5)
    assert repr(outline_model(tmp_path)) == repr(found)


QUANTIZED = [kind for kind in KINDS if kind.name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4")]
LINEAR = ("attn_q.weight", "attn_k.weight", "ffn_down.weight", "token_embd.weight")


def expected_arrays(model, kind):
    """{path: array} of the model after its matrices of LINEAR were quantized and dequantized by the package `gguf`."""
    rounded = {}
    for path, array in named_arrays(model).items():
        is_rounded = path.endswith(("query.weight", "key.weight", "down.weight", "embedding.table"))
        blocks = gguf.quants.quantize(array, kind) if is_rounded else array
        rounded[path] = gguf.quants.dequantize(blocks, kind) if is_rounded else array
    return rounded


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_every_type_and_form(tmp_path, kind):
    model = wide_model("llama")
    write_gguf(tmp_path / "model.gguf", model, types=dict.fromkeys(LINEAR, kind))
    found = load_model(tmp_path)
    expected = expected_arrays(model, kind)
    for path, array in named_arrays(found).items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)
    logits = found(TOKENS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)  # of types that no layer holds
        stored = load_model(tmp_path, weights="stored")
    mapped = load_model(tmp_path, weights="mapped")
    packed = named_modules(stored, PackedLinear)
    assert len(packed) == (6 if kind.name in ("Q8_0", "Q4_0") else 0)  # query, key and down of two layers
    assert all(layer.scale.shape[1] * 32 == layer.in_features for layer in packed.values())
    for form in (stored, mapped):
        np.testing.assert_allclose(form(TOKENS), logits, rtol=1e-4, atol=1e-4)
    for path, layer in named_modules(mapped, MappedLayer).items():
        plain = dict(named_modules(found))[path]
        np.testing.assert_array_equal(layer.dense_weight(), plain.dense_weight(), err_msg=path)
        assert layer.shapes() == plain.shapes() and layer.num_non_zeros() == plain.num_non_zeros()
    int8 = load_model(tmp_path, weights="int8")
    np.testing.assert_array_equal(
        int8.embedding.dense_weight(), quantize(expected["embedding.table"], axis=0).dequantize()
    )


@pytest.mark.parametrize("name", [kind.name for kind in TYPES.values() if kind.block == 256])
def test_types_that_are_only_read(tmp_path, name):
    """The package `gguf` does not write these types, so the blocks are any bytes with small scales."""
    model, kind = wide_model("llama", hidden_size=256, num_attention_heads=16, num_key_value_heads=8), KINDS[name]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(0).integers(0, 56, (96, size), dtype=np.uint8)  # such a float16 is below 1
    path = tmp_path / "model.gguf"
    tensors = {f"blk.{layer}.ffn_gate.weight": blocks for layer in range(2)}
    write_gguf(path, model, types={"ffn_gate.weight": kind}, tensors=tensors)
    weight = load_model(path).layers[0].feed_forward.gate.weight
    np.testing.assert_array_equal(weight, gguf.quants.dequantize(blocks, kind))
    tensor = stored_tensors(path)["blk.0.ffn_gate.weight"]
    assert (tensor.shape, tensor.storage.format, tensor.nbytes) == ((96, 256), name, 96 * size)


def test_the_types_are_those_of_the_package():
    for number, kind in TYPES.items():
        assert KINDS(number).name == kind.name and gguf.GGML_QUANT_SIZES[KINDS(number)] == (kind.block, kind.size)
    assert TYPE_NUMBERS["Q4_K"] == KINDS.Q4_K


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), types={"ffn_down.weight": KINDS.Q5_0})
    monkeypatch.setitem(sys.modules, "gguf.quants", None)
    with pytest.raises(ConfigError, match=r'the type Q5_0 need the package gguf: pip install "tinyslm\[gguf\]"'):
        load_model(tmp_path)


def test_plain_and_affine_types_need_no_package(tmp_path, monkeypatch):
    for kind in (KINDS.F16, KINDS.Q8_0, KINDS.Q4_0):
        write_gguf(tmp_path / "model.gguf", wide_model("llama"), types=dict.fromkeys(LINEAR, kind))
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "gguf.quants", None)
            load_model(tmp_path)


def test_frequency_divisors_of_llama_3(tmp_path):
    """The tensor rope_freqs.weight gives the frequencies of the scaling "llama3"."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    model = wide_model("llama", rope_parameters=rope | {"original_max_position_embeddings": 32})
    scaled = inverse_frequencies(model.config.ropes[0], 1)
    plain = inverse_frequencies(replace(model.config.ropes[0], scaling="default"), 1)
    assert not np.array_equal(plain, scaled)
    write_gguf(tmp_path / "model.gguf", model, tensors={"rope_freqs.weight": plain / scaled})
    found = load_model(tmp_path)
    np.testing.assert_allclose(found(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-5)
    save_model(tmp_path / "saved", found)
    assert load_model(tmp_path / "saved").config == found.config


def test_linear_scaling_of_positions(tmp_path):
    model = wide_model("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    write_gguf(tmp_path / "model.gguf", model, metadata=scaling)
    assert load_model(tmp_path).config.ropes == model.config.ropes


def test_saving_gives_the_same_model(tmp_path):
    """A directory in float32, because no shorter dtype holds the numbers, with the settings of the file."""
    tokens = {"tokenizer.ggml.tokens": ["a", "b", "</s>", "<|im_end|>"], "tokenizer.ggml.token_type": [1, 1, 3, 3]}
    tokens |= {"tokenizer.ggml.eos_token_id": 2, "tokenizer.chat_template": "{{ messages }}"}
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), types=dict.fromkeys(LINEAR, KINDS.Q8_0), metadata=tokens)
    model = load_model(tmp_path / "model.gguf")
    assert model.config.source.directory == tmp_path / "model.gguf"
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert again.config == model.config and again.config.source.dtype == "float32"
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    assert read_generation_config(tmp_path / "saved") == read_generation_config(tmp_path / "model.gguf")
    assert read_generation_config(tmp_path / "saved").end_tokens == (2, 3)
    settings = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == "{{ messages }}" and settings["eos_token"] == "</s>"


@pytest.mark.parametrize(
    ("keys", "ends"),
    [
        ({}, (4,)),
        ({"eos_token_id": 2}, (2, 4)),
        ({"eos_token_id": 2, "eot_token_id": 1, "eom_token_id": 0}, (2, 1, 0, 4)),
        ({"eos_token_id": 4, "eot_token_id": 4}, (4,)),
        ({"eos_token_id": 5}, (4,)),  # no token
    ],
)
def test_tokens_that_end_a_text(tmp_path, keys, ends):
    """Those that keys name, and control tokens of a known text: not the normal token <|im_end|>."""
    metadata = {"tokens": ["a", "b", "</s>", "<|im_end|>", "<|eot_id|>"], "token_type": [1, 1, 3, 1, 3]} | keys
    metadata = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    remove = [] if "eos_token_id" in keys else ["tokenizer.ggml.eos_token_id"]
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), metadata=metadata, remove=remove)
    assert read_generation_config(tmp_path / "model.gguf").end_tokens == ends


def test_a_float16_file_is_saved_as_float16(tmp_path):
    model = wide_model("llama")
    halves = {name: array.astype(np.float16) for name, array in gguf_tensors(model).items() if array.ndim == 2}
    write_gguf(tmp_path / "model.gguf", model, tensors=halves)
    model = load_model(tmp_path)
    assert model.config.source.dtype == "float16"
    save_model(tmp_path / "saved", model)
    assert stored_tensors(tmp_path / "saved")["model.layers.0.mlp.up_proj.weight"].dtype == "F16"


SETTINGS = [
    ({"llama.block_count": 0}, "llama.block_count is 0, expected an integer from 1 to 10000"),
    ({"llama.block_count": 9000}, "has 9000 layers or experts, but the files have only"),
    ({"llama.block_count": 1}, "unknown tensor 'blk.1"),
    ({"llama.embedding_length": "x"}, "llama.embedding_length is 'x', expected an integer"),
    ({"llama.embedding_length": [64, 64]}, r"llama.embedding_length is \[64, 64\], expected an integer"),
    ({"llama.attention.head_count": 8}, "tensor 'blk.0.attn_q.weight': shape is"),
    ({"llama.attention.head_count_kv": [2, 2]}, r"llama.attention.head_count_kv is \[2, 2\], expected an integer"),
    ({"llama.attention.value_length": 8}, "llama.attention.value_length is 8, expected 16, as attention.key_length"),
    ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8, expected 16, the size of a head"),
    ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "layer_norm_rms_epsilon is nan, expected a number"),
    ({"llama.rope.freq_base": 0.0}, "llama.rope.freq_base is 0.0, expected"),
    ({"llama.rope.scaling.type": "new"}, "llama.rope.scaling.type is 'new', expected one of linear"),
    ({"llama.expert_count": 8}, r"llama.expert_count is 8, expected 0 \(a mixture of experts is not supported\)"),
    ({"split.count": 3}, "is one of 3 parts of a model; join them with llama-gguf-split --merge"),
    ({"general.type": "adapter"}, "general.type is 'adapter', expected 'model'"),
    ({"tokenizer.ggml.bos_token_id": "a"}, "tokenizer.ggml.bos_token_id is 'a', expected a token id or null"),
    ({"general.alignment": 48}, r"general.alignment is 48, expected a power of two"),
]


@pytest.mark.parametrize(("metadata", "message"), SETTINGS)
def test_wrong_settings(tmp_path, metadata, message):
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), metadata=metadata)
    for read in (load_model, outline_model):
        with pytest.raises((ConfigError, CheckpointError), match=f"model.gguf: .*{message}"):
            read(tmp_path)


def test_missing_parts(tmp_path):
    path, model = tmp_path / "model.gguf", wide_model("llama")
    write_gguf(path, model, remove=["llama.context_length"])
    with pytest.raises(ConfigError, match=r"model.gguf: llama.context_length is missing, expected an integer"):
        load_model(path)
    for name, shape in (("token_embd.weight", ""), ("blk.1.ffn_up.weight", r" of shape \(96, 64\)")):
        write_gguf(path, model, remove=[name])
        with pytest.raises(CheckpointError, match=f"model.gguf: tensor '{name}'{shape} is missing"):
            load_model(path)
    write_gguf(path, model, tensors={"rope_freqs.weight": np.ones(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"tensor 'rope_freqs.weight': shape is \(3,\), expected \(8,\)"):
        load_model(path)


def test_an_unknown_architecture(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigError, match=r"general.architecture is 'mamba', expected one of gemma, gemma2"):
        load_model(tmp_path)
