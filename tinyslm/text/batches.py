"""Documents as rows of token ids, ready for a model."""

import numpy as np

from tinyslm.errors import DataError
from tinyslm.ops import IGNORED


def encode_documents(tokenizer, texts, end_id) -> list[np.ndarray]:
    """Token ids of each text with `end_id` before and after it, whatever the tokenizer itself adds.

    Raises DataError if no text has a token.
    """
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    documents = [np.array([end_id, *encoding.ids, end_id], np.int32) for encoding in encoded if encoding.ids]
    if not documents:
        raise DataError("the text is empty: nothing to train on or to measure")
    return documents


def split_long(documents, length) -> list[np.ndarray]:
    """Documents cut into pieces of at most `length` tokens; a piece begins with the last token of the one before, so
    that every token but the first of a document is predicted exactly once."""
    if length < 2:
        raise DataError(f"a row of {length} tokens has nothing to predict; use at least 2")
    pieces = []
    for document in documents:
        starts = range(0, max(len(document) - 1, 1), length - 1)
        pieces += [document[start : start + length] for start in starts]
    return pieces


def document_rows(documents, length):
    """One document per row, padded on the right; longer ones split. Returns token_ids and labels (N, T), T <= length.

    Several documents in one row would see each other, which they do not when a model is measured or used. The training
    loop puts rows of similar length together, so that little of a batch is padding.
    """
    return pad_documents(split_long(documents, length))


def pad_documents(documents):
    """Documents as rows padded on the right: token_ids (N, T) and labels with IGNORED for padding, int32.

    Raises DataError if there is no document, or none has a token.
    """
    if not any(map(len, documents)):
        raise DataError("there are no tokens in the documents: nothing to learn from")
    labels = np.full((len(documents), max(map(len, documents))), IGNORED, np.int32)
    for row, document in zip(labels, documents, strict=True):
        row[: len(document)] = document
    return np.where(labels == IGNORED, 0, labels), labels
