"""What is hidden from an encoder: some real tokens of every document, the same wherever the document stands."""

import numpy as np
import pytest
from hypothesis import given

from tests.properties.documents import MASK, rows
from tinyslm.coursework.implementation import hide_tokens
from tinyslm.ops import IGNORED
from tinyslm.recipes.tasks import HIDDEN_SHARE


@given(rows())
def test_the_model_sees_the_mask_where_it_is_asked_and_the_token_elsewhere(batch):
    token_ids, labels = batch
    inputs, targets = hide_tokens(token_ids, labels, MASK)
    hidden = inputs["token_ids"] == MASK
    np.testing.assert_array_equal(hidden, targets != IGNORED)
    np.testing.assert_array_equal(targets[hidden], token_ids[hidden])
    np.testing.assert_array_equal(inputs["token_ids"][~hidden], token_ids[~hidden])


@given(rows())
def test_every_row_hides_a_token_and_padding_is_neither_hidden_nor_seen(batch):
    token_ids, labels = batch
    inputs, targets = hide_tokens(token_ids, labels, MASK)
    real = labels != IGNORED
    np.testing.assert_array_equal(inputs["attention_mask"], real)
    assert (targets != IGNORED).any(axis=1).all() and not (targets != IGNORED)[~real].any()


@given(rows())
def test_a_document_has_the_same_task_alone_and_among_others(batch):
    """What is hidden depends neither on the other rows nor on the padding."""
    token_ids, labels = batch
    _, targets = hide_tokens(token_ids, labels, MASK)
    for row, tokens, label in zip(targets, token_ids, labels, strict=True):
        length = np.count_nonzero(label != IGNORED)
        _, alone = hide_tokens(tokens[None, :length], label[None, :length], MASK)
        np.testing.assert_array_equal(row[:length], alone[0])


@pytest.mark.ungraded
@given(rows())
def test_the_dtype_of_the_tokens_has_no_effect(batch):
    token_ids, labels = batch
    wide, narrow = (hide_tokens(token_ids.astype(dtype), labels, MASK)[1] for dtype in (np.int64, np.int32))
    np.testing.assert_array_equal(wide, narrow)


def test_about_the_share_of_the_tokens_is_hidden_and_not_always_the_same_places():
    token_ids = np.arange(8, 40008, dtype=np.int32).reshape(100, 400)
    hidden = hide_tokens(token_ids, token_ids, MASK)[1] != IGNORED
    assert abs(np.mean(hidden) - HIDDEN_SHARE) < 0.01
    assert np.all(np.mean(hidden, axis=0) < 0.5)
