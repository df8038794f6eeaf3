"""tinyslm train: a tokenizer and a model from text, with checkpoints on the way."""

import hashlib
import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinyslm.checkpoints import atomic_directory, atomic_file, check_new_directory, save_model
from tinyslm.errors import ConfigError, DataError, Error
from tinyslm.evaluation import measure_loss
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import TINY_SHAPES, tiny_config
from tinyslm.ops import IGNORED
from tinyslm.runtime import default_threads
from tinyslm.text import document_rows, load_tokenizer, read_documents, town, train_tokenizer
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.training import Settings, State, train
from tinyslm.training.checkpoint import restore_state, save_state

TOKENIZER_DOCUMENTS = 20_000  # documents of the town that its tokenizer is trained on
VALIDATION_DOCUMENTS = 2_000  # of the town, for the final loss
PROGRESS_DOCUMENTS = 200  # the first of them, for the loss on the way
END_ID = 0  # the id of the end mark in every tokenizer that is trained here
OPTIONS = (  # what a training is, which is kept for --resume
    *("text", "shape", "vocabulary", "documents", "context"),
    *("steps", "batch", "rate", "warmup", "seed", "threads", "dtype"),
)
RECORD = "training.json"  # options, and later results, beside the weights


def add_arguments(parser):
    """The options of the command."""

    def option(name, default, help_text, **details):
        shown = "" if default is None else f" (default: {default})"
        parser.add_argument(name, default=default, help=help_text + shown, **details)

    option(
        "--text",
        None,
        "your own text, UTF-8, paragraph by paragraph; or .jsonl with a text key",
        nargs="+",
        metavar="FILE",
    )
    option("--out", "trained", "where the model goes", metavar="DIR")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the training to DIR exactly where it was, with its options"
    )
    option("--shape", "small", "size of the model", choices=TINY_SHAPES)
    option("--vocabulary", 1536, "size of the vocabulary, at most", type=int, metavar="V")
    option("--documents", 20_000, "documents of the built-in corpus", type=int, metavar="N")
    option("--context", 256, "tokens of a training row, and of the model's context", type=int, metavar="T")
    option("--steps", None, "training steps (default: two passes over the data)", type=int)
    option("--batch", 40, "documents per step", type=int, metavar="N")
    option("--rate", 2e-3, "peak learning rate", type=float)
    option("--warmup", 50, "steps until the peak rate, at most a tenth of all", type=int, metavar="STEPS")
    option("--seed", 0, "of the first weights and the order of the data", type=int)
    option("--threads", None, "how many at a time (default: the number of cores)", type=int)
    option("--dtype", "float32", "how weights are stored", choices=("float32", "float16"))
    option("--checkpoint-seconds", 60, "time between checkpoints", type=float, metavar="S")


def run(arguments) -> int:
    """Train, or go on training; returns the exit status.

    Until it is finished a training lives beside its goal, in DIR.training: options, tokenizer, and the last state.
    """
    out = Path(arguments.out)
    if not out.name:
        raise ConfigError(f"--out {arguments.out} has no name; choose a new directory")
    place = out.with_name(out.name + ".training")
    _check_options(arguments)
    record = _read_record(place) if arguments.resume else _new_record(arguments, place)
    options = record["options"]
    if arguments.resume and _is_finished(out, record):
        _remove(place)
        print(f"{out}: was finished already")
        return 0
    check_new_directory(out)
    texts = read_documents(options["text"]) if options["text"] else None
    if arguments.resume:
        tokenizer = load_tokenizer(place / "tokenizer.json")
    else:
        tokenizer = train_tokenizer(texts or _town_texts(TOKENIZER_DOCUMENTS), options["vocabulary"])
    if texts:
        corpus = text_corpus(tokenizer, END_ID, texts)
    else:
        print(f"writing {options['documents']:,} documents about the town ...", file=sys.stderr)
        corpus = town_corpus(tokenizer, END_ID, training=options["documents"], validation=VALIDATION_DOCUMENTS)
    token_ids, labels = document_rows(corpus.training, options["context"])
    digest = hashlib.sha256(token_ids.tobytes()).hexdigest()
    if record.setdefault("data_sha256", digest) != digest:
        raise DataError(f"{place}: the text is not the one that this training began with; start a new training")

    settings = _settings(options, len(token_ids))
    config = tiny_config(options["shape"], tokenizer.get_vocab_size(), options["context"])
    state = State.start(random_model(config, seed=options["seed"]), settings)
    state_path = place / "state.safetensors"
    if arguments.resume:
        restore_state(state_path, state)
    else:
        _begin(place, record, tokenizer, state)
    measured = corpus.first_validation(PROGRESS_DOCUMENTS)
    tokens_per_document = np.count_nonzero(labels != IGNORED) / len(labels)
    progress = Progress(settings, measured, tokens_per_document, state_path, arguments.checkpoint_seconds)
    with tqdm(total=settings.steps, initial=state.step, unit="step", disable=None) as progress.bar:
        state = train(state, token_ids, labels, settings, after_step=progress)
    save_state(state_path, state)

    validation = measure_loss(state.model, corpus.validation)
    record["settings"] = asdict(settings)
    record["seconds"] = round(state.seconds, 1)
    record["validation"] = asdict(validation)
    record["floor"] = corpus.floor and asdict(corpus.floor)
    record["losses"] = [round(loss, 5) for loss in state.losses]
    save_model(out, state.model, tokenizer, options["dtype"], records={RECORD: record})
    _remove(place)
    print(f"{out}: validation loss {validation.nats:.4f} nats per token{_against(corpus.floor, validation)}")
    return 0


