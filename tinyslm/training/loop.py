"""Training loop: gradients of micro-batches on several threads, one step of the optimizer per batch.

The order of the data depends only on the seed and the step, and gradients are added in a fixed order. Hence the same
seed and number of threads give the same bits, and an interrupted and resumed run ends with the same bits as an
uninterrupted one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tinyslm.autodiff import value_and_grad
from tinyslm.errors import ConfigError, Error, NumericOverflow
from tinyslm.models import next_token_loss
from tinyslm.ops import IGNORED
from tinyslm.parallel import map_in_threads
from tinyslm.runtime import default_threads, release_freed_memory, single_threaded_blas, use_threads
from tinyslm.training.adamw import AdamW, clip_by_global_norm
from tinyslm.training.muon import Muon
from tinyslm.training.schedule import SCHEDULES
from tinyslm.training.validation import Curve
from tinyslm.tree import Array, Module, map_arrays, named_parameters

OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


class StopTraining(Exception):
    """Raised by `after_step`: the training ends after this step."""


@dataclass(frozen=True)
class Settings:
    """Training settings. Rates are per step. Sizes are in rows of the training data: documents, or packed rows.

    Raises ConfigError for an unknown optimizer or schedule.
    """

    steps: int
    batch_size: int = 40
    micro_batch_size: int = 5  # rows per gradient: small enough that activations stay in cache
    learning_rate: float = 1e-3  # peak
    warmup_steps: int = 50
    schedule: str = "cosine"  # of the learning rate: a key of SCHEDULES
    final_rate: float = 0.05  # last learning rate as a fraction of the peak
    weight_decay: float = 0.1
    gradient_limit: float = 1.0  # on the global norm
    seed: int = 0
    threads: int = field(default_factory=default_threads)
    optimizer: str = "adamw"  # a key of OPTIMIZERS

    def __post_init__(self):
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")


@dataclass
class State:
    """Training state after `step` steps. It owns the arrays of the model, which each step changes in place."""

    model: Module
    optimizer: AdamW | Muon
    step: int = 0
    losses: list[float] = field(default_factory=list)  # loss of each step: nats per token, or the sum of its parts
    seconds: float = 0.0
    validation: Curve = field(default_factory=list)  # points that `after_step` appends

    @classmethod
    def start(cls, model: Module, settings: Settings) -> "State":
        """State at step 0, with a copy of the model. No array may occur twice in the model."""
        model = map_arrays(lambda path, array: np.array(array), model)
        optimizer = OPTIMIZERS[settings.optimizer]
        return cls(model, optimizer(named_parameters(model), weight_decay=settings.weight_decay))


def batch_rows(step: int, count: int, settings: Settings) -> Array:
    """Row indices (batch_size,) of the batch of a step: each of `count` rows once per epoch, in random order."""
    positions = np.arange(step * settings.batch_size, (step + 1) * settings.batch_size)
    epochs, ranks = np.divmod(positions, count)
    orders = {epoch: np.random.default_rng([settings.seed, epoch]).permutation(count) for epoch in np.unique(epochs)}
    return np.array([orders[epoch][rank] for epoch, rank in zip(epochs, ranks, strict=True)])


def count_next_tokens(token_ids: Array, labels: Array) -> int:
    """Number of tokens that a decoder predicts: in each row, all labels but the first."""
    return int(np.count_nonzero(labels[:, 1:] != IGNORED))


def count_selections(token_ids: Array, labels: Array) -> list[int]:
    """`count_next_tokens` of each selection of tokens, for `next_token_losses`. labels: (B, T, P)."""
    return [count_next_tokens(token_ids, labels[..., part]) for part in range(labels.shape[2])]


def batch_gradients(
    loss_function,
    model: Module,
    token_ids: Array,
    labels: Array,
    settings: Settings,
    count_predicted=count_next_tokens,
) -> tuple[float, dict[str, Array]]:
    """Loss of a batch and its gradients {path: array}, from micro-batches that are distributed over threads.

    Rows of similar length form a micro-batch, and the padding that all of them share is cut off. The weight of a
    micro-batch is its number of predicted tokens, count_predicted(token_ids, labels), so that the sum is the mean over
    the tokens of the batch. A loss can have several parts that are means over different things, such as tokens and
    pairs of tokens: then loss_function returns a list of means, and count_predicted a list of as many counts.

    Thread i computes the i-th shortest and the i-th longest micro-batch of every 2 * threads and adds them in that
    order. Then the sums of the threads are added in the order of the threads.
    """
    is_predicted = np.any(labels.reshape(*token_ids.shape, -1) != IGNORED, axis=-1)  # (B, T)
    lengths = np.max(is_predicted * np.arange(1, token_ids.shape[1] + 1), axis=1)  # (B,) without right padding
    order = np.argsort(lengths, kind="stable")
    size = settings.micro_batch_size
    shards = []  # token_ids and labels of each micro-batch
    for rows in (order[i : i + size] for i in range(0, len(order), size)):
        longest = max(lengths[rows].max(), 1)
        shards.append((token_ids[rows, :longest], labels[rows, :longest]))
    counts = [np.atleast_1d(count_predicted(*shard)) for shard in shards]  # one count per part of the loss
    totals = np.maximum(np.sum(counts, axis=0), 1)
    weighted_shards = [(*shard, count / totals) for shard, count in zip(shards, counts, strict=True)]

    def weighted_loss(model, token_ids, labels, shares):
        parts = loss_function(model, token_ids, labels)
        parts = parts if isinstance(parts, list) else [parts]
        # a plain float takes the dtype of the part
        return sum(part * float(share) for part, share in zip(parts, shares, strict=True))

    differentiate = value_and_grad(weighted_loss)

    def run_thread(thread):
        first, last = thread, 2 * settings.threads - 1 - thread
        own = weighted_shards[first :: 2 * settings.threads] + weighted_shards[last :: 2 * settings.threads]
        return _sum_in_order(differentiate(model, *shard) for shard in own)

    return _sum_in_order(map_in_threads(run_thread, range(min(settings.threads, len(shards))), settings.threads))


def _sum_in_order(results):
    """Sum of the losses and sum of the gradients {path: array} of an iterable of (loss, gradients)."""
    total_loss, total = 0.0, {}
    for loss, gradients in results:
        total_loss += float(loss)
        for path, gradient in named_parameters(gradients).items():
            total[path] = total[path] + gradient if path in total else gradient
    return total_loss, total


def train(
    state: State,
    token_ids: Array,
    labels: Array,
    settings: Settings,
    *,
    loss_function: Callable = next_token_loss,
    count_predicted: Callable = count_next_tokens,
    after_step: Callable | None = None,
) -> State:
    """Train until `settings.steps`; changes and returns the state.

    token_ids: (N, T) rows as `document_rows` makes them; labels: (N, T), or (N, T, P) for a loss of P selections.
    loss_function(model, token_ids, labels) -> mean loss per predicted token; count_predicted(token_ids, labels) is the
    number of predicted tokens. Both can have several parts, see `batch_gradients`. after_step(state) is called after
    every step, for progress, checkpoints and stopping early (by StopTraining). Raises Error if numbers overflow: the
    training diverged. The state is that of the last complete step, unless the optimizer itself overflowed, which needs
    a very large gradient_limit.
    """
    while state.step < settings.steps:
        try:
            began = time.perf_counter()
            rows = batch_rows(state.step, len(token_ids), settings)
            batch = token_ids[rows], labels[rows]
            loss, gradients = batch_gradients(loss_function, state.model, *batch, settings, count_predicted)
            with single_threaded_blas:  # the sums of a norm depend on the number of BLAS threads
                norm = clip_by_global_norm(gradients, settings.gradient_limit)
            if not math.isfinite(norm):
                raise NumericOverflow(f"loss {loss:.4g}")
            rate = SCHEDULES[settings.schedule](state.step, settings.steps, settings.warmup_steps, settings.final_rate)
            with use_threads(settings.threads):
                state.optimizer.step(gradients, settings.learning_rate * rate)
            state.losses.append(loss)
            state.step += 1
            state.seconds += time.perf_counter() - began
            if after_step is not None:
                after_step(state)
        except StopTraining:
            break
        except NumericOverflow as problem:
            raise Error(f"training diverged at step {state.step} ({problem}); use a lower learning rate") from problem
    release_freed_memory()
    return state
