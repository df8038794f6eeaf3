"""tinyslm train: train a tokenizer and a model, with checkpoints and exact resume."""

import hashlib
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tinyslm.checkpoints import (
    check_new_directory,
    load_model,
    output_lock,
    remove_directory,
    remove_leftovers,
    save_model,
)
from tinyslm.checkpoints.json_files import shown
from tinyslm.commands.interruption import Interruption
from tinyslm.commands.training_directory import (
    BEST,
    RECORD,
    START,
    STATE,
    TOKENIZER,
    begin,
    changed_text,
    check_free,
    check_same_text,
    is_finished,
    read_record,
    remove_outputs,
)
from tinyslm.commands.training_inputs import (
    TrainingInputs,
    choose_source,
    load_origin,
    new_tokenizer,
    open_inputs,
    read_texts,
    row_length,
    say,
)
from tinyslm.commands.training_options import (
    CONTEXT,
    add_arguments,
    check_options,
    complete,
    make_settings,
    new_options,
)
from tinyslm.commands.training_progress import Progress, compared, print_plan
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.errors import ConfigError
from tinyslm.evaluation import measure_loss
from tinyslm.models import random_model
from tinyslm.models.previous_token_heads import with_previous_token_heads
from tinyslm.models.tiny_shapes import tiny_config
from tinyslm.text import load_tokenizer
from tinyslm.text.text_source import CORPUS_RECORD, TextSource
from tinyslm.text.tokenizer import LARGEST_VOCABULARY
from tinyslm.training import Settings, State, train
from tinyslm.training.checkpoint import restore_parameters, restore_state, save_state
from tinyslm.training.text_size import vocabulary_for
from tinyslm.training.validation import best_step
from tinyslm.tree import named_modules

__all__ = ["add_arguments", "run"]


def run(arguments) -> int:
    """Train, or resume training; returns the exit status."""
    out = Path(arguments.out)
    if not out.name:
        raise ConfigError(f"--out {arguments.out} has no directory name; choose a new directory")
    check_options(arguments)
    directory = out.with_name(out.name + ".training")
    with output_lock(out):
        remove_leftovers(directory.parent, directory.name)
        try:
            return (resume if arguments.resume else start)(arguments, out, directory)
        except KeyboardInterrupt:
            if not directory.exists():
                raise
            return interrupted(out, "the last checkpoint is kept")


def interrupted(out, what):
    """Print how the training is resumed; returns the exit status."""
    command = shlex.join(["tinyslm", "train", "--out", str(out), "--resume"])
    print(f"tinyslm: interrupted; {what}. Resume with\n{command}", file=sys.stderr)
    return 130


@dataclass
class Training:
    """A training to `out`, by way of `directory`. record: the content of training.json in `directory`."""

    out: Path
    directory: Path
    record: dict
    source: TextSource
    tokenizer: Any
    inputs: TrainingInputs
    settings: Settings
    state: State

    @property
    def own_text(self) -> bool:
        """Whether the text is the user's. Then the best model is written, otherwise the last one."""
        return not self.source.is_town


def start(arguments, out, directory) -> int:
    """Begin a new training. The process holds the lock of `out`."""
    check_free(out, directory, arguments.overwrite)
    path = vars(arguments)["from"]
    origin, tokenizer = (None, None) if path is None else load_origin(path)
    context = arguments.context or CONTEXT if origin is None else row_length(origin)
    source = choose_source(arguments, context)
    options = new_options(arguments, source.is_town)
    if options["optimizer"] == "muon" and origin is not None and named_modules(origin, MaskedLinear):
        raise ConfigError(f"{path}: --optimizer muon would change removed weights; train a pruned model with adamw")
    texts = read_texts(source)
    if origin is None:
        if options["vocabulary"] is None and texts is not None:
            options["vocabulary"] = vocabulary_for(sum(len(text) for text in texts))
        tokenizer = new_tokenizer(texts, options["vocabulary"])
    else:
        options["context"] = row_length(origin, source.pack_length)
    training = prepare(out, directory, {"options": options}, source, texts, tokenizer, origin)
    remove_outputs(out, directory)  # with --overwrite there can be some
    begin(directory, training.record, source, tokenizer, training.state, origin)
    return finish(training, arguments.checkpoint_seconds)


