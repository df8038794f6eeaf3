"""Pruning during training: gradual pruning, and iterative pruning with rewinding.

Mathematics: `tinyslm/compression/pruning/schedule.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.argument_checks import require_choice, require_count
from tinyslm.compression.pruning import MaskedLinear, cubic_sparsity, iterative_sparsity
from tinyslm.errors import ConfigError
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.distillation.distill import Distill, distillation_loss
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.pruning.magnitude import SCOPES, magnitude_masks
from tinyslm.recipes.pruning.masked_layers import with_masks
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.training import State, train
from tinyslm.tree import Module, named_modules


@dataclass(frozen=True)
class PruneGradually:
    """Train on the teacher's soft targets while the magnitude pruning of the linear layers of the blocks increases.

    Every `every` steps new masks are chosen, at a sparsity that grows by a cubic schedule (`cubic_sparsity`). After the
    fraction `pruned_by` of the steps the masks are fixed. A removed weight stays removed.

    Parameters
    ----------
    sparsity : float
        Final fraction of the weights removed, from 0 to 1.
    steps : int
        Training steps, at least 1.
    every : int
        Steps between two choices of masks, default 5.
    pruned_by : float
        Fraction of the steps after which the sparsity is final, above 0 and up to 1, default 0.6.
    scope : str
        "layer" (default): the same fraction of each layer. "global": one threshold for all layers together.
    learning_rate : float
        Highest learning rate, default 1e-3.
    batch_size : int
        Documents per step, default 20.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, or if a layer is already compressed.

    References
    ----------
    Zhu & Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878), section 3.

    Examples
    --------
    >>> step = PruneGradually(sparsity=0.8, steps=100)
    >>> step.every, step.pruned_by, step.scope
    (5, 0.6, 'layer')
    """

    sparsity: float
    steps: int
    every: int = 5
    pruned_by: float = 0.6
    scope: str = "layer"
    learning_rate: float = 1e-3
    batch_size: int = 20

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        distill = distill_step(self, "every")
        if not 0 < self.pruned_by <= 1:
            raise ConfigError(f"pruned_by is a fraction of the steps, above 0 and up to 1, found {self.pruned_by!r}")
        require_dense(model)
        last = max(1, round(self.pruned_by * self.steps))

        def prune(state):
            sparsity = cubic_sparsity(state.step, self.sparsity, stop=last)
            progress(f"PruneGradually, step {state.step} of {self.steps}, sparsity {sparsity:.3f}")
            if state.step == last or (state.step < last and state.step % self.every == 0):
                tighten(state, magnitude_masks(state.model, sparsity, self.scope))

        token_ids, labels = calibration.rows()
        settings = distill.training(calibration)
        return train(
            State.start(with_masks(model, magnitude_masks(model, 0.0)), settings),
            token_ids,
            labels,
            settings,
            loss_function=distillation_loss(calibration, distill),
            count_predicted=calibration.count_targets,
            after_step=prune,
        ).model


def distill_step(step, *counts) -> Distill:
    """The training of a pruning step. Raises ConfigError for an invalid scope, or counts below 1."""
    require_choice("scope", step.scope, SCOPES)
    for name in ("steps", "batch_size", *counts):
        require_count(name, getattr(step, name))
    return Distill(step.steps, step.learning_rate, step.batch_size)


def tighten(state, masks):
    """Apply new masks to a training state, in place, and set the first moments of removed weights to 0.

    Otherwise the momentum would change the removed weights in the next steps.
    """
    for path, layer in named_modules(state.model, MaskedLinear).items():
        layer.mask[...] = masks[path]
        for array in (layer.weight, state.optimizer.first_moments[f"{path}.weight"]):
            array[~masks[path]] = 0


@dataclass(frozen=True)
class PruneIteratively:
    """Iterative magnitude pruning: `rounds` times train, prune and rewind; then train once more.

    Each round trains `steps` steps on the teacher's soft targets, then removes the same fraction of the remaining
    weights of the linear layers of the blocks (`iterative_sparsity`).

    Parameters
    ----------
    sparsity : float
        Final fraction of the weights removed, from 0 to 1.
    rounds : int
        Number of rounds, at least 1.
    steps : int
        Training steps per round, at least 1.
    rewind : str
        What is reset after each round. "learning_rate" (default): the learning rate schedule; the weights stay trained.
        "weights": also the kept weights, to their values before the first round. Since the model is already trained
        then, this is late rewinding.
    scope : str
        "global" (default): one threshold for all layers together. "layer": the same fraction of each layer.
    learning_rate : float
        Highest learning rate, default 1e-3.
    batch_size : int
        Documents per step, default 20.

    Raises
    ------
    ConfigError
        When applied: for an invalid setting, or if a layer is already compressed.

    References
    ----------
    Frankle & Carbin 2019 (weights, arXiv 1803.03635); Frankle et al. 2020 (late rewinding, arXiv 1912.05671); Renda,
    Frankle & Carbin 2020 (learning rate, arXiv 2003.02389).

    Examples
    --------
    >>> step = PruneIteratively(sparsity=0.8, rounds=3, steps=100)
    >>> step.rewind, step.scope
    ('learning_rate', 'global')
    """

    sparsity: float
    rounds: int
    steps: int
    rewind: str = "learning_rate"
    scope: str = "global"
    learning_rate: float = 1e-3
    batch_size: int = 20

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        distill = distill_step(self, "rounds")
        require_choice("rewind", self.rewind, ("weights", "learning_rate"))
        require_dense(model)
        current = model
        for number in range(1, self.rounds + 1):
            progress(f"PruneIteratively, round {number} of {self.rounds}")
            trained = distill(current, calibration, progress)
            masks = magnitude_masks(trained, iterative_sparsity(number, self.sparsity, self.rounds), self.scope)
            current = with_masks(model if self.rewind == "weights" else trained, masks)
        return distill(current, calibration, progress)
