"""Recovery: a short training of the compressed model, with the dense one as its teacher."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm import ops
from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.distillation import cosine_loss
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.recipes.distillation.feature_losses import MAPS, inner_losses, observer, real_positions, require_comparable
from tinyslm.recipes.distillation.soft_targets import DIVERGENCES, soft_loss
from tinyslm.recipes.distillation.training_text import TEXTS, Writer
from tinyslm.recipes.step import ignore_progress
from tinyslm.training import Settings, State, train
from tinyslm.tree import Module

LONGEST = 10**9  # steps, rows of a batch
INNER_WEIGHTS = ("hidden_weight", "attention_weight", "relation_weight", "value_weight")


@dataclass(frozen=True)
class Distill:
    """Train for `steps` steps on soft targets of the teacher and, with 1 - soft_weight, on the text itself; the task
    is that of the kind of model (see `tasks`).

    L = soft_weight * T^2 divergence(teacher, student) + (1 - soft_weight) * cross entropy + what is below, each with a
    weight of its own. Sources: Hinton, Vinyals & Dean 2015, section 2, and those of the losses.

    What the teacher says. divergence: "forward", "reverse" or "jensen_shannon", with `beta` for the last;  top_k: only
    so many of the teacher's tokens, and all others as one (forward only; None: all).
    What it thinks. cosine_weight: direction of the last states (DistilBERT). Of the layers that `layers` matches,
    "last" or a strategy of `layer_map`: hidden_weight, their states, of which the last are those after the final norm,
    through a learned projection where widths differ, which is trained together with the student and dropped;
    attention_weight, scores (TinyBERT);  relation_weight, where attention goes (MiniLM);  value_weight, relations of
    values (MiniLM). These three need the same number of heads.
    On whose text. text: "documents", "teacher" (its greedy continuation of their first halves: sequence-level; Kim &
    Rush 2016, section 3.2) or "student" (its own samples, through which no gradient goes: on-policy; Agarwal et al.
    2024, algorithm 1);  text_share: the probability of such a batch, otherwise it is of the documents.
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

    def __call__(self, model, calibration=None, progress=ignore_progress):
        self.check()
        projection = require_comparable(self, model, calibration)
        token_ids, labels = calibration.rows()
        settings = self.training(calibration)
        writer = Writer(self, calibration, settings, token_ids, labels)
        distil = distillation_loss(calibration, self)

        def loss_function(learner, token_ids, labels):
            return distil(learner.student, token_ids, labels, learner.projection)

        def after_step(state):
            progress(f"Distill, step {state.step} of {self.steps}, loss {state.losses[-1]:.3f}")
            if state.step < self.steps:
                writer.prepare(state.step, state.model.student)

        state = State.start(Learner(model, projection), settings)
        writer.prepare(0, state.model.student)
        functions = {"loss_function": loss_function, "count_predicted": calibration.count_targets}
        state = train(state, writer.token_ids, writer.labels, settings, **functions, after_step=after_step)
        return state.model.student

    def training(self, calibration) -> Settings:
        """The settings of the trainer: a warmup in the first tenth of the steps, and no weight decay."""
        return Settings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=max(self.steps // 10, 1),
            weight_decay=0.0,
            seed=calibration.seed,
        )

    def check(self):
        """ConfigError for settings that mean nothing."""
        require_integer("steps", self.steps, 1, LONGEST)
        require_integer("batch_size", self.batch_size, 1, LONGEST)
        choices = {"divergence": DIVERGENCES, "layers": MAPS, "text": TEXTS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("soft_weight", "text_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected a number from 0 to 1")
        for name in ("cosine_weight", *INNER_WEIGHTS):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected a number of at least 0")
        if self.top_k is not None and self.divergence != "forward":
            raise ConfigError(f"top_k belongs to the divergence 'forward', found {self.divergence!r}")


class Learner(Module):
    """What is trained: the student and, where its width is not the teacher's, a projection to that width."""

    student: Any
    projection: Linear | None = None


def distillation_loss(calibration, settings: Distill):
    """loss_function(student, token_ids, labels, projection=None) -> what `Distill` describes."""
    teacher = calibration.teacher
    looks_inside = any(getattr(settings, weight) for weight in INNER_WEIGHTS)
    needs_teacher = looks_inside or settings.soft_weight > 0 or settings.cosine_weight > 0
    watch = observer if looks_inside else lambda seen: None

    def loss_function(student, token_ids, labels, projection=None):
        inputs, targets = calibration.task(token_ids, labels)
        seen_student, seen_teacher = {}, {}
        states = student.hidden_states(**inputs, observe=watch(seen_student))  # (B, T, C)
        logits = student.predict(states)  # (B, T, V)
        terms = []  # (weight, loss)
        if settings.soft_weight < 1:
            terms.append((1 - settings.soft_weight, ops.cross_entropy(logits, targets)))
        if needs_teacher:
            teacher_states = teacher.hidden_states(**inputs, observe=watch(seen_teacher))  # (B, T, C)
        if settings.soft_weight > 0:
            terms.append((settings.soft_weight, soft_loss(settings, logits, teacher.predict(teacher_states), targets)))
        if settings.cosine_weight > 0:
            real = real_positions(student, inputs, targets)
            terms.append((settings.cosine_weight, cosine_loss(states, teacher_states, mask=real)))
        if looks_inside:
            seen = seen_student, seen_teacher
            terms += inner_losses(settings, student, teacher, *seen, inputs, targets, projection)
        return sum(loss * np.float32(weight) for weight, loss in terms)

    return loss_function
