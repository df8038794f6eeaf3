"""From text to rows of token ids: the tokenizer, the built-in corpus, and documents as rows."""

from tinyslm.text.batches import document_rows, encode_documents, pad_documents
from tinyslm.text.files import read_documents, read_lines
from tinyslm.text.tokenizer import END_OF_DOCUMENT, load_tokenizer, train_tokenizer

__all__ = [
    "END_OF_DOCUMENT",
    "document_rows",
    "encode_documents",
    "load_tokenizer",
    "pad_documents",
    "read_documents",
    "read_lines",
    "train_tokenizer",
]
