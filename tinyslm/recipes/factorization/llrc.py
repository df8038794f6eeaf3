"""Ranks that are learned: which components of which layers a model can do without (LLRC)."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.argument_checks import require_ratio
from tinyslm.compression.distillation import hidden_state_loss
from tinyslm.compression.factorization import (
    LowRankLinear,
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
from tinyslm.errors import ConfigError
from tinyslm.models import EncoderDecoder
from tinyslm.modules import Linear
from tinyslm.ops import IGNORED
from tinyslm.recipes.factorization.components import model_components
from tinyslm.recipes.factorization.factorize import layer_shapes, parameter_budget
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.step import ignore_progress
from tinyslm.text.batches import document_rows
from tinyslm.training import AdamW, Settings
from tinyslm.training.loop import batch_gradients, batch_rows
from tinyslm.tree import map_modules, named_modules

TOLERANCE = 0.02  # of the budget: nearer to it the compression loss fades


@dataclass(frozen=True)
class LearnRanks:
    """Learn masks over the components of every linear layer in the blocks, then keep the fraction `ratio` of their
    parameters. No weight is trained: only one logit per component, on at most `documents` calibration documents.

    L = distillation + compression_weight * a_t * mean logit + variation_weight * sum over layers of the mask's total
    variation. The distillation loss is the squared error, relative to the teacher's, of the hidden states at the middle
    layer and before the head. a_t rises to 1 in the first half of every `period` of steps and stays there (cyclical
    annealing). Within TOLERANCE of the budget it fades, and below the budget it is negative, so that it holds the masks
    there while they go on learning (the authors set it to 0 and stop). At the end the logits are cut where the budget
    of parameters is; layers that would not become smaller stay dense.

    weighting: the norm whose components are masked, "whitened" or "activation" (the paper's), "fisher" or "none".
    components: "any" keeps those that were learned, "first" as many from the beginning.
    Source: Sundrani, Tudisco & Minervini 2025 (LLRC, arXiv 2512.13733); logits start from 6 to 3.
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

    def __call__(self, model, calibration=None, progress=ignore_progress):
        self._check()
        require_dense(model)
        progress("decomposing")
        components = model_components(model, calibration, self.weighting, self.statistics_documents)
        logits = self.learn(model, calibration, components, progress)
        masks = masks_within(logits, layer_shapes(components), parameter_budget(components, self.ratio))
        return with_masks(model, components, masks, self.components)

    def learn(self, model, calibration, components, progress) -> dict:
        """{path: logits (r,)} after all steps."""
        token_ids, labels = document_rows(calibration.documents[: self.documents], calibration.row_length)
        rng, shapes = np.random.default_rng(calibration.seed), layer_shapes(components)
        budget = parameter_budget(components, self.ratio)
        beyond_rank_one(shapes, budget)  # refuses a budget that cannot be met, before anything is learned
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

    def loss_function(self, calibration, strength):
        """loss(model, token_ids, labels): what the class describes, with `strength` = compression_weight * a_t."""
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
        if self.components not in ("any", "first"):
            raise ConfigError(f"components is {self.components!r}, expected 'any' or 'first'")
        for name in ("documents", "steps", "batch_size", "period"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected an integer of at least 1")


def annealing(step, period) -> float:
    """From 0 to 1 in the first half of each period, 1 in the second (Fu et al. 2019, cyclical annealing)."""
    return min(1.0, 2 * (step % period) / period)


def with_logits(model, components, temperature):
    """The model with a `MaskedRankLinear` in place of every layer that has components; logits from 6 down to 3."""

    def mask(path, linear):
        if path not in components:
            return linear
        dtype, size = linear.weight.dtype, len(components[path].singular_values)
        left, right = components[path].keep(slice(None), dtype)  # (out, r), (r, in)
        return MaskedRankLinear(
            logits=np.linspace(6, 3, size).astype(dtype),
            left=left,
            right=right,
            noise=np.zeros(size, dtype),
            temperature=temperature,
            bias=linear.bias,
        )

    return map_modules(mask, model, Linear)


def with_noise(model, rng):
    """The same masked model with new noise in every layer."""

    def renew(path, layer):
        return layer.replace(noise=logistic_noise(rng, layer.noise.shape).astype(layer.noise.dtype))

    return map_modules(renew, model, MaskedRankLinear)


def with_masks(model, components, masks, chosen="any"):
    """The model with only the components that the masks keep; a layer that would not become smaller stays dense."""

    def factorize(path, linear):
        if path not in masks:
            return linear
        count = np.count_nonzero(masks[path])
        if count * sum(linear.weight.shape) >= linear.weight.size:
            return linear
        mask = masks[path] if chosen == "any" else first_components(masks[path])
        return LowRankLinear(*components[path].keep(mask, linear.weight.dtype), linear.bias)

    return map_modules(factorize, model, Linear)


def state_loss(student, teacher, inputs, counted):
    """The squared error of hidden states relative to the teacher's, at the middle layer and at the end, added up.

    counted: (B, T), the positions that count. Of an encoder-decoder the states are the decoder's.
    """
    student_states, teacher_states = (_middle_and_last(model, inputs) for model in (student, teacher))
    total = 0
    for one, other in zip(student_states, teacher_states, strict=True):
        size = np.mean(np.square(other[counted])) if np.any(counted) else 1.0
        total = hidden_state_loss(one, other, mask=counted) * np.float32(1 / max(size, 1e-12)) + total
    return total


def _middle_and_last(model, inputs):
    """The hidden states (B, T, C) after half of the layers, and those that the head reads."""
    stack, prefix = (model.decoder, "decoder.") if isinstance(model, EncoderDecoder) else (model, "")
    middle, seen = f"{prefix}hidden_states.{(len(stack.layers) + 1) // 2}", {}

    def observe(name, value):
        if name == middle:
            seen[name] = value

    last = model.hidden_states(**inputs, observe=observe)
    return seen[middle], last
