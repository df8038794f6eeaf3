"""tinyslm train: train a tokenizer and a model, with checkpoints and exact resume."""

import argparse
import hashlib
import json
import math
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinyslm.checkpoints import (
    atomic_directory,
    check_new_directory,
    output_lock,
    remove_directory,
    remove_leftovers,
    save_model,
)
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.commands.parser import Parser, check_minimum, write_text
from tinyslm.errors import CheckpointError, ConfigError, DataError, Error
from tinyslm.evaluation import measure_loss
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import TINY_SHAPES, tiny_config
from tinyslm.ops import IGNORED
from tinyslm.runtime import default_threads
from tinyslm.text import document_rows, load_tokenizer, read_documents, town, train_tokenizer
from tinyslm.text.corpus import Corpus, text_corpus, town_corpus
from tinyslm.text.tokenizer import LARGEST_VOCABULARY
from tinyslm.training import Settings, State, train
from tinyslm.training.checkpoint import restore_state, save_state

TOKENIZER_DOCUMENTS = 20_000  # documents of the town, for training the tokenizer
VALIDATION_DOCUMENTS = 2_000  # documents of the town, for the final loss
PROGRESS_DOCUMENTS = 200  # number of the first validation documents, for the loss during training
END_ID = 0  # the end token of every tokenizer trained here
OPTIONS = (  # recorded for --resume
    *("text", "shape", "vocabulary", "documents", "context"),
    *("steps", "batch", "rate", "warmup", "seed", "threads", "dtype"),
)
RECORD = "training.json"  # options and results, beside the weights
LARGEST = {  # beyond these, memory or time would never be enough
    **dict.fromkeys(("documents", "steps", "warmup"), 2**31 - 1),
    **{"context": 1_000_000, "batch": 100_000, "threads": 10_000},
}


def add_arguments(parser):
    """The options of the command."""
    text = "your own text: UTF-8 with one document per paragraph, or .jsonl with a text key"
    parser.option("--text", None, text, nargs="+", metavar="FILE")
    parser.option("--out", "trained", "output directory", "DIR")
    parser.flag("--resume", "resume an interrupted training to DIR, bit for bit")
    parser.option("--shape", "small", "size of the model", choices=TINY_SHAPES)
    parser.option("--vocabulary", 1536, "maximum size of the vocabulary", "V")
    parser.option("--documents", 20_000, "training documents of the built-in corpus", "N")
    parser.option("--context", 256, "tokens per training row, and the model's context length", "T")
    parser.option("--steps", None, "training steps (default: two passes over the data)", type=int)
    parser.option("--batch", 40, "documents per step", "N")
    parser.option("--rate", 2e-3, "peak learning rate")
    parser.option("--warmup", 50, "warmup steps of the learning rate, at most a tenth of all steps", "STEPS")
    parser.option("--seed", 0, "seed of the initial weights and the order of the data")
    parser.option("--threads", None, "number of threads (default: the number of cores)", type=int)
    parser.option("--dtype", "float32", "dtype of the stored weights", choices=("float32", "float16"))
    parser.option("--checkpoint-seconds", 60, "time between checkpoints", type=float, metavar="S")


def run(arguments) -> int:
    """Train, or resume training; returns the exit status.

    DIR.training holds the options, the tokenizer and the last state of an unfinished training.
    """
    out = Path(arguments.out)
    if not out.name:
        raise ConfigError(f"--out {arguments.out} has no directory name; choose a new directory")
    _check_options(arguments)
    with output_lock(out):
        return _run_locked(arguments, out, out.with_name(out.name + ".training"))


def _run_locked(arguments, out, directory):
    """Train into `out`, by way of `directory`. The process holds the lock of `out`."""
    remove_leftovers(directory.parent, directory.name)
    if arguments.resume and _is_finished(out, directory):
        if directory.exists():
            remove_directory(directory)
        print(f"{out}: this training is already complete")
        return 0
    record = _read_record(directory) if arguments.resume else _new_record(arguments, directory)
    options = record["options"]
    check_new_directory(out)
    texts = read_documents(options["text"]) if options["text"] else None
    if arguments.resume:
        tokenizer = load_tokenizer(directory / "tokenizer.json")
        size = tokenizer.get_vocab_size()
        if not size <= options["vocabulary"] <= LARGEST_VOCABULARY:
            vocabulary = f"vocabulary is {shown(options['vocabulary'])}, expected {size} to {LARGEST_VOCABULARY}"
            raise ConfigError(f"{directory / RECORD}: options: {vocabulary}; the tokenizer has {size} tokens")
    else:
        tokenizer_texts = texts or [text for _, text, _ in town.documents("train", 0, TOKENIZER_DOCUMENTS)]
        tokenizer = train_tokenizer(tokenizer_texts, options["vocabulary"])
    if texts:
        corpus = text_corpus(tokenizer, END_ID, texts)
    else:
        print(f"generating {options['documents']:,} documents of the town ...", file=sys.stderr)
        corpus = town_corpus(tokenizer, END_ID, training=options["documents"], validation=VALIDATION_DOCUMENTS)
    token_ids, labels = document_rows(corpus.training, options["context"])
    digest = hashlib.sha256(token_ids.tobytes()).hexdigest()
    if record.setdefault("data_sha256", digest) != digest:
        raise DataError(f"{directory}: the text has changed since this training started; start a new training")

    settings = _settings(options, len(token_ids))
    config = tiny_config(options["shape"], tokenizer.get_vocab_size(), options["context"])
    state = State.start(random_model(config, seed=options["seed"]), settings)
    state_path = directory / "state.safetensors"
    if arguments.resume:
        restore_state(state_path, state)
    else:
        _begin(directory, record, tokenizer, state)
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
    remove_directory(directory)
    print(f"{out}: validation loss {validation.nats:.4f} nats per token{_compared(corpus.floor, validation)}")
    return 0


