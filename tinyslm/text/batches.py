"""Batches: documents as padded rows of token ids and labels."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinyslm.errors import DataError
from tinyslm.ops import IGNORED
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.tokenizer import encode_all

TEXTS_AT_ONCE = 1000  # the library's encodings need much more memory than the token ids


def encode_documents(
    tokenizer: Any, texts: Iterable[str], end_id: int | DocumentMarks, vocab_size: int | None = None
) -> list[np.ndarray]:
    """Token ids of each text between its marks. Special tokens of the tokenizer are not added.

    end_id: the marks, or one token that both begins and ends documents;  vocab_size: as of `encode`. Texts without a
    token to predict are left out: the first token of a document is not predicted. Raises DataError if all are, or a
    text cannot be encoded.
    """
    return [document[:, 0].copy() for document in encode_sized(tokenizer, texts, end_id, vocab_size)]


def encode_sized(
    tokenizer: Any, texts: Iterable[str], end_id: int | DocumentMarks, vocab_size: int | None = None
) -> list[np.ndarray]:
    """`encode_documents` with sizes: int32 rows (T, 2), a token id and the number of UTF-8 bytes of its text.

    Marks have no text. The sizes of a text's tokens add up to the size of the text.
    """
    marks, texts, documents = DocumentMarks.of(end_id), list(texts), []
    begin, end = (
        np.array([(token, 0) for token in part], np.int32).reshape(-1, 2) for part in (marks.begin, marks.end)
    )
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some = texts[start : start + TEXTS_AT_ONCE]
        encoded = encode_all(tokenizer, some, add_special_tokens=False, vocab_size=vocab_size)
        for text, encoding in zip(some, encoded, strict=True):
            if encoding.ids and len(begin) + len(encoding.ids) + len(end) > 1:
                documents.append(np.concatenate([begin, sized_tokens(text, encoding), end]))
    if not documents:
        raise DataError("the text is empty: expected at least one token to predict")
    return documents


def sized_tokens(text: str, encoding: Any) -> np.ndarray:
    """The tokens of a text as int32 rows (T, 2): a token id and the number of UTF-8 bytes of its text.

    Characters between two tokens count for the second one, those after the last token for the last one. A character of
    several tokens counts for the first one.
    """
    rows = np.zeros((len(encoding.ids), 2), np.int32)
    if not encoding.ids:
        return rows
    ends = np.maximum.accumulate([end for _, end in encoding.offsets])  # in characters
    ends[-1] = len(text)
    if not text.isascii():
        characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        sizes = np.sum([characters >= first for first in (0, 0x80, 0x800, 0x10000)], axis=0)
        ends = np.concatenate([[0], np.cumsum(sizes)])[ends]  # in bytes
    rows[:, 0], rows[:, 1] = encoding.ids, np.diff(ends, prepend=0)
    return rows


def answer_labels(document: np.ndarray, answered: tuple[str, list[tuple[int, int]]]) -> np.ndarray:
    """The token ids (T,) of the answers of a document, IGNORED elsewhere: the labels for a loss on the answers alone.

    document: int32 (T, 2), its tokens as `encode_sized` gives them;  answered: its text, and [start, end) of each
    answer in the text, in characters. A token belongs to an answer if its last character does, and the end mark if
    the answer ends the text.
    """
    text, spans = answered
    ends = np.cumsum(document[:, 1])  # of each token, in bytes
    is_answer = np.zeros(len(document), bool)
    for span in spans:
        start, end = (len(text[:position].encode()) for position in span)
        is_answer |= (ends > start) & (ends <= end)
    return np.where(is_answer, document[:, 0], IGNORED)


def join_documents(
    documents: list[np.ndarray], end_id: int | DocumentMarks, separator: np.ndarray | None = None
) -> np.ndarray:
    """Documents as one: of token ids, or with sizes.

    Their marks stay between them; a token that both begins and ends documents stands there once. Documents without an
    end mark become one text, with the tokens `separator` in place of marks. end_id: as of `encode_documents`.
    """
    marks = DocumentMarks.of(end_id)
    skipped = 0 if marks.end and marks.end != marks.begin else len(marks.begin)
    between = [] if marks.end or separator is None else [separator]
    parts = [part for document in documents[1:] for part in (*between, document[skipped:])]
    return np.concatenate([documents[0], *parts])


def split_long(documents: list[np.ndarray], length: int) -> list[np.ndarray]:
    """Documents cut into pieces of at most `length` tokens.

    Each piece begins with the last token of the piece before it, so that every token of a document except the first is
    predicted exactly once.
    """
    if length < 2:
        raise DataError(f"rows of {length} tokens have no token to predict; use at least 2")
    pieces = []
    for document in documents:
        starts = range(0, max(len(document) - 1, 1), length - 1)
        pieces += [document[start : start + length] for start in starts]
    return pieces


def document_rows(documents: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 token_ids and labels, (N, T) with T <= length: one document per row, padded on the right, long ones split.

    Documents do not share rows, because tokens would attend to other documents; `text_corpus` packs them on request.
    The training loop batches rows of similar length, so that batches hold little padding.
    """
    return pad_documents(split_long(documents, length))


def pad_documents(documents: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """token_ids (N, T) padded on the right with 0, and labels (N, T) with IGNORED for padding, int32.

    Raises DataError if no document has a token.
    """
    if not any(map(len, documents)):
        raise DataError("the documents have no tokens: expected at least one")
    labels = np.full((len(documents), max(map(len, documents))), IGNORED, np.int32)
    for row, document in zip(labels, documents, strict=True):
        row[: len(document)] = document
    return np.where(labels == IGNORED, 0, labels), labels