def resume(arguments, out, directory) -> int:
    """Continue the training in `directory`. The process holds the lock of `out`."""
    if is_finished(out, directory):
        if directory.exists():
            remove_directory(directory)
        print(f"{out}: this training is already complete")
        return 0
    record, source = read_record(directory)
    options = record["options"]
    check_new_directory(out)
    check_same_text(directory, source)
    tokenizer = load_tokenizer(directory / TOKENIZER)
    origin = None if options["from"] is None else load_model(directory / START)
    size = tokenizer.get_vocab_size()
    if origin is None and not size <= options["vocabulary"] <= LARGEST_VOCABULARY:
        vocabulary = f"vocabulary is {shown(options['vocabulary'])}, expected {size} to {LARGEST_VOCABULARY}"
        raise ConfigError(f"{directory / RECORD}: options: {vocabulary}; the tokenizer has {size} tokens")
    training = prepare(out, directory, record, source, read_texts(source), tokenizer, origin)
    restore_state(directory / STATE, training.state)
    return finish(training, arguments.checkpoint_seconds)


def prepare(out, directory, record, source, texts, tokenizer, origin) -> Training:
    """The training before its first step. Completes the record.

    texts: the documents of the source, None for the town;  origin: the model of --from, or None.
    """
    options = record["options"]
    inputs = open_inputs(source, texts, tokenizer, options, None if origin is None else origin.config)
    digest = hashlib.sha256(inputs.token_ids.tobytes()).hexdigest()
    if record.setdefault("data_sha256", digest) != digest:
        raise changed_text(directory)
    if origin is None:
        has_heads = options["start"] == "previous-token"
        sizes = tokenizer.get_vocab_size(), options["context"]
        model = random_model(tiny_config(options["shape"], *sizes, biases=has_heads), seed=options["seed"])
        model = with_previous_token_heads(model) if has_heads else model
    else:
        model = origin
    complete(options, source.is_town, inputs.tokens, len(inputs.token_ids), model.config.hidden_size)
    settings = make_settings(options, source.is_town, model.config.vocab_size)
    state = State.start(model, settings)
    return Training(out, directory, record, source, tokenizer, inputs, settings, state)


def finish(training, checkpoint_seconds) -> int:
    """Train until the end or an interruption, and write the model."""
    state, settings, inputs = training.state, training.settings, training.inputs
    print_plan(training)
    with (
        Interruption() as interruption,
        tqdm(total=settings.steps, initial=state.step, unit="step", disable=None) as bar,
    ):
        progress = Progress(training, checkpoint_seconds, interruption, bar)
        if training.record["options"]["from"] is not None and not state.validation:
            progress.validate(state)
        if not progress.has_ended(state):
            train(state, inputs.token_ids, inputs.labels, settings, **inputs.loss, after_step=progress)
        save_state(training.directory / STATE, state)
    if interruption.requested:
        return interrupted(training.out, f"step {state.step} of {settings.steps} is saved")
    write(training)
    return 0


def write(training):
    """Write the model of the best or the last step and the record of the training, and remove DIR.training."""
    state, corpus, out = training.state, training.inputs.corpus, training.out
    step = best_step(state.validation) if training.own_text else state.step
    if step != state.step:
        restore_parameters(training.directory / BEST, state, step)
    say(f"measuring the validation loss on {sum(len(document) - 1 for document in corpus.validation):,} tokens")
    validation = measure_loss(state.model, corpus.validation)
    record = training.record | {
        "settings": asdict(training.settings),
        "seconds": round(state.seconds, 1),
        "validation": asdict(validation),
        "floor": corpus.floor and asdict(corpus.floor),
        "losses": [round(loss, 5) for loss in state.losses],
        "validation_curve": [[at, round(nats, 5)] for at, nats in state.validation],  # steps and nats per token
        "written_step": step,
    }
    records = {RECORD: record, CORPUS_RECORD: training.source.record()}
    save_model(out, state.model, training.tokenizer, record["options"]["dtype"], records)
    remove_directory(training.directory)
    written = f", model of step {step} of {training.settings.steps}" if training.own_text else ""
    print(f"{out}: validation loss {validation.nats:.4f} nats per token{compared(corpus.floor, validation)}{written}")
