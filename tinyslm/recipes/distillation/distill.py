"""The step `Distill`: training of a student on the outputs of its teacher.

Losses: `tinyslm/compression/distillation`. Lesson: `lessons/06_distillation.py`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm import ops
from tinyslm.compression.argument_checks import require_choice, require_count
from tinyslm.compression.distillation import cosine_loss
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.distillation.feature_losses import (
    FEATURE_LOSSES,
    MATCHES,
    feature_counts,
    feature_losses,
    feature_observer,
    new_projection,
    real_positions,
    require_comparable,
)
from tinyslm.recipes.distillation.soft_targets import DIVERGENCES, soft_loss
from tinyslm.recipes.distillation.training_text import TEXTS, TrainingText
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.training import Settings, State, train
from tinyslm.tree import Module


@dataclass(frozen=True)
class Distill:
    """Train the model for some steps, with the model before compression (`Calibration.teacher`) as its teacher.

    The training task depends on the kind of model, see `tinyslm.recipes.tasks`. The loss is

        L = soft_weight * T^2 * divergence(teacher, student) + (1 - soft_weight) * cross entropy

    plus the feature losses below, each times its weight. Each loss is a mean over the tokens of the batch that it
    compares, `attention_weight` over their pairs of query and key. The size of the trainer's micro-batches does not
    change the gradient.

    Parameters
    ----------
    steps : int
        Number of training steps.
    learning_rate : float
        Largest learning rate, after a warmup in the first tenth of the steps.
    batch_size : int
        Documents per step.
    temperature : float
        T, above 0.
    soft_weight : float
        From 0 (cross entropy only) to 1 (soft targets only).
    divergence : str
        "forward", "reverse" or "jensen_shannon".
    beta : float
        Of the Jensen-Shannon divergence.
    top_k : int, optional
        Number k of the teacher's most probable tokens in the targets; all other tokens form one bucket. None: all
        tokens. Only for "forward".
    cosine_weight : float
        Weight of the cosine distance between the final hidden states (DistilBERT).
    hidden_weight : float
        Weight of the squared error of the hidden states of matched layers. If widths differ, a projection to the
        teacher's width is trained with the student and removed afterwards.
    attention_weight : float
        Weight of the squared error of the attention scores of matched layers (TinyBERT). Same number of heads only.
    relation_weight : float
        Weight of the divergence of the attention probabilities of matched layers (MiniLM). Same number of heads only.
    value_weight : float
        Weight of the divergence of the value relations of matched layers (MiniLM). Same number of heads only.
    layers : str
        The matched layers: "last", or a strategy of `layer_map`.
    text : str
        Training text. "documents": as given. "teacher": the first halves, continued by the teacher, greedy
        (sequence-level distillation). "student": samples of the student, without a gradient (on-policy distillation).
    text_share : float
        Probability that a batch consists of generated text. Otherwise it consists of documents.

    Raises
    ------
    ConfigError
        When called: for a setting out of range, or a loss that cannot compare the two models.

    References
    ----------
    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2.
    Sequence-level: Kim & Rush 2016 (arXiv 1606.07947), section 3.2. On-policy: Agarwal et al. 2024 (GKD, arXiv
    2306.13649), algorithm 1. The losses name their own sources.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> from tinyslm.recipes import Calibration, KeepLayers
    >>> teacher = random_model(llama_shape(50, 16, 32, 2, 2, 2, 20))
    >>> calibration = Calibration([np.arange(1, 9), np.arange(11, 18)], teacher)
    >>> student = Distill(steps=2)(KeepLayers((0,))(teacher), calibration)
    >>> len(student.layers)
    1
    """

    steps: int
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents
    temperature: float = 1.0
    soft_weight: float = 1.0
    divergence: str = "forward"
    beta: float = 0.5
    top_k: int | None = None
    cosine_weight: float = 0.0
    hidden_weight: float = 0.0
    attention_weight: float = 0.0
    relation_weight: float = 0.0
    value_weight: float = 0.0
    layers: str = "last"
    text: str = "documents"
    text_share: float = 1.0

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        self.check()
        require_comparable(self, model, calibration)
        settings = self.training(calibration)
        text = TrainingText(self, calibration, settings, *calibration.rows())
        parts = distillation_parts(calibration, self)

        def loss_function(learner, token_ids, labels):
            return parts(learner.student, token_ids, labels, learner.projection)

        def after_step(state):
            progress(f"Distill, step {state.step} of {self.steps}, loss {state.losses[-1]:.3f}")
            if state.step < self.steps:
                text.prepare(state.step, state.model.student)

        state = State.start(Learner(model, new_projection(self, model, calibration)), settings)
        text.prepare(0, state.model.student)
        functions = {"loss_function": loss_function, "count_predicted": count_parts(calibration, self, model)}
        state = train(state, text.token_ids, text.labels, settings, **functions, after_step=after_step)
        return state.model.student

    def training(self, calibration: Any) -> Settings:
        """The settings of the trainer: a warmup in the first tenth of the steps, and no weight decay."""
        return Settings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=max(self.steps // 10, 1),
            weight_decay=0.0,
            seed=calibration.seed,
        )

    def check(self) -> None:
        """Raise ConfigError for a setting out of range."""
        require_count("steps", self.steps)
        require_count("batch_size", self.batch_size)
        require_choice("divergence", self.divergence, DIVERGENCES)
        require_choice("layers", self.layers, MATCHES)
        require_choice("text", self.text, TEXTS)
        for name in ("soft_weight", "text_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected a number from 0 to 1")
        for name in ("cosine_weight", *FEATURE_LOSSES):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected a number of at least 0")
        if self.top_k is not None and self.divergence != "forward":
            raise ConfigError(f"top_k is only for the divergence 'forward', found {self.divergence!r}")


class Learner(Module):
    """The trained parts: the student and, if its width is not the teacher's, a projection to the teacher's width."""

    student: Any
    projection: Linear | None = None


def distillation_loss(calibration, settings: Distill):
    """The loss of `Distill` on one batch as loss_function(student, token_ids, labels, projection=None)."""
    parts = distillation_parts(calibration, settings)
    return lambda student, token_ids, labels, projection=None: sum(parts(student, token_ids, labels, projection))


def distillation_parts(calibration, settings: Distill):
    """The weighted parts of the loss, parts(student, token_ids, labels, projection=None) -> list.

    The first part is a mean over the predicted tokens. `count_parts` has the numbers for all parts.
    """
    teacher = calibration.teacher
    uses_features = any(getattr(settings, weight) for weight in FEATURE_LOSSES)
    uses_teacher = uses_features or settings.soft_weight > 0 or settings.cosine_weight > 0

    def states_of(model, inputs):
        """Final hidden states (B, T, C), and {name: feature} if a loss needs features."""
        seen = {}
        observer = feature_observer(model, seen) if uses_features else None
        return model.hidden_states(**inputs, observe=observer), seen

    def parts(student, token_ids, labels, projection=None):
        inputs, targets = calibration.task(token_ids, labels)
        states, seen = states_of(student, inputs)
        logits = student.predict(states)  # (B, T, V)
        predictions = []  # losses on predicted tokens
        if settings.soft_weight < 1:
            predictions.append(ops.cross_entropy(logits, targets) * np.float32(1 - settings.soft_weight))
        if uses_teacher:
            teacher_states, teacher_seen = states_of(teacher, inputs)
        if settings.soft_weight > 0:
            loss = soft_loss(settings, logits, teacher.predict(teacher_states), targets)
            predictions.append(loss * np.float32(settings.soft_weight))
        found = [sum(predictions)]
        if settings.cosine_weight > 0:
            real = real_positions(student, inputs, targets)
            found.append(cosine_loss(states, teacher_states, mask=real) * np.float32(settings.cosine_weight))
        if uses_features:
            found += feature_losses(settings, student, teacher, seen, teacher_seen, inputs, targets, projection)
        return found

    return parts


def count_parts(calibration, settings: Distill, student):
    """counts(token_ids, labels) -> number of tokens, or pairs of tokens, that each part is a mean over.

    With these as weights, the gradient of a batch does not depend on how it is cut into micro-batches.
    """

    def counts(token_ids, labels):
        inputs, targets = calibration.task(token_ids, labels)
        found = [int(np.count_nonzero(targets != ops.IGNORED))]
        if settings.cosine_weight > 0:
            found.append(int(np.count_nonzero(real_positions(student, inputs, targets))))
        return found + feature_counts(settings, student, calibration.teacher, inputs, targets)

    return counts
