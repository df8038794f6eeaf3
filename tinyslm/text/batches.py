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
    that every token is predicted exactly once."""
    pieces = []
    for document in documents:
        starts = range(0, max(len(document) - 1, 1), length - 1)
        pieces += [document[start : start + length] for start in starts]
    return pieces


def pack_documents(documents, length):
    """Whole documents, one after another, in rows of `length` tokens, so that little of a row is padding.

    The longest document goes first, each to the fullest row that still has room for it (best fit decreasing, Johnson
    1973); the end mark of one document serves as the beginning of the next. Documents longer than a row are split.
    Returns token_ids (N, length) and labels (N, length) of int32; a label is the token itself, or IGNORED for padding.
    Rows stand in no useful order: shuffle them.
    """
    rows_with_room = [[] for _ in range(length)]  # rows_with_room[n]: the rows in which n places are free
    for document in sorted(split_long(documents, length), key=len, reverse=True):
        added = len(document) - 1  # its first token is the last of the row
        room = next((n for n in range(added, length) if rows_with_room[n]), None)
        if room is None:
            row = list(document)
        else:
            row = rows_with_room[room].pop()
            row.extend(document[1:])
        rows_with_room[length - len(row)].append(row)
    return pad_documents([row for rows in rows_with_room for row in rows], length)


def pad_documents(documents, length=None):
    """Documents as rows padded on the right: token_ids (N, length) and labels with IGNORED for padding, int32."""
    length = length or max(map(len, documents))
    labels = np.full((len(documents), length), IGNORED, np.int32)
    for row, document in zip(labels, documents, strict=True):
        row[: len(document)] = document
    return np.where(labels == IGNORED, 0, labels), labels
