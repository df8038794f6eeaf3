"""Export for other programs: the codes and the numbers that are read back are those of the model."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints.models import small_model
from tinyslm.checkpoints import load_model, read_safetensors, save_model
from tinyslm.checkpoints.quantized.compressed_tensors_export import export_compressed_tensors
from tinyslm.checkpoints.transformers_export import export_transformers
from tinyslm.compression.factorization import LowRankLinear, factorize_linear
from tinyslm.compression.pruning import CsrLinear, MaskedLinear, n_m_mask
from tinyslm.compression.quantization import (
    PackedLinear,
    PackedNMLinear,
    QuantizedLinear,
    StaticQuantizedLinear,
    linear_from_codes,
    quantize,
)
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes import Factorize, Quantize, QuantizeFormat, SliceGroups, StoreSparse, compress
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers
from tinyslm.tree import named_arrays, named_modules

GOLDEN = Path(__file__).parent.parent / "golden" / "quantized"
TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])
LAYERS = ("attention.query", "attention.key", "attention.value", "attention.output")


def with_layers(model, make, ending=""):
    """The model with `make(layer)` in place of the linear layers of the blocks whose paths have this ending."""
    layers = {path: layer for path, layer in compressible_layers(model).items() if path.endswith(ending)}
    return replace_layers(model, {path: make(layer) for path, layer in layers.items()})


def codes(bits=4, symmetric=True, group_size=None, **settings):
    """A function that quantizes a linear layer."""

    def make(layer):
        axis = None if group_size else 0
        weight = quantize(layer.weight, bits=bits, symmetric=symmetric, axis=axis, group_size=group_size)
        return linear_from_codes(weight, layer.bias, **settings)

    return make


def static(layer):
    return StaticQuantizedLinear.from_linear(layer, -3.1, 4.2)


def settings(path):
    """The object quantization_config."""
    return json.loads((path / "config.json").read_text())["quantization_config"]


def assert_same_layers(found, model):
    """The same codes, scales, zero points and numbers in every linear layer of the blocks."""
    layers = compressible_layers(found)
    for path, layer in compressible_layers(model).items():
        ours, theirs = layer.quantized_weight(), layers[path].quantized_weight()
        assert ours.bits == theirs.bits, path
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        np.testing.assert_array_equal(layer.dense_weight(), layers[path].dense_weight())


@pytest.mark.parametrize("name", ["int4_groups", "int4_asymmetric", "int3_rows", "w8a8_dynamic", "w8a8_static"])
def test_the_tensors_of_the_library_are_written_again(name, tmp_path):
    """The files in tests/golden/quantized were written by compressed-tensors."""
    model = load_model(GOLDEN / name, "stored")
    exported = export_compressed_tensors(tmp_path / "new", model)
    wanted, found = (read_safetensors(path / "model.safetensors") for path in (GOLDEN / name, tmp_path / "new"))
    assert list(found) != [] and set(found) == set(wanted) and exported.folded == []
    for key, tensor in wanted.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape), key
        np.testing.assert_array_equal(found[key].bits, tensor.bits, err_msg=key)
    theirs, ours = settings(GOLDEN / name), settings(tmp_path / "new")
    assert ours["format"] == theirs["format"] and ours["ignore"] == theirs["ignore"]
    for part in ("weights", "input_activations"):
        scheme, written = theirs["config_groups"]["group_0"][part], ours["config_groups"]["group_0"][part]
        assert (scheme is None) == (written is None)
        assert all(scheme[key] == value for key, value in (written or {}).items())


@pytest.mark.parametrize(
    ("family", "bits", "symmetric", "group_size", "dynamic"),
    [
        ("llama", 2, True, None, False),
        ("llama", 3, False, None, False),
        ("llama", 4, True, 8, False),
        ("llama", 4, True, None, True),
        ("llama", 5, False, 4, False),
        ("llama", 8, True, None, False),
        ("llama", 8, False, None, True),
        ("llama", 8, False, 8, False),
        ("phi3", 4, False, 8, False),
        ("phi3", 8, True, None, True),
        ("gpt_neox", 3, False, 8, False),
        ("gpt_neox", 8, False, None, True),
    ],
)
def test_codes_are_read_back(tmp_path, family, bits, symmetric, group_size, dynamic):
    """Of one tensor per layer, of fused tensors, and of tensors in which the rows of layers alternate."""
    model = with_layers(small_model(family), codes(bits, symmetric, group_size, dynamic_activations=dynamic))
    exported = export_compressed_tensors(tmp_path / "new", model)
    assert exported.folded == [] and len(exported.forms) == 1
    layers, dense = compressible_layers(model), compressible_layers(load_model(tmp_path / "new"))
    for path, layer in layers.items():
        np.testing.assert_array_equal(dense[path].weight, layer.dense_weight())
    if family != "gpt_neox":  # no layer holds every other row
        found = load_model(tmp_path / "new", "stored")
        assert_same_layers(found, model)
        kinds = {type(layer) for layer in compressible_layers(found).values()}
        assert kinds == {PackedLinear if bits < 8 or group_size is not None else QuantizedLinear}
        np.testing.assert_allclose(found(TOKENS), model(TOKENS), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "phi3", "bert"])
def test_fixed_ranges_of_inputs_are_read_back(family, tmp_path):
    model = with_layers(small_model(family), static)
    export_compressed_tensors(tmp_path / "new", model)
    found = load_model(tmp_path / "new", "stored")
    assert_same_layers(found, model)
    np.testing.assert_array_equal(found(TOKENS), model(TOKENS))


def test_one_scale_for_the_matrix_and_a_pattern_are_written_as_codes(tmp_path):
    model = small_model("llama")

    def pruned(layer):
        weight = np.where(n_m_mask(np.abs(layer.weight), 2, 4), layer.weight, 0)
        quantized = linear_from_codes(quantize(weight, bits=4, group_size=8), layer.bias)
        return PackedNMLinear.from_codes(quantized, "2:4")

    matrix = Quantize(bits=3, per_channel=False, symmetric=False)(model)
    for i, each in enumerate((with_layers(model, pruned), matrix)):
        export_compressed_tensors(tmp_path / str(i), each)
        assert_same_layers(load_model(tmp_path / str(i), "stored"), each)


@pytest.mark.parametrize("symmetric", [True, False])
def test_layers_of_different_forms(tmp_path, symmetric):
    """Each scheme names its modules. transformers reads packed zero points only of models with one scheme."""
    model = with_layers(small_model("llama"), codes(4, symmetric, 8), ending="query")
    model = with_layers(model, lambda layer: codes(8)(layer) if isinstance(layer, Linear) else layer)
    model = replace_layers(model, {"layers.1.feed_forward.down": small_model("llama").layers[1].feed_forward.down})
    exported = export_compressed_tensors(tmp_path / "new", model)
    assert sorted(exported.forms.values()) == [2, 11]
    found = settings(tmp_path / "new")
    groups = {group["weights"]["num_bits"]: group for group in found["config_groups"].values()}
    assert groups[4]["targets"] == [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    assert groups[4]["format"] == ("pack-quantized" if symmetric else "naive-quantized")
    assert found["format"] == ("pack-quantized" if symmetric else "mixed-precision")
    assert "dequantize" not in found and set(found["ignore"]) == {"lm_head", "model.layers.1.mlp.down_proj"}
    back = load_model(tmp_path / "new", "stored")
    assert isinstance(back.layers[1].feed_forward.down, Linear)
    np.testing.assert_allclose(back(TOKENS), model(TOKENS), rtol=1e-4, atol=2e-5)


def test_zero_points_that_are_all_0_are_written_beside_others(tmp_path):
    """One scheme for layers that differ only in whether their zero points happen to be 0."""
    model = with_layers(small_model("llama"), codes(4, True, 8), ending="query")
    model = with_layers(model, lambda layer: codes(4, False, 8)(layer) if isinstance(layer, Linear) else layer)
    export_compressed_tensors(tmp_path / "new", model)
    found = settings(tmp_path / "new")
    assert len(found["config_groups"]) == 1 and found["dequantize"] is True
    assert "model.layers.0.self_attn.q_proj.weight_zero_point" in read_safetensors(tmp_path / "new/model.safetensors")
    np.testing.assert_allclose(load_model(tmp_path / "new", "stored")(TOKENS), model(TOKENS), rtol=1e-4, atol=2e-5)


def test_layers_without_a_form_are_folded_and_named(tmp_path):
    """Low-rank layers, fused layers of different forms, embeddings and the head."""
    model = with_layers(small_model("phi3"), codes(4))
    odd = codes(8)(small_model("phi3").layers[0].attention.key)
    low_rank = factorize_linear(small_model("phi3").layers[1].attention.output, 3)
    model = replace_layers(model, {"layers.0.attention.key": odd, "layers.1.attention.output": low_rank})
    exported = export_compressed_tensors(tmp_path / "new", model)
    reasons = {path: folded.reason for folded in exported.folded for path in folded.paths}
    assert set(reasons) == {"layers.0." + path for path in LAYERS[:3]} | {"layers.1.attention.output"}
    assert reasons["layers.0.attention.query"] == "the layers of one tensor have different forms"
    assert reasons["layers.1.attention.output"] == "compressed-tensors has no such form"
    sizes = {folded.kind: (folded.own_bytes, folded.written_bytes) for folded in exported.folded}
    factors = named_arrays(low_rank)
    assert sizes["LowRankLinear"] == (sum(array.nbytes for array in factors.values()), 4 * 40 * 40)
    np.testing.assert_allclose(load_model(tmp_path / "new", "stored")(TOKENS), model(TOKENS), rtol=1e-4, atol=2e-5)


def test_embeddings_and_head_are_dense(tmp_path):
    model = Quantize(bits=4)(small_model("llama", tie_word_embeddings=False))
    exported = export_compressed_tensors(tmp_path / "new", model)
    assert {(folded.kind, folded.paths) for folded in exported.folded} == {
        ("QuantizedEmbedding", ("embedding",)),
        ("QuantizedLinear", ("head",)),
    }
    tensors = read_safetensors(tmp_path / "new/model.safetensors")
    np.testing.assert_array_equal(tensors["lm_head.weight"].bits, model.head.dense_weight())
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"].bits, model.embedding.table)
    assert settings(tmp_path / "new")["ignore"] == ["lm_head"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_model("llama"), "no layer has codes that compressed-tensors holds, found dense layers only"),
        (lambda: Factorize(0.5)(small_model("llama")), "found LowRankLinear; export the model to transformers"),
        (lambda: Quantize(bits=4)(small_model("gpt2")), "transformers has no Linear in gpt2"),
        (lambda: Quantize(symmetric=False)(small_model("mixtral")), "transformers reads experts"),
        (lambda: Quantize(dynamic_activations=True)(small_model("qwen3_moe")), "transformers reads experts"),
        (lambda: with_layers(small_model("mixtral"), codes(), ending="query"), "transformers reads experts"),
    ],
)
def test_what_compressed_tensors_cannot_hold(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        export_compressed_tensors(tmp_path / "new", make())
    assert list(tmp_path.iterdir()) == []


def test_experts_keep_their_codes(tmp_path):
    """Their scheme comes first, where transformers looks for it."""
    model = with_layers(small_model("mixtral"), codes(4))
    for path in LAYERS:
        model = with_layers(model, lambda layer: linear_from_codes(layer.quantized_weight(), layer.bias), ending=path)
    model = replace_layers(
        model, {f"layers.{i}.{path}": codes(8)(layer) for i, path, layer in attention_layers("mixtral")}
    )
    export_compressed_tensors(tmp_path / "new", model)
    first = settings(tmp_path / "new")["config_groups"]["group_0"]
    assert first["targets"] == [r"re:.*\.experts\..*"] and first["weights"]["num_bits"] == 4
    assert_same_layers(load_model(tmp_path / "new", "stored"), model)


def attention_layers(family):
    """(layer, path in the block, Linear) of the attention of a small model."""
    for i, block in enumerate(small_model(family).layers):
        for path in LAYERS:
            yield i, path, named_modules(block, LinearLayer)[path]


def test_scales_are_rounded_only_where_this_is_asked(tmp_path):
    model = with_layers(small_model("llama"), codes(4))
    for dtype in ("bfloat16", None):
        exported = export_compressed_tensors(tmp_path / str(dtype), model, dtype=dtype)
        tensor = read_safetensors(tmp_path / str(dtype) / "model.safetensors")[
            "model.layers.0.self_attn.q_proj.weight_scale"
        ]
        scale = model.layers[0].attention.query.scale
        assert tensor.dtype == ("BF16" if dtype else "F32")
        assert np.array_equal(tensor.read(), scale) == (dtype is None)
        np.testing.assert_allclose(tensor.read(), scale, rtol=2**-8)
        assert json.loads((tmp_path / str(dtype) / "config.json").read_text())["dtype"] == (dtype or "float32")
        assert exported.notes == (["the scales of the codes are rounded to bfloat16"] if dtype else [])
    tiny = with_layers(model, lambda layer: layer.replace(scale=layer.scale * np.float32(1e-9)))
    with pytest.raises(CheckpointError, match=r"q_proj.weight: the scales are too small for float16, .*; use float32"):
        export_compressed_tensors(tmp_path / "tiny", tiny, dtype="float16")


FORMS = {
    "low-rank": lambda model: Factorize(0.5)(model),
    "masked": lambda model: with_layers(model, lambda layer: MaskedLinear.from_linear(layer, layer.weight > 0)),
    "csr": lambda model: with_layers(model, CsrLinear.from_linear),
    "int8": lambda model: Quantize()(model),
    "4 bits": lambda model: Quantize(bits=4, group_size=4, symmetric=False)(model),
    "nf4": lambda model: QuantizeFormat()(model),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_folded_layers_have_the_same_numbers(form, family, tmp_path):
    """In separate, in fused, transposed and in alternating tensors."""
    model = FORMS[form](small_model(family))
    exported = export_transformers(tmp_path / "new", model)
    found = load_model(tmp_path / "new")
    layers = named_modules(model, LinearLayer)
    for path, layer in named_modules(found, Linear).items():
        np.testing.assert_array_equal(layer.weight, layers[path].dense_weight())
    np.testing.assert_array_equal(found.embedding.table, model.embedding.table)
    changed = [path for path, layer in layers.items() if not isinstance(layer, Linear)]
    assert sorted(path for folded in exported.folded for path in folded.paths if "embedding" not in path) == sorted(
        changed
    )
    dense = read_safetensors(tmp_path / "new" / "model.safetensors")
    for folded in exported.folded:
        assert folded.own_bytes == sum(-(-module.num_bits() // 8) for module in picked(model, folded.paths))
        arrays = [array for module in picked(found, folded.paths) for array in named_arrays(module).values()]
        assert folded.written_bytes == sum(array.nbytes for array in arrays)
    assert {tensor.dtype for tensor in dense.values()} == {"F32"}


def picked(model, paths):
    """The modules at some paths."""
    modules = named_modules(model)
    return [modules[path] for path in paths]


def test_a_dense_model_is_the_one_that_save_writes(tmp_path):
    """From memory, and mapped from its files, in the dtype of the file or in another one."""
    tied = dict.fromkeys(("gemma3_text", "phi3", "bert", "t5", "gpt2"), True)
    untied = dict.fromkeys(("roberta", "mpnet"), False)  # these have a tensor twice
    for family, is_tied in (tied | untied).items():
        model, path = small_model(family, tie_word_embeddings=is_tied), tmp_path / family
        save_model(path / "a", model, dtype="bfloat16")
        export_transformers(path / "b", load_model(path / "a", "mapped"))
        export_transformers(path / "c", load_model(path / "a", "mapped"), dtype="float32")
        save_model(path / "d", load_model(path / "a"), dtype="float32")
        for one, other in ("ab", "cd"):
            for file in ("model.safetensors", "config.json"):
                assert (path / one / file).read_bytes() == (path / other / file).read_bytes()


def test_numbers_that_the_dtype_of_the_file_holds_keep_it(tmp_path):
    """Zeros of a mask are exact in bfloat16, products of factors are not."""
    save_model(tmp_path / "a", small_model("llama"), dtype="bfloat16")
    model = load_model(tmp_path / "a")
    masked = with_layers(model, lambda layer: MaskedLinear.from_linear(layer, layer.weight > 0), ending="query")
    mixed = with_layers(masked, lambda layer: factorize_linear(layer, 3), ending="key")
    export_transformers(tmp_path / "b", mixed)
    tensors = read_safetensors(tmp_path / "b" / "model.safetensors")
    wide = {name for name, tensor in tensors.items() if tensor.dtype == "F32"}
    assert wide == {f"model.layers.{i}.self_attn.k_proj.weight" for i in range(2)}


def test_refused_exports_leave_nothing(tmp_path):
    model = small_model("llama")
    big = with_layers(model, lambda layer: layer.replace(weight=layer.weight * np.float32(1e6)))
    with pytest.raises(CheckpointError, match="too large for F16"):
        export_transformers(tmp_path / "new", big, dtype="float16")
    with pytest.raises(ConfigError, match="dtype is 'int8', expected one of float32, float16, bfloat16, or None"):
        export_transformers(tmp_path / "new", model, dtype="int8")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("mine")
    with pytest.raises(Error, match="exists already"):
        export_transformers(tmp_path / "new", model)


def test_heads_that_the_family_cannot_hold_are_refused(tmp_path):
    sliced, _ = compress(small_model("gpt2"), [SliceGroups(0.5, "magnitude")], None)
    for export in (export_transformers, export_compressed_tensors):
        with pytest.raises(ConfigError, match="transformers does not read this model: heads of a gpt2 model"):
            export(tmp_path / "new", sliced)


def test_sparse_layers_with_a_pattern_are_dense_with_zeros(tmp_path):
    model = small_model("llama")
    pruned = with_layers(
        model, lambda layer: layer.replace(weight=np.where(n_m_mask(np.abs(layer.weight), 2, 4), layer.weight, 0))
    )
    stored = StoreSparse("2:4")(pruned)
    exported = export_transformers(tmp_path / "new", stored)
    assert [folded.kind for folded in exported.folded] == ["NMLinear"]
    found = load_model(tmp_path / "new")
    np.testing.assert_array_equal(found.layers[0].attention.query.weight, pruned.layers[0].attention.query.weight)


def test_one_folded_matrix_is_in_memory_at_a_time(tmp_path, monkeypatch):
    alive, most = [], []
    product = LowRankLinear.dense_weight

    def counted(layer):
        most.append(sum(reference() is not None for reference in alive))
        weight = product(layer)
        alive.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(LowRankLinear, "dense_weight", counted)
    save_model(tmp_path / "a", Factorize(0.5)(small_model("llama")))  # as it is, and with the dtype of a file
    for i, model in enumerate((Factorize(0.5)(small_model("llama")), load_model(tmp_path / "a"))):
        export_transformers(tmp_path / str(i), model)
    assert len(most) >= 28 and max(most) == 0


def test_mixed_forms_of_families_whose_classes_need_the_weights(tmp_path):
    """Their codes are not packed."""
    model = with_layers(small_model("t5"), codes(4), ending="query")
    model = with_layers(model, lambda layer: codes(8)(layer) if isinstance(layer, Linear) else layer)
    export_compressed_tensors(tmp_path / "new", model)
    groups = settings(tmp_path / "new")["config_groups"].values()
    assert [group["format"] for group in groups] == ["naive-quantized"] * 2
    assert_same_layers(load_model(tmp_path / "new", "stored"), model)


def test_names_are_those_of_the_modules_in_transformers(tmp_path):
    """The head of GPT-NeoX has another name there than in files; models without a head have no prefix."""
    export_compressed_tensors(tmp_path / "a", with_layers(small_model("gpt_neox"), codes(4)))
    assert settings(tmp_path / "a")["ignore"] == ["embed_out", "lm_head"]
    encoder = with_layers(load_model(GOLDEN.parent / "bert_encoder"), codes(4))
    export_compressed_tensors(tmp_path / "b", encoder)
    tensors = read_safetensors(tmp_path / "b" / "model.safetensors")
    assert "encoder.layer.0.output.dense.weight_packed" in tensors
    assert settings(tmp_path / "b")["ignore"] == ["pooler.dense", "cls.predictions.decoder", "lm_head"]
    short = small_model("llama")
    short = short.replace(config=replace(short.config, without_prefix=True))
    export_compressed_tensors(tmp_path / "c", with_layers(short, codes(4)))
    assert "model.layers.0.mlp.up_proj.weight_packed" in read_safetensors(tmp_path / "c" / "model.safetensors")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (codes(4, True, 8), "the layers of one tensor have different forms"),
        (codes(4, dynamic_activations=True), "the layers of one tensor have different forms"),
        (
            lambda layer: StaticQuantizedLinear.from_linear(layer, -1, 1),
            "the layers of one tensor have different forms",
        ),
        (lambda layer: beyond(codes(4, False)(layer)), "a zero point is beyond the codes"),
    ],
)
def test_a_layer_that_does_not_fit_into_a_fused_tensor(tmp_path, make, reason):
    model = with_layers(with_layers(small_model("phi3"), make, ending="1.attention.key"), folded_codes)
    exported = export_compressed_tensors(tmp_path / "new", model)
    assert {(path, folded.reason) for folded in exported.folded for path in folded.paths} == {
        (f"layers.1.{path}", reason) for path in LAYERS[:3]
    }
    dense = load_model(tmp_path / "new")
    np.testing.assert_array_equal(dense.layers[1].attention.key.weight, model.layers[1].attention.key.dense_weight())


def folded_codes(layer):
    """4-bit codes of a layer that is still dense."""
    return codes(4)(layer) if isinstance(layer, Linear) else layer


def beyond(layer):
    """The layer with zero points beyond its codes, as some programs write them."""
    return layer.replace(zero_point=np.full_like(layer.zero_point, 8))


def test_fused_layers_with_different_ranges_of_inputs_are_dense(tmp_path):
    model = with_layers(small_model("phi3"), static)
    other = StaticQuantizedLinear.from_linear(small_model("phi3").layers[0].attention.key, -9, 9)
    exported = export_compressed_tensors(tmp_path / "new", replace_layers(model, {"layers.0.attention.key": other}))
    (folded,) = exported.folded
    assert folded.paths == tuple("layers.0." + path for path in LAYERS[:3])
    assert folded.reason == "the layers of one tensor have different ranges of the inputs"


def test_mapped_matrices_of_several_tiles_are_transposed_whole(tmp_path):
    model = small_model("gpt2", n_embd=192, n_layer=1)
    save_model(tmp_path / "a", model, dtype="bfloat16")
    export_transformers(tmp_path / "b", load_model(tmp_path / "a", "mapped"))
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_arrays_of_the_wrong_shape_are_named(tmp_path):
    model = small_model("llama")
    wide = with_layers(model, lambda layer: layer.replace(weight=layer.weight[:, 1:]), ending="0.attention.query")
    with pytest.raises(
        CheckpointError, match=r"layers.0.attention.query.weight is \(24, 23\), but .* requires \(24, 24\)"
    ):
        export_transformers(tmp_path / "new", wide)
    quantized = with_layers(small_model("llama", attention_bias=False), codes(4))
    for extra in (quantized, small_model("llama", attention_bias=False)):
        biased = with_layers(
            extra, lambda layer: layer.replace(bias=np.ones(24, np.float32)), ending="0.attention.query"
        )
        with pytest.raises(CheckpointError, match=r"layers.0.attention.query.bias is an array, but .* requires none"):
            export_transformers(tmp_path / "new", biased)
    with pytest.raises(CheckpointError, match=r"norm.weight is missing, but .* requires \(24,\)"):
        export_transformers(tmp_path / "new", model.replace(norm=model.norm.replace(weight=None)))
    norm = model.replace(norm=model.norm.replace(weight=model.norm.weight[1:]))
    with pytest.raises(CheckpointError, match=r"norm.weight is \(23,\), but .* requires \(24,\)"):
        export_transformers(tmp_path / "new", norm)
    assert list(tmp_path.iterdir()) == []
