"""Recovery: a short training of the compressed model, with the dense one as its teacher."""

from dataclasses import dataclass

import numpy as np

from tinyslm import ops
from tinyslm.compression.distillation import hidden_state_loss, soft_target_loss
from tinyslm.errors import ConfigError
from tinyslm.ops import IGNORED
from tinyslm.training import Settings, State, train


@dataclass(frozen=True)
class Recover:
    """Train for `steps` steps on soft targets of the teacher and, with 1 - soft_weight, on the text itself; the task
    is that of the kind of model (see `tasks`).

    L = soft_weight * T^2 KL(teacher || student) + (1 - soft_weight) * cross entropy + hidden_weight * MSE of the states
    after the final norm (which needs student and teacher of the same width).
    Source: Hinton, Vinyals & Dean 2015, section 2.
    """

    steps: int
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents
    temperature: float = 1.0
    soft_weight: float = 1.0
    hidden_weight: float = 0.0

    def __call__(self, model, calibration, progress=lambda text: None):
        for name in ("steps", "batch_size"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected an integer of at least 1")
        token_ids, labels = calibration.rows()
        settings = Settings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup_steps=max(self.steps // 10, 1),
            weight_decay=0.0,
            seed=calibration.seed,
        )

        def count_targets(token_ids, labels):
            return np.count_nonzero(calibration.task(token_ids, labels).targets != IGNORED)

        def report(state):
            progress(f"Recover, step {state.step} of {self.steps}, loss {state.losses[-1]:.3f}")

        functions = {"loss_function": distillation_loss(calibration, self), "count_predicted": count_targets}
        state = State.start(model, settings)
        return train(state, token_ids, labels, settings, **functions, after_step=report).model


def distillation_loss(calibration, settings: Recover):
    """loss_function(student, token_ids, labels) for `train`: what `Recover` describes."""
    teacher = calibration.teacher

    def loss_function(student, token_ids, labels):
        inputs, targets = calibration.task(token_ids, labels)
        predicted = targets != IGNORED  # (B, T)
        student_states, teacher_states = student.states(**inputs), teacher.states(**inputs)  # (B, T, C)
        student_logits = student.predict(student_states)  # (B, T, V)
        soft = soft_target_loss(student_logits, teacher.predict(teacher_states), settings.temperature, mask=predicted)
        loss = soft * np.float32(settings.soft_weight)
        if settings.soft_weight < 1:
            hard = ops.cross_entropy(student_logits, targets)
            loss = loss + hard * np.float32(1 - settings.soft_weight)
        if settings.hidden_weight > 0:
            hidden = hidden_state_loss(student_states, teacher_states, mask=predicted)
            loss = loss + hidden * np.float32(settings.hidden_weight)
        return loss

    return loss_function
