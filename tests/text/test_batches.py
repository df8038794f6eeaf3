"""Packing loses nothing, repeats nothing, and shows every token what really stood before it."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.errors import DataError
from tinyslm.ops import IGNORED
from tinyslm.text import encode_documents, pack_documents, pad_documents, train_tokenizer
from tinyslm.text.batches import split_long

END = 0
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)
row_lengths = st.integers(2, 24)


def make_documents(lengths):
    """Documents with so many tokens between their end marks, no two tokens alike."""
    stops = np.cumsum(lengths) + 1
    return [np.array([END, *range(stop - n, stop), END], np.int32) for n, stop in zip(lengths, stops, strict=True)]


def predictions(rows):
    """Every (token, the one before it) that is to be predicted, with how often."""
    return Counter((int(before), int(token)) for row in rows for before, token in pairwise(row))


def unpadded(token_ids, labels):
    return [row[label != IGNORED] for row, label in zip(token_ids, labels, strict=True)]


@given(lengths, row_lengths)
def test_every_token_is_predicted_exactly_once_after_the_token_that_stood_before_it(lengths, length):
    documents = make_documents(lengths)
    assert predictions(unpadded(*pack_documents(documents, length))) == predictions(documents)


@given(lengths, row_lengths)
def test_labels_are_the_tokens_and_padding_stands_at_the_end(lengths, length):
    token_ids, labels = pack_documents(make_documents(lengths), length)
    assert token_ids.shape == labels.shape == (len(labels), length)
    assert token_ids.dtype == labels.dtype == np.int32
    padding = labels == IGNORED
    np.testing.assert_array_equal(np.where(padding, 0, labels), token_ids)
    assert not (padding[:, :-1] & ~padding[:, 1:]).any()


@given(lengths, row_lengths)
def test_a_document_that_fits_is_not_split_and_rows_begin_with_the_end_mark_or_inside_a_long_document(lengths, length):
    documents = make_documents(lengths)
    rows = [row.tolist() for row in unpadded(*pack_documents(documents, length))]
    inside_long = {token for document in documents if len(document) > length for token in document[1:].tolist()}
    assert all(row[0] == END or row[0] in inside_long for row in rows)
    joined = "".join(f" {' '.join(map(str, row))} |" for row in rows)
    for document in documents:
        if len(document) <= length:
            assert f" {' '.join(map(str, document))} " in joined


@given(lengths, row_lengths)
def test_no_two_rows_of_whole_documents_are_half_empty(lengths, length):
    """What any-fit packing guarantees: the second of them would have begun in the first."""
    used = [len(row) - 1 for row in unpadded(*pack_documents(make_documents(lengths), length)) if row[0] == END]
    assert sum(2 * n <= length - 1 for n in used) <= 1


def test_the_fullest_row_with_room_is_taken():
    """By hand: of 7, 6, 3, 2 and 2 predictions in rows of 10, the 3 fills the row of the 7, and no third row begins."""
    token_ids, labels = pack_documents(make_documents([6, 5, 2, 1, 1]), 11)
    assert [len(row) for row in unpadded(token_ids, labels)] == [11, 11]


@given(lengths, row_lengths)
def test_pieces_overlap_by_one_token(lengths, length):
    for document in make_documents(lengths):
        pieces = split_long([document], length)
        assert all(1 < len(piece) <= length for piece in pieces)
        np.testing.assert_array_equal(np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])]), document)
        assert [piece[0] for piece in pieces[1:]] == [piece[-1] for piece in pieces[:-1]]
        assert len(pieces) == -(-(len(document) - 1) // (length - 1))


def test_a_row_of_one_token_is_refused():
    with pytest.raises(DataError, match="a row of 1 tokens has nothing to predict"):
        pack_documents(make_documents([3]), 1)


def test_rows_of_different_length_are_padded_on_the_right():
    token_ids, labels = pad_documents([[5, 6, 7], [8]])
    np.testing.assert_array_equal(token_ids, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(labels, [[5, 6, 7], [8, IGNORED, IGNORED]])


def test_encoded_documents_stand_between_end_marks_whatever_the_tokenizer_adds():
    tokenizer = train_tokenizer(["ab"], 257)
    encode = {letter: tokenizer.token_to_id(letter) for letter in "ab"}
    documents = encode_documents(tokenizer, ["ab", "", "b"], 9)  # an empty text is no document
    assert [document.tolist() for document in documents] == [[9, encode["a"], encode["b"], 9], [9, encode["b"], 9]]
    assert documents[0].dtype == np.int32
    with pytest.raises(DataError, match="empty"):
        encode_documents(tokenizer, ["", ""], 9)
