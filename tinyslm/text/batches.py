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


def pack_documents(documents, length):
    """Whole documents, one after another, in rows of `length` tokens, so that little of a row is padding.

    The longest document goes first, each to the fullest row that still has room for it (best fit decreasing, Johnson
    1973); the end mark of one document serves as the beginning of the next. Documents longer than a row are split; a
    piece from the middle of one begins a row of its own, since it goes on after no end mark.
    Returns token_ids (N, length) and labels (N, length) of int32; a label is the token itself, or IGNORED for padding.
    Rows stand in no useful order: shuffle them.
    """
    rows_with_room = [[] for _ in range(length)]  # rows_with_room[n]: the rows in which n places are free
    for document in sorted(split_long(documents, length), key=len, reverse=True):
        added = len(document) - 1  # its first token is the last of the row
        fits = (n for n in range(added, length) if rows_with_room[n] and _joins(rows_with_room[n][-1], document))
        room = next(fits, None)
        if room is None:
            row, room = [document[:1]], length - 1
        else:
            row = rows_with_room[room].pop()
        row.append(document[1:])
        rows_with_room[room - added].append(row)
    return pad_documents([np.concatenate(row) for rows in rows_with_room for row in rows], length)


def _joins(row, document):
    """Whether a document goes on where a row of pieces ends."""
    return row[-1][-1] == document[0]


def pad_documents(documents, length=None):
    """Documents as rows padded on the right: token_ids (N, length) and labels with IGNORED for padding, int32."""
    length = length or max(map(len, documents))
    labels = np.full((len(documents), length), IGNORED, np.int32)
    for row, document in zip(labels, documents, strict=True):
        row[: len(document)] = document
    return np.where(labels == IGNORED, 0, labels), labels
