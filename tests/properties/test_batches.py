"""Rows lose nothing, repeat nothing, and show every token what really stood before it, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from tests.properties.documents import predictions
from tinyslm.coursework.implementation import document_rows, pad_documents, split_long
from tinyslm.errors import DataError
from tinyslm.ops import IGNORED
from tinyslm.text import encode_documents, train_tokenizer
from tinyslm.text.batches import encode_sized, sized_tokens
from tinyslm.text.document_marks import DocumentMarks

END = 0
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)
row_lengths = st.integers(2, 24)


def make_documents(lengths):
    """Documents with so many tokens between their end marks, no two tokens alike."""
    stops = np.cumsum(lengths) + 1
    return [np.array([END, *range(stop - n, stop), END], np.int32) for n, stop in zip(lengths, stops, strict=True)]


def unpadded(token_ids, labels):
    return [row[label != IGNORED] for row, label in zip(token_ids, labels, strict=True)]


@given(lengths, row_lengths)
def test_every_token_is_predicted_exactly_once_after_the_token_that_stood_before_it(lengths, length):
    documents = make_documents(lengths)
    assert predictions(unpadded(*document_rows(documents, length))) == predictions(documents)


@given(lengths, row_lengths)
def test_labels_are_the_tokens_and_padding_stands_at_the_end(lengths, length):
    token_ids, labels = document_rows(make_documents(lengths), length)
    assert token_ids.shape == labels.shape and token_ids.shape[1] <= length
    padding = labels == IGNORED
    np.testing.assert_array_equal(np.where(padding, 0, labels), token_ids)
    assert not (padding[:, :-1] & ~padding[:, 1:]).any()


@given(lengths, row_lengths)
def test_a_document_that_fits_is_a_row_of_its_own(lengths, length):
    documents = make_documents(lengths)
    rows = [row.tolist() for row in unpadded(*document_rows(documents, length))]
    for document in documents:
        assert (document.tolist() in rows) == (len(document) <= length)
    assert all(END not in row[1:-1] for row in rows)  # no row holds two documents


@given(lengths, row_lengths)
def test_pieces_overlap_by_one_token(lengths, length):
    for document in make_documents(lengths):
        pieces = split_long([document], length)
        assert all(1 < len(piece) <= length for piece in pieces)
        np.testing.assert_array_equal(np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])]), document)
        assert [piece[0] for piece in pieces[1:]] == [piece[-1] for piece in pieces[:-1]]
        assert len(pieces) == -(-(len(document) - 1) // (length - 1))


def test_a_row_of_one_token_is_refused():
    with pytest.raises(DataError, match="rows of 1 tokens have no token to predict"):
        document_rows(make_documents([3]), 1)


def test_rows_of_different_length_are_padded_on_the_right():
    token_ids, labels = pad_documents([np.array([5, 6, 7], np.int32), np.array([8], np.int32)])
    np.testing.assert_array_equal(token_ids, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(labels, [[5, 6, 7], [8, IGNORED, IGNORED]])


def test_padded_rows_are_int32():
    for dtype in (np.int32, np.int64, np.uint16):
        assert {rows.dtype for rows in pad_documents([np.array([5, 6], dtype)])} == {np.dtype(np.int32)}


@pytest.mark.ungraded
def test_lists_of_tokens_are_padded_too():
    token_ids, labels = pad_documents([[5, 6, 7], [8]])
    assert token_ids.tolist() == [[5, 6, 7], [8, 0, 0]] and labels.tolist() == [[5, 6, 7], [8, IGNORED, IGNORED]]


def test_encoded_documents_stand_between_end_marks_whatever_the_tokenizer_adds():
    tokenizer = train_tokenizer(["ab"], 257)
    encode = {letter: tokenizer.token_to_id(letter) for letter in "ab"}
    documents = encode_documents(tokenizer, ["ab", "", "b"], 9)  # an empty text is no document
    assert [document.tolist() for document in documents] == [[9, encode["a"], encode["b"], 9], [9, encode["b"], 9]]
    assert documents[0].dtype == np.int32
    with pytest.raises(DataError, match="empty"):
        encode_documents(tokenizer, ["", ""], 9)


@pytest.mark.ungraded
@pytest.mark.parametrize("begin", [(), (7,), (7, 8)])
@pytest.mark.parametrize("end", [(), (9,)])
def test_encoded_documents_have_the_marks_and_a_token_to_predict(begin, end):
    tokenizer = train_tokenizer(["ab"], 257)
    encode = {letter: tokenizer.token_to_id(letter) for letter in "ab"}
    expected = [[*begin, encode["a"], encode["b"], *end], [*begin, encode["b"], *end]]
    documents = encode_documents(tokenizer, ["ab", "", "b"], DocumentMarks(begin, end))
    assert [document.tolist() for document in documents] == expected[: 2 if begin or end else 1]


WORDS = train_tokenizer(["a rose is a rose, und Grüße, 漢字 𝄞"] * 3, 300)
WORDS.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])


@pytest.mark.ungraded
@given(st.lists(st.text(st.sampled_from("arose ,üß漢字𝄞ﬁ\n"), max_size=12), min_size=1, max_size=5))
def test_sizes_are_bytes_of_the_text(texts):
    marks = DocumentMarks((7, 8), (9,))
    texts = [text for text in texts if text.strip()] or ["rose"]
    documents = encode_sized(WORDS, texts, marks)
    for text, document, token_ids in zip(texts, documents, encode_documents(WORDS, texts, marks), strict=True):
        np.testing.assert_array_equal(document[:, 0], token_ids)
        assert document[[0, 1, -1], 1].tolist() == [0, 0, 0] and (document[:, 1] >= 0).all()
        assert document[:, 1].sum() == len(text.encode())
        sizes = [len(WORDS.decode(token_ids[2 : 2 + count].tolist()).encode()) for count in range(len(token_ids) - 2)]
        if text.isascii() and text == text.strip():
            assert np.cumsum(document[2:-1, 1]).tolist() == sizes[1:]


@pytest.mark.ungraded
def test_a_token_without_text_has_no_size():
    encoding = SimpleNamespace(ids=[4, 5, 6], offsets=[(0, 2), (0, 0), (2, 3)])
    assert sized_tokens("abc", encoding).tolist() == [[4, 2], [5, 0], [6, 1]]
    assert sized_tokens("", SimpleNamespace(ids=[], offsets=[])).shape == (0, 2)
