"""What tinyslm computes is what transformers computes, for every golden checkpoint in both layouts of config.json."""

import numpy as np
import pytest

from tests.golden import DIRECTORY, LAYOUTS, checkpoint_directory, golden_names
from tests.models.golden import assert_equal
from tinyslm.autodiff import value_and_grad
from tinyslm.checkpoints import checkpoint_tensors, load_model
from tinyslm.checkpoints.families.multimodal import language_model_name
from tinyslm.models import DecoderConfig, next_token_loss

pytestmark = pytest.mark.filterwarnings("ignore:.* parts for images")
CASES = [(name, layout) for name in golden_names(DecoderConfig) for layout in LAYOUTS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    """(model, golden arrays)."""
    name, layout = request.param
    model = load_model(checkpoint_directory(name, layout, tmp_path_factory.mktemp(name)))
    with np.load(DIRECTORY / name / "golden.npz") as golden:
        return model, {key: golden[key] for key in golden.files}


def test_there_are_golden_checkpoints():
    assert {"llama3", "mistral", "gpt2", "mixtral"} <= set(golden_names())


def test_logits_hidden_states_and_attentions(case):
    model, golden = case
    seen = {}
    logits = model(golden["input_ids"], observe=seen.__setitem__)
    assert logits.dtype == np.float32
    assert_equal(logits, golden["logits"], "logits")
    layers = len(model.layers)
    for i in range(layers + 1):
        wanted = golden[f"hidden_states.{i}"]
        assert_equal(seen[f"hidden_states.{i}"][: len(wanted)], wanted, f"hidden_states.{i}")
    for i in range(layers):
        wanted = golden[f"attentions.{i}"]
        assert_equal(seen[f"layers.{i}.attention.probabilities"][: len(wanted)], wanted, f"attentions.{i}")
    mixtures = [i for i in range(layers) if model.config.has_experts(i)]
    for count, i in enumerate(mixtures):  # transformers counts the layers with a mixture only
        wanted = golden[f"router_logits.{count}"]
        assert_equal(seen[f"layers.{i}.feed_forward.router_logits"], wanted, f"router_logits.{count}")


def test_loss_and_gradients_under_the_names_of_the_checkpoint(case):
    model, golden = case
    loss, gradients = value_and_grad(next_token_loss)(model, golden["input_ids"])
    assert_equal(np.asarray(loss), golden["loss"], "loss")
    tensors = checkpoint_tensors(gradients)
    assert tensors.keys() == checkpoint_tensors(model).keys()
    names = [name for name in golden if name.startswith("grad.")]
    assert len(names) >= 8
    stride = int(golden.get("gradient_stride", 1))
    for name in names:
        assert_equal(tensors[language_model_name(name.removeprefix("grad."))][::stride], golden[name], name)


def test_a_batch_with_left_padding(case):
    model, golden = case
    mask = golden["leftpad.attention_mask"]
    real = mask != 0
    assert not real.all()
    for positions in (None, golden["leftpad.position_ids"]):  # the default is what transformers' generate passes
        logits = model(golden["leftpad.input_ids"], mask, position_ids=positions)
        assert np.isfinite(logits).all()
        assert_equal(logits[real], golden["leftpad.logits"][real], "leftpad.logits")
