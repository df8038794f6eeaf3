"""Measurements of one model: size, loss, exam accuracy, weight histogram and a text sample."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from tokenizers import Tokenizer

from tinyslm.evaluation import footprint, take_exam
from tinyslm.evaluation.loss import document_nats
from tinyslm.generation import end_tokens, generate
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.step import ignore_progress
from tinyslm.text.corpus import Corpus
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.loss_estimate import estimate_loss
from tinyslm.text.tokenizer import decode, encode
from tinyslm.tree import Module, named_modules


def measure(
    model: Module,
    tokenizer: Tokenizer,
    corpus: Corpus,
    end_id: int | DocumentMarks,
    *,
    prompt: str,
    dense_nats: np.ndarray | None = None,
    losses: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[str], None] = ignore_progress,
) -> tuple[dict, np.ndarray]:
    """Measure a model: footprint, loss on the validation documents, exam, weight histogram and a text sample.

    The change of the loss is the mean of the differences per document. It has a smaller standard error than the loss,
    because the difficulty of the documents cancels out.

    Parameters
    ----------
    model : Decoder
    tokenizer : tokenizers.Tokenizer
    corpus : Corpus
        With validation documents, and optionally exam questions and the entropy bound.
    end_id : int or DocumentMarks
        The marks of documents, or the token that both begins and ends them.
    prompt : str
        Beginning of the text sample.
    dense_nats : ndarray, shape (N,), optional
        Nats of the dense model on each validation document, to compare with.
    losses : tuple of two ndarrays, shape (N,), optional
        The result of `document_nats` for this model on the validation documents, if it is known already.
    progress : callable
        Called with a short description of the current work.

    Returns
    -------
    row : dict
        Plain values, a row of results.json. Losses are in nats per token. "bits_per_byte" is the loss per UTF-8 byte of
        the text, or None if the bytes are not counted.
    nats : ndarray, shape (N,)
        Nats of the model on each validation document.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> from tinyslm.text import train_tokenizer
    >>> tokenizer = train_tokenizer(["a rose is a rose"], 260)
    >>> model = random_model(llama_shape(260, 16, 32, 1, 2, 2, 20))
    >>> corpus = Corpus(training=[], validation=[np.arange(9), np.arange(5)])
    >>> row, nats = measure(model, tokenizer, corpus, 0, prompt="a rose")
    >>> row["loss"]["tokens"], nats.shape
    (12, (2,))
    """
    progress("measuring loss")
    nats, tokens = losses or document_nats(model, corpus.validation)
    loss = estimate_loss(nats, tokens)
    change = estimate_loss(nats - (nats if dense_nats is None else dense_nats), tokens)
    exam = None
    if corpus.questions:
        progress("taking the exam")
        exam = take_exam(model, tokenizer, corpus.questions, end_id)
    progress("generating a text sample")
    size, text_bytes = footprint(model), corpus.validation_bytes
    row = {
        "parameters": size.parameters,
        "non_zeros": size.non_zeros,
        "bits": size.bits,
        "memory_bytes": size.bytes,
        "multiply_adds": size.multiply_adds,
        "loss": asdict(loss),
        "bits_per_byte": loss.bits_per_byte(text_bytes) if text_bytes else None,
        "change": asdict(change),
        "excess": None if corpus.floor is None else loss.nats / corpus.floor.nats - 1,
        "exam": exam and exam_record(exam),
        "weights": weight_histogram(model),
        "sample": {"prompt": prompt, "text": sample_text(model, tokenizer, prompt)},
    }
    return row, nats


def exam_record(exam) -> dict:
    """The result of an exam as plain values."""
    low, high = exam.interval()
    return {
        "accuracy": exam.accuracy,
        "low": low,
        "high": high,
        "asked": sum(exam.asked.values()),
        "by_subject": exam.by_subject(),
    }


def weight_histogram(model, limit=0.3, bins=40) -> dict:
    """Histogram of the weights of the blocks' linear layers on [-limit, limit]; outliers count at the ends."""
    edges = np.linspace(-limit, limit, bins + 1)
    counts = np.zeros(bins, int)
    for path, layer in named_modules(model).items():
        if hasattr(layer, "dense_weight") and is_compressible(path):
            counts += np.histogram(np.clip(layer.dense_weight(), -limit, limit), edges)[0]
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts.tolist()}


def sample_text(model, tokenizer, prompt, tokens=60) -> str:
    """The greedy continuation of a prompt, up to the end of the document."""
    context, ends = model.config.max_position_embeddings, end_tokens(model.config)
    token_ids = encode(tokenizer, prompt, vocab_size=model.config.vocab_size)[: context // 2]
    (row,) = generate(model, np.array([token_ids]), min(tokens, context // 2), stop_tokens=ends)
    row = [token for token in row.tolist() if token not in ends]
    return decode(tokenizer, token_ids + row)[len(decode(tokenizer, token_ids)) :]
