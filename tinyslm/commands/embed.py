"""tinyslm embed: sentence embeddings of texts, or their cosine similarities.

The files of sentence-transformers beside the model choose the pooling, the normalization and the length of the texts.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from tinyslm.checkpoints import atomic_file
from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.checkpoints.sentence_transformers import SentenceSettings, read_sentence_settings
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.commands.parser import check_minimum
from tinyslm.errors import ConfigError, DataError, Error
from tinyslm.load_save import find_directory
from tinyslm.models import Encoder, sentence_embeddings
from tinyslm.ops import IGNORED
from tinyslm.parallel import map_in_threads
from tinyslm.reporting.plain_text import shorten
from tinyslm.reporting.terminal_table import table_lines
from tinyslm.text import encode_all, pad_documents, read_lines

MOST_COMPARED = 20  # texts in a table of similarities
LONGEST_SHOWN = 40  # columns of the terminal for a text
MOST_LISTED = 10  # line numbers in a message
DEFAULT = SentenceSettings()


def add_arguments(parser):
    """The options of the command."""
    parser.argument("model", "directory, or id in the local cache of the Hugging Face hub, of an encoder")
    parser.argument("file", 'texts (UTF-8), one per line; "-" is standard input')
    parser.option("--out", None, "write the vectors to this .npy file, one row per text", "FILE")
    parser.flag("--similarity", f"print the cosine similarities of at most {MOST_COMPARED} texts")
    parser.option("--batch", 32, "texts per pass", "N")
    parser.download()


def run(arguments) -> int:
    """Write the vectors, print the similarities, or print one JSON object per text; returns the exit status."""
    check_minimum(arguments, batch=1)
    if arguments.out:
        _check_writable(Path(arguments.out))
    texts = read_lines(arguments.file)
    if arguments.similarity and len(texts) > MOST_COMPARED:
        raise DataError(f"--similarity compares at most {MOST_COMPARED} texts, but {arguments.file} has {len(texts)}")
    model, tokenizer = load_with_tokenizer(arguments.model, Encoder, "embedding texts")
    settings = read_sentence_settings(find_directory(arguments.model))
    length = _longest_text(model.config, settings)
    token_ids, cut = encode(texts, tokenizer, model.config, settings)
    if cut:
        lines = ", ".join(map(str, cut[:MOST_LISTED])) + (", ..." if len(cut) > MOST_LISTED else "")
        is_context = length == model.config.max_position_embeddings
        limit = f"the model's context of {length} tokens" if is_context else f"{length} tokens, {settings.length_from}"
        print(f"tinyslm: cut to {limit}: line {lines}", file=sys.stderr)
    vectors = embed(model, token_ids, arguments.batch, settings)  # (N, C)
    if arguments.out:
        with atomic_file(arguments.out) as file:
            np.save(file, vectors)
        unit = ", each of length 1" if settings.normalize else ""
        print(f"{arguments.out}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers{unit}")
    if arguments.similarity:
        _print_similarity(texts, vectors)
    if not (arguments.out or arguments.similarity):
        for text, vector in zip(texts, vectors, strict=True):
            numbers = [float(str(number)) for number in vector]  # the shortest digits that identify a float32
            print(json.dumps({"text": text, "embedding": numbers}, ensure_ascii=False))
    return 0


def _longest_text(config, settings):
    """The number of tokens to which texts are cut."""
    context = config.max_position_embeddings
    return context if settings.max_length is None else min(settings.max_length, context)


def encode(texts, tokenizer, config, settings=DEFAULT):
    """(token ids of each text, line numbers from 1 of the texts that were cut). settings: SentenceSettings."""
    texts = [settings.prompt + text for text in texts]
    if settings.lower_case:
        texts = [text.lower() for text in texts]
    length, special = _longest_text(config, settings), tokenizer.num_special_tokens_to_add(False)
    if length <= special:
        limit = settings.length_from or "max_position_embeddings"
        raise ConfigError(
            f"texts are cut to {length} tokens ({limit}), expected more than the {special} special tokens"
        )
    try:
        tokenizer.enable_truncation(length)
        encodings = encode_all(tokenizer, texts, vocab_size=config.vocab_size)
    finally:
        tokenizer.no_truncation()
    for number, encoding in enumerate(encodings, 1):
        if not encoding.ids:
            raise DataError(f"line {number} has no tokens to embed")
    return [encoding.ids for encoding in encodings], [i for i, e in enumerate(encodings, 1) if e.overflowing]


def embed(model, token_ids, texts_per_batch=32, settings=DEFAULT):
    """One vector per text: N lists of token ids -> (N, C). Texts of similar length form a batch."""
    order = sorted(range(len(token_ids)), key=lambda text: len(token_ids[text]))
    batches = [order[start : start + texts_per_batch] for start in range(0, len(order), texts_per_batch)]

    def vectors_of(batch):
        rows, labels = pad_documents([token_ids[text] for text in batch])  # (B, T)
        mask = labels != IGNORED
        return sentence_embeddings(model.hidden_states(rows, mask), mask, settings.pooling, settings.normalize)

    with overflow_names_tensor(model):
        vectors = np.concatenate(map_in_threads(vectors_of, batches))[np.argsort(order)]
    is_finite = np.isfinite(vectors).all(axis=-1)  # (N,)
    if not is_finite.all():
        raise DataError(describe_not_finite(model, [token_ids[np.argmin(is_finite)]]))
    return vectors


def _check_writable(out):
    """Raise Error before any computation if the file cannot be written."""
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise Error(f"{out}: cannot be written (it is a directory, or its directory is missing or not writable)")


def _print_similarity(texts, vectors):
    """Print the cosine of every pair of texts, the product of their unit vectors."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)  # (N, 1)
    vectors = vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)
    rows = [("", "", *(str(number) for number in range(1, len(texts) + 1)))]
    for number, (text, cosines) in enumerate(zip(texts, vectors @ vectors.T, strict=True), 1):
        rows.append((str(number), shorten(text, LONGEST_SHOWN), *(f"{cosine:.2f}" for cosine in cosines)))
    print("\n".join(table_lines(rows, {0, *range(2, len(rows[0]))})))