@dataclass
class Progress:
    """Called after each step: updates the progress bar, and regularly validates and writes a checkpoint."""

    settings: Settings
    corpus: Corpus
    tokens_per_document: float
    state_path: Path
    checkpoint_seconds: float
    bar: tqdm | None = None
    saved: float = field(default_factory=time.monotonic)

    def __call__(self, state):
        recent = state.losses[-50:]
        speed = state.step * self.settings.batch_size * self.tokens_per_document / state.seconds
        line = f"loss {sum(recent) / len(recent):.3f}, {speed:,.0f} tokens/s"
        floor = self.corpus.floor
        self.bar.set_postfix_str(line if floor is None else f"{line}, floor {floor.nats:.3f}", refresh=False)
        self.bar.update()
        if state.step % max(self.settings.steps // 25, 1) == 0:
            validation = measure_loss(state.model, self.corpus.validation)
            self.bar.write(
                f"step {state.step} of {self.settings.steps}: {line}, validation {validation.nats:.3f}"
                f"{_compared(floor, validation)}",
                file=sys.stderr,
            )
        if time.monotonic() - self.saved > self.checkpoint_seconds:
            save_state(self.state_path, state)
            self.saved = time.monotonic()


def _compared(floor, loss):
    """The entropy bound and the relative distance of the loss from it, as text; "" without a known bound."""
    return "" if floor is None else f", floor {floor.nats:.3f} ({100 * (loss.nats / floor.nats - 1):+.1f} %)"


def _settings(options, rows):
    """Training settings from the options; by default, two passes over the rows."""
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
    """Raise ConfigError for numbers out of range."""
    positive = dict.fromkeys(("documents", "steps", "batch", "warmup", "threads"), 1)
    check_minimum(arguments, context=2, seed=0, checkpoint_seconds=0, **positive)
    for name, largest in LARGEST.items():
        if (getattr(arguments, name) or 0) > largest:
            raise ConfigError(f"--{name} is {shown(getattr(arguments, name))}, expected at most {largest}")
    if not 0 < arguments.rate < math.inf:
        raise ConfigError(f"--rate is {arguments.rate}, expected a positive number")


def _new_record(arguments, directory):
    """The record of a new training. It includes the number of threads, on which the last bits depend."""
    if directory.exists():
        raise Error(f"{directory}: an unfinished training; resume it with --resume, or remove it")
    options = {name: getattr(arguments, name) for name in OPTIONS}
    return {"options": options | {"threads": arguments.threads or default_threads()}}


def _begin(path, record, tokenizer, state):
    """Write everything that --resume needs, atomically: a killed process leaves nothing or a complete directory."""
    with atomic_directory(path) as directory:
        write_text(directory / "tokenizer.json", tokenizer.to_str(pretty=True))
        write_text(directory / RECORD, json.dumps(record, indent=1))
        save_state(directory / "state.safetensors", state)


def _read_record(directory):
    """The record of a training. Raises Error if it is missing, incomplete, or has options that the parser refuses."""
    path = directory / RECORD
    if not path.exists():
        raise Error(f"{directory}: no training to resume; start one without --resume")
    try:
        record = read_json(path)
    except CheckpointError as problem:
        raise Error(f"{problem}; no training to resume") from None
    options = record.get("options")
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: options is {shown(options)}, expected an object; no training to resume")
    missing = [name for name in OPTIONS if name not in options]
    if missing:
        raise ConfigError(f"{path}: options has no {', '.join(missing)}; no training to resume")
    for name in OPTIONS:
        if not _is_accepted(name, options[name]):
            raise ConfigError(f"{path}: options: {name} is {shown(options[name])}, expected a value of --{name}")
    try:
        _check_options(argparse.Namespace(**options | {"checkpoint_seconds": 0}))
    except ConfigError as problem:
        raise ConfigError(f"{path}: options: {problem}") from None
    digest = record.get("data_sha256")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{path}: data_sha256 is {shown(digest)}, expected 64 hexadecimal digits")
    return record


def _is_accepted(name, value):
    """Whether the parser returns exactly this value for an option. Only `text` and `steps` may be None."""
    parser = Parser(add_help=False)
    add_arguments(parser)
    given = [f"--{name}={value}"]
    if value is None:
        given = []
    elif isinstance(value, list):
        if not all(isinstance(item, str) and _is_file_name(item) for item in value):
            return False
        given = [f"--{name}", *value]
    try:
        parsed = getattr(parser.parse_args(given), name)
    except ConfigError:
        return False
    return type(parsed) is type(value) and parsed == value and (value is not None or name != "threads")


def _is_file_name(text):
    """Whether the operating system accepts a text as a file name."""
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_finished(out, directory):
    """Whether the model is complete. The process may have been killed before it removed the training directory."""
    try:
        finished = _read_record(out)
    except Error:
        return False
    record = _read_record(directory) if directory.exists() else {}
    return all(finished.get(key) == value for key, value in record.items())
