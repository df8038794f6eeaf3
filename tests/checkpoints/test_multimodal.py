"""Language models in multimodal checkpoints: names of old and current files, and parts for images."""

import json
import warnings

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_tensors, small_model
from tinyslm.checkpoints import load_model, outline_model, read_safetensors, save_model, write_safetensors
from tinyslm.checkpoints.families.multimodal import language_model_name
from tinyslm.errors import CheckpointError, CheckpointWarning

OLD = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}
CURRENT = {"model.": "model.language_model.", "lm_head.": "lm_head."}
IMAGES = {
    "gemma3": ("multi_modal_projector.mm_input_projection_weight", "vision_tower.post_layernorm.weight"),
    "mistral3": ("multi_modal_projector.linear_1.weight", "vision_tower.ln_pre.weight"),
}
CASES = [("gemma3", "gemma3_text"), ("mistral3", "ministral3"), ("mistral3", "mistral")]


def renamed(name, prefixes):
    """The name of a tensor of a text family in a multimodal checkpoint."""
    prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
    return prefixes[prefix] + name.removeprefix(prefix)


def save_multimodal(directory, model, model_type, prefixes, **values):
    """Save a model with a part for images. values: keys beside "text_config"."""
    save_model(directory, model)
    config = json.loads((directory / "config.json").read_text())
    architectures = [f"{model_type.capitalize()}ForConditionalGeneration"]
    values = {"model_type": model_type, "architectures": architectures, "text_config": config} | values
    (directory / "config.json").write_text(json.dumps(values))
    file, images = directory / "model.safetensors", "model." if prefixes is CURRENT else ""
    tensors = {renamed(name, prefixes): tensor.read() for name, tensor in read_safetensors(file).items()}
    write_safetensors(file, tensors | {images + name: np.ones(3, np.float32) for name in IMAGES[model_type]})


@pytest.mark.parametrize("prefixes", [OLD, CURRENT], ids=["old", "current"])
@pytest.mark.parametrize(("model_type", "text_type"), CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_is_read_and_saved_as_its_text_family(tmp_path, model_type, text_type, prefixes, tied):
    model = small_model(text_type, tie_word_embeddings=tied)
    save_multimodal(tmp_path / "whole", model, model_type, prefixes, tie_word_embeddings=tied)
    message = r"parts for images of '\w+' are left out: vision_tower, multi_modal_projector"
    with pytest.warns(CheckpointWarning, match=message):
        found = load_model(tmp_path / "whole")
    assert_same_model(found, model)
    assert (found.config.family, found.tied_head) == (text_type, tied)
    with pytest.warns(CheckpointWarning, match=message):
        assert outline_model(tmp_path / "whole").config == model.config
    save_model(tmp_path / "text", found)
    with warnings.catch_warnings(action="error"):
        assert_same_model(load_model(tmp_path / "text"), model)


def test_without_the_key_the_head_is_tied_whatever_the_language_model_says(tmp_path):
    """As in transformers. A file with a head that differs from the embedding is not tied."""
    model = small_model("ministral3", tie_word_embeddings=True)
    save_multimodal(tmp_path / "tied", model, "mistral3", OLD)
    config = json.loads((tmp_path / "tied" / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = False
    (tmp_path / "tied" / "config.json").write_text(json.dumps(config))
    with pytest.warns(CheckpointWarning):
        assert load_model(tmp_path / "tied").tied_head
    save_multimodal(tmp_path / "untied", small_model("ministral3", tie_word_embeddings=False), "mistral3", OLD)
    with pytest.warns(CheckpointWarning):
        assert not load_model(tmp_path / "untied").tied_head


def test_text_without_a_part_for_images_is_read_without_a_warning(tmp_path):
    model = small_model("gemma3_text")
    save_multimodal(tmp_path / "model", model, "gemma3", OLD)
    change_tensors(tmp_path / "model", dict.fromkeys(IMAGES["gemma3"]))
    with warnings.catch_warnings(action="error"):
        assert_same_model(load_model(tmp_path / "model"), model)


def test_a_tensor_under_both_names_and_one_of_no_part_are_refused(tmp_path):
    save_multimodal(tmp_path / "model", small_model("gemma3_text"), "gemma3", OLD)
    norm = np.ones(24, np.float32)
    change_tensors(tmp_path / "model", {"model.language_model.norm.weight": norm})
    with pytest.raises(CheckpointError, match=r"'(model\.)?language_model\.(model\.)?norm\.weight' is also stored"):
        load_model(tmp_path / "model")
    change_tensors(tmp_path / "model", {"model.language_model.norm.weight": None, "audio_tower.norm.weight": norm})
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match=r"unknown tensor 'audio_tower\.norm\.weight'"),
    ):
        load_model(tmp_path / "model")


def test_weights_in_fp8_as_in_ministral_3(tmp_path):
    """One scale for the matrix and one for its inputs; the other parts have no scales."""
    directory, query = tmp_path / "model", "language_model.model.layers.1.self_attn.q_proj"
    save_multimodal(directory, small_model("ministral3"), "mistral3", OLD)
    config = json.loads((directory / "config.json").read_text())
    quantization = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    scales = {f"{query}.{name}": np.float32(0.25) for name in ("weight_scale_inv", "activation_scale")}
    change_tensors(directory, {f"{query}.weight": np.full((40, 24), 0x38, np.uint8)} | scales)  # 1 in E4M3
    file = directory / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"dtype":"U8"', b'"dtype":"F8_E4M3"')
    header += b" " * (-len(header) % 8)
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    with pytest.warns(CheckpointWarning, match="parts for images"):
        found = load_model(directory)
    np.testing.assert_array_equal(found.layers[1].attention.query.weight, np.full((40, 24), 0.25, np.float32))
    assert not np.array_equal(found.layers[0].attention.query.weight, found.layers[1].attention.query.weight)


def test_names():
    assert language_model_name("language_model.model.norm.weight") == "model.norm.weight"
    assert (
        language_model_name("model.language_model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    )
    assert (
        language_model_name("language_model.lm_head.weight")
        == language_model_name("lm_head.weight")
        == "lm_head.weight"
    )
    for prefix in ("", "model."):
        assert language_model_name(f"{prefix}vision_tower.patch_conv.weight") is None
    assert language_model_name("vision_tower_2.weight") == "vision_tower_2.weight"
