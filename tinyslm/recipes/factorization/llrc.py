"""The step `LearnRanks`: differentiable rank selection (LLRC) for the linear layers of a model.

Mathematics: `tinyslm/compression/factorization/llrc.py`. Lesson: `lessons/10_low_rank.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.compression.argument_checks import require_choice, require_count, require_ratio
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.factorization import (
    Components,
    MaskedRankLinear,
    beyond_rank_one,
    compression_loss,
    first_components,
    logistic_noise,
    masked_parameters,
    masks_within,
    rank_mask,
    total_variation_loss,
)
from tinyslm.models import EncoderDecoder
from tinyslm.modules import SelectiveObserver
from tinyslm.ops import IGNORED
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.factorization.components import layer_shapes, model_components, parameter_budget, with_masks
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers, require_dense
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.text.batches import document_rows
from tinyslm.training import AdamW, Settings
from tinyslm.training.loop import batch_gradients, batch_rows
from tinyslm.tree import Module, map_modules, named_modules

TOLERANCE = 0.02  # of the budget: within it the compression loss is scaled down
FIRST_LOGIT, LAST_LOGIT = 6, 3  # of the components of a layer, before training


@dataclass(frozen=True)
class LearnRanks:
    """Learn masks over the components of every linear layer in the blocks; keep the fraction `ratio` of parameters.

    No weight is trained, only one logit per component. The loss is

        L = distillation + compression_weight * a_t * mean logit + variation_weight * total variation of the masks

    The distillation loss is the squared error of the hidden states, relative to the teacher's, after the middle layer
    and before the head. In every `period` of steps a_t rises from 0 to 1 in the first half and stays 1 in the second
    (cyclical annealing). Within TOLERANCE of the budget the compression loss is scaled down, and below the budget it
    is negative, so that the number of parameters stays near the budget while training continues. (The authors set it to
    0 and stop.)
    At the end the components with the largest logits are kept, up to the budget. Layers that would not become smaller
    stay dense.

    Parameters
    ----------
    ratio : float
        Fraction of parameters kept, above 0 and up to 1.
    documents : int
        Largest number of calibration documents for training.
    steps, batch_size : int
        Training steps, and documents per step.
    learning_rate : float
        Of the logits.
    compression_weight, variation_weight : float
        Weights of the losses.
    temperature : float
        Of the gradient of the masks, see `rank_mask`.
    period : int
        Length of an annealing cycle, in steps.
    weighting : str
        Norm of the components: "whitened" or "activation" (as in the paper), "fisher" or "none".
    components : str
        "any" keeps the learned components, "first" the same number of first components.
    statistics_documents : int, optional
        Number of calibration documents for statistics, by default the calibration's.

    Raises
    ------
    ConfigError
        When called: for a setting out of range, a budget below rank 1 in every layer, or a compressed model.

    References
    ----------
    Sundrani, Tudisco & Minervini 2025, "Low-Rank Compression of Language Models via Differentiable Rank Selection"
    (LLRC, arXiv 2512.13733). Logits start from 6 down to 3.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> from tinyslm.recipes import Calibration
    >>> model = random_model(llama_shape(50, 16, 32, 1, 2, 2, 20))
    >>> calibration = Calibration([np.arange(1, 9)], model)
    >>> smaller = LearnRanks(ratio=0.5, steps=1)(model, calibration)
    >>> smaller.layers[0].feed_forward.down.rank <= 10
    True
    """

    ratio: float
    documents: int = 3000
    steps: int = 100
    batch_size: int = 8  # documents
    learning_rate: float = 0.1
    compression_weight: float = 1.0
    variation_weight: float = 0.0
    temperature: float = 1.0
    period: int = 25
    weighting: str = "whitened"
    components: str = "any"
    statistics_documents: int | None = None

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        self._check()
        require_dense(model)
        progress("decomposing")
        components = model_components(model, calibration, self.weighting, self.statistics_documents)
        logits = self.learn(model, calibration, components, progress)
        masks = masks_within(logits, layer_shapes(components), parameter_budget(components, self.ratio))
        return with_chosen_components(model, components, masks, self.components)

    def learn(
        self, model: Any, calibration: Any, components: dict[str, Components], progress: Callable[[str], Any]
    ) -> dict:
        """{path: logits (r,)} after all steps."""
        token_ids, labels = document_rows(calibration.documents[: self.documents], calibration.row_length)
        rng, shapes = np.random.default_rng(calibration.seed), layer_shapes(components)
        budget = parameter_budget(components, self.ratio)
        beyond_rank_one(shapes, budget)  # raises ConfigError for a budget that is too small, before training
        masked = with_logits(model, components, self.temperature)
        logits = {path: layer.logits for path, layer in named_modules(masked, MaskedRankLinear).items()}
        optimizer = AdamW({f"{path}.logits": each for path, each in logits.items()}, weight_decay=0.0)
        settings = Settings(self.steps, self.batch_size, micro_batch_size=4, seed=calibration.seed)
        for step in range(self.steps):
            excess = masked_parameters({path: each > 0 for path, each in logits.items()}, shapes) / budget - 1
            strength = self.compression_weight * annealing(step, self.period) * np.clip(excess / TOLERANCE, -1, 1)
            noisy = with_noise(masked, rng)
            rows = batch_rows(step, len(token_ids), settings)
            loss, gradients = batch_gradients(
                self.loss_function(calibration, strength),
                noisy,
                token_ids[rows],
                labels[rows],
                settings,
                calibration.count_targets,
            )
            optimizer.step(gradients, self.learning_rate)
            progress(f"LearnRanks, step {step + 1} of {self.steps}, loss {loss:.4f}")
        return logits

    def loss_function(self, calibration: Any, strength: float) -> Callable:
        """Function loss(model, token_ids, labels): the loss of the class with `strength` = compression_weight * a_t."""
        teacher = calibration.teacher

        def loss_of(model, token_ids, labels):
            inputs, targets = calibration.task(token_ids, labels)
            loss = state_loss(model, teacher, inputs, targets != IGNORED)
            layers = named_modules(model, MaskedRankLinear).values()
            loss = loss + compression_loss(*[layer.logits for layer in layers]) * np.float32(strength)
            if self.variation_weight > 0:
                for layer in layers:
                    mask = rank_mask(layer.logits, layer.noise, self.temperature)
                    loss = loss + total_variation_loss(mask) * np.float32(self.variation_weight)
            return loss

        return loss_of

    def _check(self):
        require_ratio(self.ratio)
        require_choice("components", self.components, ("any", "first"))
        for name in ("documents", "steps", "batch_size", "period"):
            require_count(name, getattr(self, name))


def annealing(step, period) -> float:
    """Annealing factor a_t: rises from 0 to 1 in the first half of each period, 1 in the second (Fu et al. 2019)."""
    return min(1.0, 2 * (step % period) / period)


def with_logits(model, components, temperature):
    """The model with a `MaskedRankLinear` in place of every layer with components; logits from 6 down to 3."""
    layers = compressible_layers(model)

    def masked(path):
        linear, size = layers[path], len(components[path].singular_values)
        dtype = linear.weight.dtype
        left, right = components[path].keep(slice(None), dtype)  # (out, r), (r, in)
        return MaskedRankLinear(
            logits=np.linspace(FIRST_LOGIT, LAST_LOGIT, size).astype(dtype),
            left=left,
            right=right,
            noise=np.zeros(size, dtype),
            temperature=temperature,
            bias=linear.bias,
        )

    return replace_layers(model, {path: masked(path) for path in components})


def with_noise(model, rng):
    """The masked model with new noise in every layer."""

    def renew(path, layer):
        return layer.replace(noise=logistic_noise(rng, layer.noise.shape).astype(layer.noise.dtype))

    return map_modules(renew, model, MaskedRankLinear)


def with_chosen_components(model, components, masks, chosen="any"):
    """The model with the components in the masks, or with the same number of first components ("first")."""
    if chosen == "first":
        masks = {path: first_components(mask) for path, mask in masks.items()}
    return with_masks(model, components, masks)


def state_loss(student, teacher, inputs, counted):
    """Sum of the squared errors of the middle and the final hidden states, each relative to the teacher's.

    counted: (B, T), 0 at positions to ignore. For an encoder-decoder, the states of its decoder.
    """
    student_states, teacher_states = (_middle_and_last(model, inputs) for model in (student, teacher))
    total = 0
    for found, target in zip(student_states, teacher_states, strict=True):
        size = np.mean(np.square(target[counted])) if np.any(counted) else 1.0
        total = hidden_state_loss(found, target, mask=counted) * np.float32(1 / max(size, 1e-12)) + total
    return total


def _middle_and_last(model, inputs):
    """The hidden states (B, T, C) after half of the layers, and the final hidden states."""
    stack, prefix = (model.decoder, "decoder.") if isinstance(model, EncoderDecoder) else (model, "")
    middle, seen = f"{prefix}hidden_states.{(len(stack.layers) + 1) // 2}", {}
    last = model.hidden_states(**inputs, observe=SelectiveObserver({middle}, seen.__setitem__))
    return seen[middle], last
