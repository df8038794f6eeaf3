"""Lists of tokens until the last step."""

import numpy as np

from tinyslm.ops import IGNORED


def split_long(documents, length):
    pieces = []
    for document in documents:
        tokens = list(document)
        while len(tokens) > length:
            pieces.append(tokens[:length])
            tokens = tokens[length - 1 :]
        pieces.append(tokens)
    return [piece for piece in pieces if len(piece) > 1]


def document_rows(documents, length):
    return pad_documents(split_long(documents, length))


def pad_documents(documents):
    longest = max(len(document) for document in documents)
    token_ids = [list(document) + [0] * (longest - len(document)) for document in documents]
    labels = [list(document) + [IGNORED] * (longest - len(document)) for document in documents]
    return [np.array(token_ids, np.int32), np.array(labels, np.int32)]
