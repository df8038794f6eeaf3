"""What an encoder-decoder computes is what transformers computes, in both layouts of config.json."""

import numpy as np
import pytest

from tests.golden import DIRECTORY, LAYOUTS, checkpoint_directory, golden_names
from tests.models.golden import assert_equal
from tinyslm.autodiff import value_and_grad
from tinyslm.checkpoints import checkpoint_tensors, load_model
from tinyslm.generation import generate
from tinyslm.models import EncoderDecoderConfig, sequence_to_sequence_loss, trace
from tinyslm.models.losses import preceding_tokens

NAMES = golden_names(EncoderDecoderConfig)
CASES = [(name, layout) for name in NAMES for layout in LAYOUTS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    """(model, golden arrays)."""
    name, layout = request.param
    model = load_model(checkpoint_directory(name, layout, tmp_path_factory.mktemp(name)))
    with np.load(DIRECTORY / name / "golden.npz") as golden:
        return model, {key: golden[key] for key in golden.files}


def test_there_are_both_forms():
    configs = {load_model(DIRECTORY / name).config for name in NAMES}
    assert {config.gated for config in configs} == {config.tie_word_embeddings for config in configs} == {False, True}
    assert {config.output_scale == 1.0 for config in configs} == {False, True}


def test_logits_hidden_states_and_attentions(case):
    """Everything that transformers returns; rows of padding in the source are garbage there and here."""
    model, golden = case
    mask = golden["attention_mask"]
    seen = trace(model, golden["input_ids"], attention_mask=mask, decoder_token_ids=golden["decoder_input_ids"])
    parts = ("encoder_", "decoder_hidden", "decoder_attentions", "cross_attentions", "logits")
    wanted = {name: array for name, array in golden.items() if name.startswith(parts)}
    layers = model.config.num_hidden_layers, model.config.num_decoder_layers
    assert len(wanted) == 2 * layers[0] + 3 * layers[1] + 3
    for name, array in wanted.items():
        found = seen[name][: len(array)]
        real = mask[: len(array)] != 0
        if name.startswith("encoder_hidden_states"):
            found, array = found[real], array[real]
        elif name.startswith("encoder_attentions"):
            found, array = (each.transpose(0, 2, 1, 3)[real] for each in (found, array))
        assert_equal(found, array, name)


def test_loss_and_gradients_under_the_names_of_the_checkpoint(case):
    model, golden = case
    inputs = golden["input_ids"], golden["labels"], golden["attention_mask"]
    read = preceding_tokens(golden["labels"], model.config.decoder_start_token_id, model.config.pad_token_id)
    np.testing.assert_array_equal(read, golden["decoder_input_ids"])
    loss, gradients = value_and_grad(sequence_to_sequence_loss)(model, *inputs)
    assert_equal(np.asarray(loss), golden["loss"], "loss")
    tensors = checkpoint_tensors(gradients)
    assert tensors.keys() == checkpoint_tensors(model).keys()
    names = [name for name in golden if name.startswith("grad.")]
    assert any("relative_attention_bias" in name for name in names) and any("EncDecAttention" in name for name in names)
    stride = int(golden.get("gradient_stride", 1))
    for name in names:
        assert_equal(tensors[name.removeprefix("grad.")][::stride], golden[name], name)


def test_greedy_texts(case):
    model, golden = case
    wanted = golden["generated"]
    found = generate(model, golden["input_ids"], wanted.shape[1], attention_mask=golden["attention_mask"])
    np.testing.assert_array_equal(found, wanted)