class Progress:
    """What happens after a step: the progress bar, now and then a validation, and a checkpoint every minute or so."""

    def __init__(self, settings, corpus, tokens_per_document, state_path, checkpoint_seconds):
        self.settings = settings
        self.corpus = corpus
        self.tokens_per_step = settings.batch_size * tokens_per_document
        self.state_path = state_path
        self.checkpoint_seconds = checkpoint_seconds
        self.validate_every = max(settings.steps // 25, 1)
        self.saved = time.monotonic()
        self.bar = None

    def __call__(self, state):
        recent = state.losses[-50:]
        speed = state.step * self.tokens_per_step / state.seconds
        line = f"loss {sum(recent) / len(recent):.3f}, {speed:,.0f} tokens/s"
        floor = self.corpus.floor
        self.bar.set_postfix_str(line if floor is None else f"{line}, floor {floor.nats:.3f}", refresh=False)
        self.bar.update()
        if state.step % self.validate_every == 0:
            validation = measure_loss(state.model, self.corpus.validation)
            self.bar.write(
                f"step {state.step} of {self.settings.steps}: {line}, validation {validation.nats:.3f}"
                f"{_against(floor, validation)}",
                file=sys.stderr,
            )
        if time.monotonic() - self.saved > self.checkpoint_seconds:
            save_state(self.state_path, state)
            self.saved = time.monotonic()


def _against(floor, loss):
    """The floor for comparison, where it is known."""
    return "" if floor is None else f", floor {floor.nats:.3f} ({100 * (loss.nats / floor.nats - 1):+.1f} %)"


def _town_texts(count):
    return [text for _, text, _ in town.documents("train", 0, count)]


def _settings(options, rows):
    """Training settings from the options; the default length is two passes over the rows."""
    steps = options["steps"] or max(2 * rows // options["batch"], 1)
    threads = {"threads": options["threads"]} if options["threads"] else {}
    return Settings(
        steps=steps,
        batch_size=options["batch"],
        learning_rate=options["rate"],
        warmup_steps=min(options["warmup"], max(steps // 10, 1)),
        seed=options["seed"],
        **threads,
    )


def _check_options(arguments):
    """Numbers that mean nothing are named before any work is done."""
    lowest = {"context": 2, "seed": 0, "checkpoint_seconds": 0}
    lowest |= dict.fromkeys(("documents", "steps", "batch", "warmup", "threads"), 1)
    for name, low in lowest.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value < math.inf:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, expected at least {low}")
    if not 0 < arguments.rate < math.inf:
        raise ConfigError(f"--rate is {arguments.rate}, expected a positive number")


def _new_record(arguments, place):
    """The record of a training that begins. Its number of threads is part of it: the last bits depend on it."""
    if place.exists():
        raise Error(f"{place}: an unfinished training; go on with --resume, or remove it")
    options = {name: getattr(arguments, name) for name in OPTIONS}
    return {"options": options | {"threads": arguments.threads or default_threads()}}


def _begin(place, record, tokenizer, state):
    """Write all that --resume needs, so that a kill at any moment leaves either nothing or a training to go on with."""
    with atomic_directory(place) as directory:
        for name, text in (("tokenizer.json", tokenizer.to_str(pretty=True)), (RECORD, json.dumps(record, indent=1))):
            with atomic_file(directory / name) as file:
                file.write(text.encode())
        save_state(directory / "state.safetensors", state)


def _read_record(directory):
    """The record of a training. Raises Error if there is none, or not one of this command."""
    try:
        record = json.loads((directory / RECORD).read_text("utf-8"))
        complete = set(OPTIONS) <= record["options"].keys()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise Error(f"{directory}: no training to resume there; start one without --resume")
    return record


def _is_finished(out, record):
    """Whether the model of this training was written, and the training killed before it could be removed."""
    try:
        finished = _read_record(out)
    except Error:
        return False
    return all(finished.get(key) == value for key, value in record.items())


def _remove(place):
    """Remove a training as a whole: no kill leaves a part of it under its name."""
    removed = place.with_name(f".{place.name}.partial")
    shutil.rmtree(removed, ignore_errors=True)
    os.replace(place, removed)
    shutil.rmtree(removed)
