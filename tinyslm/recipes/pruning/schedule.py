"""Pruning while training: gradually, or in rounds that begin anew."""

from dataclasses import dataclass

from tinyslm.compression.pruning import MaskedLinear, cubic_sparsity, iterative_sparsity
from tinyslm.errors import ConfigError
from tinyslm.recipes.distillation.distill import Distill, distillation_loss
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.magnitude import magnitude_masks, require_scope
from tinyslm.recipes.pruning.masked_layers import with_masks
from tinyslm.recipes.step import ignore_progress
from tinyslm.training import State, train
from tinyslm.tree import named_modules


@dataclass(frozen=True)
class PruneGradually:
    """Train for `steps` steps on the teacher's soft targets, while ever more of the smallest weights are removed.

    Every `every` steps the masks are chosen anew, by magnitude, at a sparsity that grows fast at first (cubically) and
    reaches `sparsity` after the fraction `pruned_by` of the steps; then they are fixed. A weight that is removed stays
    so. Source: Zhu & Gupta 2017, section 3.
    """

    sparsity: float
    steps: int
    every: int = 5
    pruned_by: float = 0.6
    scope: str = "layer"  # or "global"
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_scope(self.scope)
        _require_counts(self, "steps", "every", "batch_size")
        if not 0 < self.pruned_by <= 1:
            raise ConfigError(f"pruned_by is a fraction of the steps, above 0 and up to 1, found {self.pruned_by!r}")
        require_dense(model)
        last = max(1, round(self.pruned_by * self.steps))

        def prune(state):
            sparsity = cubic_sparsity(state.step, self.sparsity, stop=last)
            progress(f"PruneGradually, step {state.step} of {self.steps}, sparsity {sparsity:.3f}")
            if state.step == last or (state.step < last and state.step % self.every == 0):
                tighten(state, magnitude_masks(state.model, sparsity, self.scope))

        nothing_removed = with_masks(model, magnitude_masks(model, 0.0, "layer"))
        recover = Distill(self.steps, self.learning_rate, self.batch_size)
        return train_on_teacher(nothing_removed, calibration, recover, prune)


def tighten(state, masks):
    """Put new masks into a training, in place. What is removed loses its momentum too, or it would move once more."""
    for path, layer in named_modules(state.model, MaskedLinear).items():
        layer.mask[...] = masks[path]
        for array in (layer.weight, state.optimizer.first_moments[f"{path}.weight"]):
            array[~masks[path]] = 0


def train_on_teacher(model, calibration, settings: Distill, after_step):
    """The model trained as `Distill` would, with after_step(state) after every step."""
    token_ids, labels = calibration.rows()
    training = settings.training(calibration)
    return train(
        State.start(model, training),
        token_ids,
        labels,
        training,
        loss_function=distillation_loss(calibration, settings),
        count_predicted=calibration.count_targets,
        after_step=after_step,
    ).model


@dataclass(frozen=True)
class PruneIteratively:
    """Train, remove the smallest weights, begin the training anew; `rounds` times, and train once more at the end.

    Every round removes the same share of what is left and trains `steps` steps on the teacher's soft targets.
    rewind: what begins anew. "weights": those that are left go back to the values they had before the first round, and
    the schedule of the learning rate with them (Frankle & Carbin 2019; late rewinding: Frankle et al. 2020, since the
    model that comes in was trained already). "learning_rate": the schedule only (Renda, Frankle & Carbin 2020).
    """

    sparsity: float
    rounds: int
    steps: int
    rewind: str = "learning_rate"
    scope: str = "global"  # or "layer"
    learning_rate: float = 1e-3
    batch_size: int = 20  # documents

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_scope(self.scope)
        _require_counts(self, "rounds", "steps", "batch_size")
        if self.rewind not in ("weights", "learning_rate"):
            raise ConfigError(f"rewind is {self.rewind!r}, expected 'weights' or 'learning_rate'")
        require_dense(model)
        recover = Distill(self.steps, self.learning_rate, self.batch_size)
        current = model
        for number in range(1, self.rounds + 1):
            progress(f"PruneIteratively, round {number} of {self.rounds}")
            trained = recover(current, calibration, progress)
            masks = magnitude_masks(trained, iterative_sparsity(number, self.sparsity, self.rounds), self.scope)
            current = with_masks(model if self.rewind == "weights" else trained, masks)
        return recover(current, calibration, progress)


def _require_counts(step, *names):
    for name in names:
        value = getattr(step, name)
        if not (isinstance(value, int) and value >= 1):
            raise ConfigError(f"{name} is {value!r}, expected an integer of at least 1")
