"""How far above the entropy bound a small model ends with AdamW and with Muon, for two shapes and three budgets.

    python -m tests.benchmarks.optimizers
    python -m tests.benchmarks.optimizers --shapes smallest --budgets 0.25

Each training sees every document once, in the same order. Documents are those of the built-in corpus; the loss is
measured on documents of its training split that no training uses. Each optimizer is tried with several learning rates,
and the lowest value in a row is bold. The last column has the processor seconds per step of each optimizer.
"""

import argparse
import functools
import time

import numpy as np

from tests.benchmarks.speed.machine import processor
from tinyslm.evaluation import measure_loss
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import TINY_SHAPES, tiny_config
from tinyslm.text import document_rows, town, train_tokenizer
from tinyslm.text.batches import encode_documents
from tinyslm.text.loss_estimate import estimate_loss
from tinyslm.training import Settings, State, train

RATES = {"adamw": (2e-3, 4e-3, 8e-3), "muon": (2.5e-3, 5e-3, 1e-2)}
VOCABULARY, CONTEXT, BATCH, TOKENIZER_DOCUMENTS = 1536, 256, 40, 20_000
HELD_OUT, HELD_OUT_START = 500, 10**7  # documents of the training split, far behind those of all trainings


@functools.cache
def tokenizer():
    """The tokenizer of `tinyslm train` for the built-in corpus."""
    return train_tokenizer([text for _, text, _ in town.documents("train", 0, TOKENIZER_DOCUMENTS)], VOCABULARY)


@functools.cache
def held_out():
    """Documents as token ids, and the entropy bound of all of them."""
    documents = town.documents("train", HELD_OUT_START, HELD_OUT)
    encoded = encode_documents(tokenizer(), [text for _, text, _ in documents], 0)
    return encoded, estimate_loss([-nats for _, _, nats in documents], [len(each) - 1 for each in encoded])


@functools.cache
def rows(tokens):
    """Rows of the first documents: whole batches with about `tokens` tokens to predict."""
    sample = encode_documents(tokenizer(), [text for _, text, _ in town.documents("train", 0, 1000)], 0)
    per_document = sum(len(each) - 1 for each in sample) / len(sample)
    count = max(round(tokens / per_document / BATCH), 1) * BATCH
    return document_rows(
        encode_documents(tokenizer(), [text for _, text, _ in town.documents("train", 0, count)], 0), CONTEXT
    )


def trained(shape, optimizer, rate, tokens, seed):
    """(loss above the bound as a fraction, processor seconds per step) of one training."""
    token_ids, labels = rows(tokens)
    steps = len(token_ids) // BATCH
    settings = Settings(steps, BATCH, learning_rate=rate, warmup_steps=min(50, steps // 10), optimizer=optimizer)
    state = State.start(random_model(tiny_config(shape, VOCABULARY), seed), settings)
    began = time.process_time()
    train(state, token_ids, labels, settings)
    seconds = (time.process_time() - began) / steps
    documents, bound = held_out()
    return measure_loss(state.model, documents).nats / bound.nats - 1, seconds


def main(argv=None):
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.optimizers", description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["smallest", "small"], choices=TINY_SHAPES)
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.25, 1.0, 2.5], help="millions of tokens")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args(argv)
    tried = [(optimizer, rate) for optimizer, rates in RATES.items() for rate in rates]
    print(f"{processor()}; loss above the entropy bound, mean of {len(arguments.seeds)} seeds\n")
    print("| shape | M tokens | " + " | ".join(f"{name} {rate:g}" for name, rate in tried) + " | seconds per step |")
    print("|---" * (len(tried) + 3) + "|")
    for shape in arguments.shapes:
        for budget in arguments.budgets:
            excess, seconds = {}, {name: [] for name in RATES}
            for name, rate in tried:
                runs = [trained(shape, name, rate, budget * 1e6, seed) for seed in arguments.seeds]
                excess[name, rate] = np.mean([above for above, _ in runs])
                seconds[name] += [each for _, each in runs]
            best = min(excess.values())
            cells = [f"**{value:.1%}**" if value == best else f"{value:.1%}" for value in excess.values()]
            times = ", ".join(f"{name} {np.mean(values):.2f}" for name, values in seconds.items())
            print(f"| {shape} | {budget:g} | {' | '.join(cells)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
