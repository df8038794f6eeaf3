"""Progress of a training: the plan before the first step, then validation, checkpoints, and the end."""

import sys
import time

import numpy as np

from tinyslm.commands.training_directory import BEST, STATE
from tinyslm.commands.training_inputs import say
from tinyslm.errors import DataError, NumericOverflow
from tinyslm.evaluation import measure_loss
from tinyslm.text.corpus import Corpus
from tinyslm.training import StopTraining
from tinyslm.training.checkpoint import save_parameters, save_state
from tinyslm.training.loop import batch_gradients, batch_rows
from tinyslm.training.text_size import RECOMMENDED_TOKENS
from tinyslm.training.validation import best_step, evaluations_since_best
from tinyslm.tree import named_parameters

EVALUATIONS = 25  # of the validation loss during a training
TOWN_VALIDATION_DOCUMENTS = 200  # the first ones, for the loss during training
VALIDATION_TOKENS = 20_000  # of your own text, for the loss during training
RISING = 5  # evaluations above the best one: the model memorizes
PATIENCE = 10  # evaluations above the best one: the training ends
TIMED_STEPS = 10  # a shorter training is not timed before it starts


def documents_during_training(corpus: Corpus, own_text: bool) -> Corpus:
    """The corpus with the validation documents that are measured during training."""
    if not own_text:
        return corpus.first_validation(TOWN_VALIDATION_DOCUMENTS)
    tokens = np.cumsum([len(document) - 1 for document in corpus.validation])
    return corpus.first_validation(1 + int(np.searchsorted(tokens, VALIDATION_TOKENS)))


def validation_interval(settings, rows: int, own_text: bool) -> int:
    """Steps between two evaluations; for your own text, at least two evaluations per pass. rows: training rows."""
    interval = max(settings.steps // EVALUATIONS, 1)
    return min(interval, max(rows // (2 * settings.batch_size), 1)) if own_text else interval


def print_plan(training):
    """Print the amounts of data and of work, and the expected time."""
    inputs, settings, state = training.inputs, training.settings, training.state
    kind = "documents" if training.source.pack_length is None else "packed rows"
    rows, validation = len(inputs.token_ids), inputs.corpus.validation
    tokens, held_out = inputs.tokens, sum(len(document) - 1 for document in validation)
    parameters = sum(array.size for array in named_parameters(state.model).values())
    say(
        f"training text: {tokens:,} tokens, {len(inputs.corpus.training):,} {kind}\n"
        f"validation text: {held_out:,} tokens, {len(validation):,} {kind}\n"
        f"model: {parameters:,} parameters, vocabulary of {state.model.config.vocab_size:,} tokens\n"
        f"training: {settings.steps:,} steps of {settings.batch_size:,} rows, "
        f"{settings.steps * settings.batch_size / rows:.1f} passes, learning rate {settings.learning_rate:g}"
    )
    if training.own_text and tokens < RECOMMENDED_TOKENS:
        say(f"little text: {tokens:,} training tokens; {RECOMMENDED_TOKENS:,} or more are recommended")
    if (remaining := settings.steps - state.step) >= TIMED_STEPS:
        evaluations = remaining / validation_interval(settings, rows, training.own_text)
        measured = documents_during_training(inputs.corpus, training.own_text)
        seconds = remaining * seconds_per_step(inputs, settings, state)
        seconds += evaluations * seconds_of(lambda: measure_loss(state.model, measured.validation))
        say(f"expected time: about {format_duration(seconds)}")


def seconds_per_step(inputs, settings, state) -> float:
    """The time of the gradients of a step with an average number of tokens. The state is not changed."""
    rows = batch_rows(state.step, len(inputs.token_ids), settings)
    batch = inputs.token_ids[rows], inputs.labels[rows]

    def compute():
        batch_gradients(inputs.loss["loss_function"], state.model, *batch, settings, inputs.loss["count_predicted"])

    compute()  # threads start and memory is allocated
    average = inputs.tokens * settings.batch_size / len(inputs.token_ids)
    return seconds_of(compute) * average / max(inputs.count(*batch), 1)


def seconds_of(function) -> float:
    """The time of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def format_duration(seconds: float) -> str:
    """A duration with one unit."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "1 second"


class Progress:
    """Called after each step: updates the progress bar, validates and saves, and ends the training.

    Of your own text, the parameters with the lowest validation loss are kept in best.safetensors.
    """

    def __init__(self, training, checkpoint_seconds, interruption, bar):
        self.directory, self.settings = training.directory, training.settings
        self.checkpoint_seconds, self.interruption, self.bar = checkpoint_seconds, interruption, bar
        self.own_text = training.own_text
        self.measured = documents_during_training(training.inputs.corpus, self.own_text)
        rows = len(training.inputs.token_ids)
        self.tokens_per_step = self.settings.batch_size * training.inputs.tokens / rows
        self.interval = validation_interval(self.settings, rows, self.own_text)
        self.saved = time.monotonic()

    def __call__(self, state):
        self.bar.set_postfix_str(self.describe(state), refresh=False)
        self.bar.update()
        if state.step % self.interval == 0 or state.step == self.settings.steps:
            self.validate(state)
        if time.monotonic() - self.saved > self.checkpoint_seconds:
            save_state(self.directory / STATE, state)
            self.saved = time.monotonic()
        if self.interruption.requested or self.has_ended(state):
            raise StopTraining

    def has_ended(self, state) -> bool:
        """Whether the last step is done, or the validation loss was above its best for PATIENCE evaluations."""
        rising = self.own_text and evaluations_since_best(state.validation) >= PATIENCE
        return rising or state.step >= self.settings.steps

    def describe(self, state) -> str:
        """The loss of the last steps, and the speed."""
        recent, tokens = state.losses[-50:], state.step * self.tokens_per_step
        return f"loss {sum(recent) / len(recent):.3f}, {tokens / state.seconds:,.0f} tokens/s"

    def validate(self, state):
        """Measure the validation loss, print it, and keep the best model."""
        try:
            validation = measure_loss(state.model, self.measured.validation)
        except DataError as problem:
            if not state.losses:  # the model of --from, before the first step
                raise
            raise NumericOverflow("the validation loss is not finite") from problem
        floor = self.measured.floor
        state.validation.append((state.step, validation.nats))
        losses = f"{self.describe(state)}, " if state.losses else ""
        losses += f"validation {validation.nats:.3f}{compared(floor, validation)}"
        self.bar.write(f"step {state.step}: {losses}", file=sys.stderr)
        if not self.own_text:
            return
        best = best_step(state.validation)
        if best == state.step:
            save_parameters(self.directory / BEST, state)
        since = evaluations_since_best(state.validation)
        if since == RISING:
            what = f"the model memorizes the text;\n  the model of step {best} will be written"
            self.bar.write(f"validation loss rises since step {best}: {what}", file=sys.stderr)
        if since == PATIENCE and state.step < self.settings.steps:
            self.bar.write(f"ends at step {state.step}: {PATIENCE} evaluations without a lower loss", file=sys.stderr)


def compared(floor, loss) -> str:
    """The entropy bound and the relative distance of the loss from it, as text; "" without a known bound."""
    return "" if floor is None else f", floor {floor.nats:.3f} ({100 * (loss.nats / floor.nats - 1):+.1f} %)"
