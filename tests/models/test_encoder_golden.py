"""What tinyslm computes is what transformers computes, for every golden encoder in both layouts of config.json."""

import re

import numpy as np
import pytest

from tests.golden import DIRECTORY, LAYOUTS, checkpoint_directory, golden_names
from tests.models.golden import assert_equal
from tinyslm.autodiff import value_and_grad
from tinyslm.checkpoints import checkpoint_tensors, load_model
from tinyslm.models import EncoderConfig, masked_token_loss, sentence_embeddings, trace

CASES = [(name, layout) for name in golden_names(EncoderConfig) for layout in LAYOUTS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    """(model, golden arrays)."""
    name, layout = request.param
    model = load_model(checkpoint_directory(name, layout, tmp_path_factory.mktemp(name)))
    with np.load(DIRECTORY / name / "golden.npz") as golden:
        return model, {key: golden[key] for key in golden.files}


def inputs(golden, prefix=""):
    """What a model takes besides the token ids."""
    names = ("attention_mask", "token_type_ids")
    return {name: golden[prefix + name] for name in names if prefix + name in golden}


def test_there_are_golden_encoders():
    families = {"bert", "distilbert", "modernbert", "mpnet", "roberta"}
    assert families | {"bert_hub", "bert_encoder", "xlm_roberta_encoder"} <= set(golden_names(EncoderConfig))


def test_logits_hidden_states_and_attentions(case):
    model, golden = case
    seen = trace(model, golden["input_ids"], **inputs(golden))
    layers = model.config.num_hidden_layers
    names = [f"hidden_states.{i}" for i in range(layers + 1)] + [f"attentions.{i}" for i in range(layers)]
    for name in [*names, *(["logits"] if model.config.masked_head else [])]:
        assert seen[name].dtype == np.float32
        assert_equal(seen[name][: len(golden[name])], golden[name], name)
    output = model(golden["input_ids"], **inputs(golden))
    np.testing.assert_array_equal(output, seen["logits" if model.config.masked_head else f"hidden_states.{layers}"])


def test_loss_and_gradients_under_the_names_of_the_checkpoint(case):
    model, golden = case
    if not model.config.masked_head:
        return
    loss, gradients = value_and_grad(masked_token_loss)(model, golden["input_ids"], golden["labels"], **inputs(golden))
    assert_equal(np.asarray(loss), golden["loss"], "loss")
    tensors = checkpoint_tensors(gradients)
    assert tensors.keys() == checkpoint_tensors(model).keys()
    names = [name for name in golden if name.startswith("grad.")]
    layers = {name: re.search(r"\.(\d+)\.", name) for name in tensors if "pooler" not in name}
    assert {f"grad.{name}" for name, layer in layers.items() if layer is None or layer[1] == "0"} == set(names)
    stride = int(golden.get("gradient_stride", 1))
    for name in names:
        assert_equal(tensors[name.removeprefix("grad.")][::stride], golden[name], name)


def test_padding_on_either_side(case):
    """Positions count from the left in the sequence that is padded on the left too."""
    model, golden = case
    mask = golden["padded.attention_mask"]
    real = mask != 0
    assert not real[0].all() and not real[1].all()
    output = model(golden["padded.input_ids"], **inputs(golden, "padded."))
    assert np.isfinite(output).all()
    name = "padded.logits" if model.config.masked_head else "padded.last_hidden_state"
    assert_equal(output[real], golden[name][real], name)


@pytest.mark.parametrize("prefix", ["", "padded."])
def test_one_vector_per_text(case, prefix):
    model, golden = case
    if model.config.masked_head:
        return
    further = inputs(golden, prefix)
    states = model.hidden_states(golden[f"{prefix}input_ids"], **further)
    assert model.config.pooler == (f"{prefix}pooler_output" in golden)
    if model.config.pooler:
        assert_equal(model.pooled(states), golden[f"{prefix}pooler_output"], "pooler_output")
    vectors = sentence_embeddings(states, further.get("attention_mask"))
    assert vectors.dtype == np.float32
    assert_equal(vectors, golden[f"{prefix}sentence_embedding"], "sentence_embedding")
