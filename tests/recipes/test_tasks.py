"""What a decoder, an encoder and an encoder-decoder predict on the same rows."""

import numpy as np
import pytest
from hypothesis import given

from tests.checkpoints.models import small_model
from tests.properties.documents import MASK, rows
from tinyslm.autodiff import value_and_grad
from tinyslm.errors import ConfigError
from tinyslm.models import masked_token_loss, next_token_loss, sequence_to_sequence_loss
from tinyslm.ops import IGNORED
from tinyslm.recipes import Calibration
from tinyslm.recipes.tasks import HIDDEN_SHARE, task_loss, task_of
from tinyslm.training import Settings
from tinyslm.training.loop import batch_gradients
from tinyslm.tree import named_parameters


@given(rows())
def test_a_decoder_predicts_the_next_token(batch):
    token_ids, labels = batch
    model = small_model("llama")
    task = task_of(model, token_ids, labels)
    assert task_loss(model, task) == next_token_loss(model, token_ids, labels)


@given(rows())
def test_an_encoder_predicts_what_is_hidden(batch):
    token_ids, labels = batch
    model = small_model("bert")
    task = task_of(model, token_ids, labels, MASK)
    inputs, targets = task
    hidden, real = inputs["token_ids"] == MASK, labels != IGNORED
    np.testing.assert_array_equal(hidden, targets != IGNORED)
    np.testing.assert_array_equal(targets[hidden], token_ids[hidden])
    np.testing.assert_array_equal(inputs["token_ids"][~hidden], token_ids[~hidden])
    np.testing.assert_array_equal(inputs["attention_mask"], real)
    assert hidden.any(axis=1).all() and not hidden[~real].any()
    again = task_of(model, token_ids.copy(), labels, MASK)
    np.testing.assert_array_equal(again.inputs["token_ids"], inputs["token_ids"])
    wanted = masked_token_loss(model, inputs["token_ids"], targets, attention_mask=inputs["attention_mask"])
    assert task_loss(model, task) == wanted


def test_the_share_of_hidden_tokens():
    labels = np.arange(8, 40008, dtype=np.int32).reshape(100, 400)
    model = small_model("bert")
    _, targets = task_of(model, labels, labels, MASK)
    assert abs(np.mean(targets != IGNORED) - HIDDEN_SHARE) < 0.01
    with pytest.raises(ConfigError, match="mask_token_id"):
        task_of(model, labels, labels)


@given(rows())
def test_an_encoder_decoder_reads_one_half_and_writes_the_other(batch):
    token_ids, labels = batch
    model = small_model("t5")
    task = task_of(model, token_ids, labels)
    for row in range(len(token_ids)):
        document = token_ids[row][labels[row] != IGNORED]
        source = task.inputs["token_ids"][row][task.inputs["attention_mask"][row] == 1]
        written = task.targets[row][task.targets[row] != IGNORED]
        np.testing.assert_array_equal(np.concatenate([source, written]), document)
        assert len(source) == max(len(document) // 2, 1)
    source, mask = task.inputs["token_ids"], task.inputs["attention_mask"]
    assert task_loss(model, task) == sequence_to_sequence_loss(model, source, task.targets, mask)


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_micro_batches_add_up_to_the_batch(family):
    """Each weighs by what its task predicts, which is not the number of next tokens."""
    model = small_model(family)
    rng = np.random.default_rng(0)
    documents = [rng.integers(8, 50, length).astype(np.int32) for length in (2, 3, 3, 11, 12, 4)]
    calibration = Calibration(documents, model, mask_token_id=MASK)
    token_ids, labels = calibration.rows()

    def loss_function(model, token_ids, labels):
        return task_loss(model, calibration.task(token_ids, labels))

    def count(token_ids, labels):
        return np.count_nonzero(calibration.task(token_ids, labels).targets != IGNORED)

    settings = Settings(steps=1, micro_batch_size=2, threads=1)
    loss, gradients = batch_gradients(loss_function, model, token_ids, labels, settings, count)
    wanted, whole = value_and_grad(loss_function)(model, token_ids, labels)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    for path, gradient in named_parameters(whole).items():
        np.testing.assert_allclose(gradients[path], gradient, rtol=1e-3, atol=1e-5, err_msg=path)
