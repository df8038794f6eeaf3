"""What a model is worth and what it costs: everything measured on the model as it is, nothing estimated."""

from dataclasses import asdict

import numpy as np

from tinyslm.evaluation import footprint, take_exam
from tinyslm.evaluation.loss import document_nats
from tinyslm.generation import end_tokens, generate
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.text.loss_estimate import estimate_loss
from tinyslm.tree import named_modules


def measure(model, tokenizer, corpus, end_id, *, prompt, dense_nats=None, progress=lambda text: None):
    """(row, nats): footprint, loss on the validation documents, exam, weights and a sample of a model; and its
    nats on each document (N,), which as `dense_nats` of another model give the change of the loss and its error.

    Differences are taken document by document: how hard the documents are cancels out.
    """
    progress("measuring loss")
    nats, tokens = document_nats(model, corpus.validation)
    loss = estimate_loss(nats, tokens)
    change = estimate_loss(nats - (nats if dense_nats is None else dense_nats), tokens)
    progress("taking the exam")
    exam = take_exam(model, tokenizer, corpus.questions, end_id) if corpus.questions else None
    size = footprint(model)
    row = {
        "parameters": size.parameters,
        "non_zeros": size.non_zeros,
        "bits": size.bits,
        "memory_bytes": size.bytes,
        "multiply_adds": size.multiply_adds,
        "loss": asdict(loss),
        "change": asdict(change),
        "excess": None if corpus.floor is None else loss.nats / corpus.floor.nats - 1,
        "exam": exam and exam_record(exam),
        "weights": weight_histogram(model),
        "sample": {"prompt": prompt, "text": sample_text(model, tokenizer, prompt)},
    }
    return row, nats


def exam_record(exam) -> dict:
    """An exam as it is written down."""
    low, high = exam.interval()
    return {
        "accuracy": exam.accuracy,
        "low": low,
        "high": high,
        "asked": sum(exam.asked.values()),
        "by_subject": exam.by_subject(),
    }


def weight_histogram(model, limit=0.3, bins=40) -> dict:
    """How many weights of the blocks' linear layers lie in each interval of [-limit, limit]; the ends take the rest."""
    edges = np.linspace(-limit, limit, bins + 1)
    counts = np.zeros(bins, int)
    for path, layer in named_modules(model).items():
        if hasattr(layer, "dense_weight") and is_compressible(path):
            counts += np.histogram(np.clip(layer.dense_weight(), -limit, limit), edges)[0]
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": counts.tolist()}


def sample_text(model, tokenizer, prompt, tokens=60) -> str:
    """The greedy continuation of a prompt, up to the end of the document."""
    context, ends = model.config.max_position_embeddings, end_tokens(model.config)
    token_ids = tokenizer.encode(prompt).ids[: context // 2]
    (row,) = generate(model, np.array([token_ids]), min(tokens, context // 2), stop_tokens=ends)
    row = [token for token in row.tolist() if token not in ends]
    return tokenizer.decode(token_ids + row)[len(tokenizer.decode(token_ids)) :]
