"""When does a small model learn to recall? Losses by family, and the attention from a question to its thing.

    python -m tests.benchmarks.recall --out data/recall.json

The first training uses the documents of all families; its table shows the loss of each family above the entropy bound.

The others use the drill of colours. A document introduces three things and asks once for the colour of each, in any
order. The first row of its table is the loss without recall: of a model that knows the colours of the story and leaves
out those that were already given. Only recall, the way from a question to its thing, gives the first answer a lower
loss.

Attention is that of the colon before an answer to the earlier word for the thing and the three tokens after it, in the
best head of any layer: heads that attend to preceding tokens can have brought the colour and the thing to any of them.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.speed.machine import processor
from tinyslm.evaluation.loss import document_nats
from tinyslm.models import random_model, trace
from tinyslm.models.previous_token_heads import with_previous_token_heads
from tinyslm.models.tiny_shapes import tiny_config
from tinyslm.ops import IGNORED, log_softmax
from tinyslm.text import document_rows, town, train_tokenizer
from tinyslm.text.batches import answer_labels, encode_documents, encode_sized
from tinyslm.training import Settings, State, train

VOCABULARY, CONTEXT, TOKENIZER_DOCUMENTS = 1536, 96, 20_000
BATCH, STEPS, EVERY, MEASURED = 64, 300, 25, 300
FAMILY_CONTEXT, FAMILY_BATCH, FAMILY_STEPS, FAMILY_EVERY = 256, 40, 400, 50
SPAN = 4  # the thing and the tokens after it
THING = 5  # tokens from the thing in a question to the answer: " rope now? Answer: red"
HELD_OUT_START = 10**7  # documents of the training split, far behind those of all trainings


@dataclass(frozen=True)
class Variant:
    """One training. previous_token: whether heads of the first layer begin with the preceding tokens."""

    name: str
    previous_token: bool = True
    rate: float = 1e-3
    answers_only: bool = True
    batch: int = BATCH


VARIANTS = (
    Variant("previous-token heads, rate 1e-3"),
    Variant("random start", previous_token=False),
    Variant("rate 3e-3", rate=3e-3),
    Variant("loss of all tokens", answers_only=False),
    Variant("batch of 16", batch=16),
)


class Drills:
    """Documents of the drill as rows (N, T): token ids, labels of all tokens, and labels of the answers."""

    def __init__(self, tokenizer, start, count):
        made = town.answered_documents("train", start, count, "colours")
        sized = encode_sized(tokenizer, [text for text, _ in made], 0)
        pairs = zip(sized, made, strict=True)
        self.token_ids, self.labels = document_rows([document[:, 0] for document in sized], CONTEXT)
        _, answers = document_rows([answer_labels(*pair) for pair in pairs], CONTEXT)
        self.answers = answers
        self.asked = np.nonzero(answers != IGNORED)  # rows and positions: three per row, each a colour of one token


def nats_without_recall(drills):
    """Mean loss (3,) of a model that gives each answer the colours of the story that are left, by their number."""
    answers = drills.token_ids[drills.asked].reshape(-1, 3)
    losses = []
    for number in range(3):
        left = answers[:, number:]
        losses.append(np.mean(np.log(1 / np.mean(left == left[:, :1], axis=1))))
    return np.array(losses)


def nats_of_answers(model, drills):
    """Mean loss of the first, second and third answer of a document: (3,)."""
    rows, positions = drills.asked
    losses = []
    for start in range(0, len(drills.token_ids), 50):
        inside = (rows >= start) & (rows < start + 50)
        log_probabilities = log_softmax(model(drills.token_ids[start : start + 50]))
        row, position = rows[inside] - start, positions[inside]
        losses.append(-log_probabilities[row, position - 1, drills.token_ids[rows[inside], position]])
    return np.concatenate(losses).reshape(-1, 3).mean(axis=0)


def attention_to_the_thing(model, drills, count=50):
    """Mean attention from the colon before an answer to the thing's first occurrence, with the tokens after it SPAN in
    all, in the best head."""
    rows, positions = drills.asked
    rows, positions = rows[rows < count], positions[rows < count]
    ids = drills.token_ids
    things = ids[rows, positions - THING]  # " rope" in " rope now? Answer: red"
    first = np.array([np.flatnonzero(ids[row] == thing)[0] for row, thing in zip(rows, things, strict=True)])
    intermediates = trace(model, ids[:count])
    layers = range(len(model.layers))
    span = first[:, None] + np.arange(SPAN)  # (N, SPAN)
    attentions = [intermediates[f"attentions.{layer}"][rows, :, positions - 1] for layer in layers]  # (N, H, T) each
    to_the_span = [np.take_along_axis(each, span[:, None], axis=2).sum(axis=2) for each in attentions]  # (N, H) each
    return float(np.max(np.mean(to_the_span, axis=1)))


def measured(variant, tokenizer, steps):
    """[step, losses of the three answers, attention] every EVERY steps of a training."""
    drills = Drills(tokenizer, 0, variant.batch * steps)
    held_out = Drills(tokenizer, HELD_OUT_START, MEASURED)
    model = random_model(tiny_config("small", VOCABULARY, CONTEXT, biases=True))
    model = with_previous_token_heads(model) if variant.previous_token else model
    settings = Settings(
        steps, variant.batch, 16, variant.rate, warmup_steps=min(50, steps // 2), schedule="stable", optimizer="muon"
    )
    points = []

    def observe(state):
        if state.step % EVERY == 0 or state.step == steps:
            nats = nats_of_answers(state.model, held_out)
            measures = [*nats.tolist(), attention_to_the_thing(state.model, held_out)]
            points.append([state.step, *(round(value, 3) for value in measures)])
            cells = " | ".join(f"{value:.2f}" for value in points[-1][1:])
            print(f"| {variant.name} | {state.step} | {cells} |", flush=True)

    labels = drills.answers if variant.answers_only else drills.labels
    train(State.start(model, settings), drills.token_ids, labels, settings, after_step=observe)
    return points


def excess_of_families(model, tokenizer, documents):
    """{family: loss above its entropy bound, as a fraction} of documents as (family, text, log-probability)."""
    nats, _ = document_nats(model, encode_documents(tokenizer, [text for _, text, _ in documents], 0))
    families = np.array([family for family, _, _ in documents])
    floors = -np.array([log_probability for _, _, log_probability in documents])
    return {
        family: round(float(nats[families == family].sum() / floors[families == family].sum() - 1), 3)
        for family in town.FAMILIES
    }


def families_over_training(tokenizer, steps):
    """[step, excess of each family] every FAMILY_EVERY steps of a training on all families."""
    texts = [text for _, text, _ in town.documents("train", 0, FAMILY_BATCH * steps)]
    rows = document_rows(encode_documents(tokenizer, texts, 0), FAMILY_CONTEXT)
    held_out = town.documents("train", HELD_OUT_START, MEASURED)
    settings = Settings(steps, FAMILY_BATCH, learning_rate=5e-3, warmup_steps=min(50, steps // 2), optimizer="muon")
    points = []

    def observe(state):
        if state.step % FAMILY_EVERY == 0 or state.step == steps:
            excess = excess_of_families(state.model, tokenizer, held_out)
            points.append([state.step, *excess.values()])
            print(f"| {state.step} | {' | '.join(f'{value:.1%}' for value in excess.values())} |", flush=True)

    model = random_model(tiny_config("small", VOCABULARY, FAMILY_CONTEXT))
    train(State.start(model, settings), *rows, settings, after_step=observe)
    return points


def main(argv=None):
    """Print Markdown tables, and write the measurements with --out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recall", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training on the drill")
    parser.add_argument("--family-steps", type=int, default=FAMILY_STEPS, help="of the training on all families")
    parser.add_argument("--out", help="JSON file", metavar="FILE")
    arguments = parser.parse_args(argv)
    tokenizer = train_tokenizer([text for _, text, _ in town.documents("train", 0, TOKENIZER_DOCUMENTS)], VOCABULARY)
    print(f"{processor()}\n\nloss above the entropy bound, documents of all families\n")
    print(f"| step | {' | '.join(town.FAMILIES)} |\n{'|---' * (len(town.FAMILIES) + 1)}|")
    families = families_over_training(tokenizer, arguments.family_steps)
    guessing = nats_without_recall(Drills(tokenizer, HELD_OUT_START, MEASURED)).round(3).tolist()
    print("\ndrill of colours, nats\n")
    print("| training | step | first answer | second | third | attention to the thing |\n|---|---|---|---|---|---|")
    print(f"| without recall | | {' | '.join(f'{nats:.2f}' for nats in guessing)} | |")
    results = {variant.name: measured(variant, tokenizer, arguments.steps) for variant in VARIANTS}
    if arguments.out:
        columns = ["step", "first answer", "second answer", "third answer", "attention"]
        content = {"processor": processor(), "families": {"columns": ["step", *town.FAMILIES], "points": families}}
        content |= {"without_recall": guessing, "columns": columns, "trainings": results}
        Path(arguments.out).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
