"""What is saved loads in Hugging Face transformers and computes the same, for every family; where it is installed."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoints.models import CHOICES, small_model
from tests.checkpoints.sliced_models import LOADED_AS_MISTRAL, is_loaded, sliced_cases, sliced_model
from tinyslm.checkpoints import save_model
from tinyslm.checkpoints.families import FAMILIES, family_of
from tinyslm.errors import CheckpointWarning
from tinyslm.models import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from tinyslm.recipes import KeepLayers, compress

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
huggingface_hub = pytest.importorskip("huggingface_hub")

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]])


CLASSES = {
    DecoderConfig: transformers.AutoModelForCausalLM,
    EncoderConfig: transformers.AutoModelForMaskedLM,
    EncoderDecoderConfig: transformers.AutoModelForSeq2SeqLM,
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", CHOICES)
def test_a_saved_model_computes_the_same_there(tmp_path, family, tied):
    model = small_model(family, tie_word_embeddings=tied)
    save_model(tmp_path / "saved", model)
    check_same_there(tmp_path / "saved", model, tied)


@pytest.mark.parametrize(("family", "recipe"), sliced_cases())
def test_a_sliced_model_computes_the_same_there_or_is_refused(tmp_path, family, recipe):
    if family in ("mixtral", "qwen3_moe") and recipe == "uneven channels":
        pytest.skip("products of experts in torch need rows of a multiple of 16 bytes")
    model = sliced_model(family, recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        save_model(tmp_path / "saved", model)
    if not is_loaded(family, recipe):
        with pytest.raises((RuntimeError, ValueError, huggingface_hub.errors.StrictDataclassClassValidationError)):
            CLASSES[type(model.config)].from_pretrained(tmp_path / "saved", attn_implementation="eager")
    else:
        check_same_there(tmp_path / "saved", model, tied=True)


@pytest.mark.parametrize("family", LOADED_AS_MISTRAL)
def test_a_sliced_model_that_is_refused_may_be_loaded_as_a_mistral(tmp_path, family):
    recipe, values = LOADED_AS_MISTRAL[family]
    model = sliced_model(family, recipe, **values)
    model = model.replace(config=replace(model.config, family="mistral"))
    save_model(tmp_path / "saved", model)
    check_same_there(tmp_path / "saved", model, tied=True)


def check_same_there(path, model, tied):
    """Raise AssertionError unless transformers loads the directory and computes the logits of the model."""
    theirs, info = CLASSES[type(model.config)].from_pretrained(
        path, attn_implementation="eager", output_loading_info=True
    )
    if not tied:
        info["missing_keys"] -= {"cls.predictions.bias"}  # which BERT then has and does not use
    assert not any(info.values()), info  # no missing, unexpected or mismatched tensor
    ours, wanted = {}, {"input_ids": torch.tensor(TOKENS)}
    if isinstance(model.config, EncoderDecoderConfig):
        ours["decoder_token_ids"] = TOKENS[:, :6]
        wanted["decoder_input_ids"] = torch.tensor(TOKENS[:, :6])
    with torch.no_grad():
        logits = theirs(**wanted).logits.numpy()
    np.testing.assert_allclose(model(TOKENS, **ours), logits, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "ministral", "qwen3", "smollm3"])
def test_one_layer_of_either_kind_computes_the_same_there(tmp_path, family, layer):
    """One that sees a window, and one that sees everything."""
    student, _ = compress(small_model(family), [KeepLayers((layer,))], None)
    save_model(tmp_path / "saved", student)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    with torch.no_grad():
        logits = theirs(torch.tensor(TOKENS)).logits.numpy()
    np.testing.assert_allclose(student(TOKENS), logits, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_keys_mean_the_defaults_of_the_class(family):
    values = json.loads(transformers.AutoConfig.for_model(family).to_json_string(use_diff=False))
    wanted = family_of(values, "theirs").read_config(values, "theirs")
    found = FAMILIES[family].read_config({"model_type": family}, "nothing")
    assert found == wanted
