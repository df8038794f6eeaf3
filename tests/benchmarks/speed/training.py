"""Training: a whole step compared with PyTorch, and the growth of its time."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks.speed import torch_decoder
from tests.benchmarks.speed.case import OURS, Case, timed
from tests.benchmarks.speed.machine import product_limit, products
from tests.benchmarks.speed.peer import runners_of, start_peer, started
from tests.benchmarks.speed.shapes import config_of, random_tokens
from tinyslm.evaluation import footprint
from tinyslm.models import next_token_loss, random_model
from tinyslm.parallel import map_in_threads
from tinyslm.runtime import default_threads
from tinyslm.training.adamw import clip_by_global_norm
from tinyslm.training.loop import Settings, State, batch_gradients
from tinyslm.tree import named_arrays

LEARNING_RATE = 1e-3
BACKWARD = 3  # times the multiply-adds of the forward pass: its products, and two per product for the gradients


def training_step(model, token_ids, micro_batch_size):
    """A function that takes one step on a batch, as `tinyslm.training.train` does, and returns the loss before it."""
    settings = Settings(steps=1, batch_size=len(token_ids), micro_batch_size=micro_batch_size)
    state = State.start(model, settings)

    def step():
        loss, gradients = batch_gradients(next_token_loss, state.model, token_ids, token_ids, settings)
        clip_by_global_norm(gradients, settings.gradient_limit)
        state.optimizer.step(gradients, LEARNING_RATE)
        return loss

    return step


def for_torch(directory, model):
    """(path of the weights, shape) of a model, for `torch_decoder`."""
    config, path = model.config, Path(directory) / f"{footprint(model).parameters}.npz"
    np.savez(path, **named_arrays(model))
    shape = {
        "layers": config.num_hidden_layers,
        "head_dim": config.head_dim,
        "theta": config.ropes[0].theta,
        "norm_eps": config.norm_eps,
    }
    return path, shape


def runners(config, rows, length, micro_batch_size):
    """Our step; that of PyTorch, eager and compiled; the matrix products of the linear layers alone, on the same number
    of threads; the limit, which is all multiply-adds at the best speed."""
    model = random_model(config)
    token_ids = random_tokens(config, rows, length)
    step = training_step(model, token_ids, micro_batch_size)
    found, make = {OURS: timed(step)}, f"{torch_decoder.__name__}:training_step"
    with tempfile.TemporaryDirectory() as directory:
        arguments = *for_torch(directory, model), default_threads(), token_ids, None
        peers = {
            name: start_peer(torch_decoder.PACKAGES, make, *arguments, compiled)
            for name, compiled in (("PyTorch", False), ("torch.compile", True))
        }
    losses = [step() for _ in range(3)]
    for name, peer in started(peers).items():  # the same training has the same losses
        np.testing.assert_allclose([peer() for _ in range(3)], losses, rtol=1e-3, err_msg=name)
    multiply = products(model, *[micro_batch_size * length] * 2, backward=True)
    found |= runners_of(peers)
    found["products"] = timed(lambda: map_in_threads(lambda _: multiply(), range(rows // micro_batch_size)))
    return found | {"limit": product_limit(BACKWARD * rows * length * multiply_adds(model, length))}


def multiply_adds(model, length):
    """Per token of a sequence: those of the weights, and of the half of the scores that a causal mask keeps."""
    config = model.config
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * length
    return footprint(model).multiply_adds + attention


def growth(depth, batch):
    """Our step with `depth` times the layers and `batch` times the rows of the small model, and with its own."""

    def prepare():
        config, rows = config_of("1m"), 16
        layers = depth * config.num_hidden_layers
        ropes, windows = config.ropes[:1] * layers, (None,) * layers
        large = replace(config, num_hidden_layers=layers, ropes=ropes, windows=windows)
        return {
            OURS: timed(training_step(random_model(large), random_tokens(config, batch * rows, 128), 4)),
            "half": timed(training_step(random_model(config), random_tokens(config, rows, 128), 4)),
        }

    return prepare


def against_torch(size, rows, length, micro_batch_size, floor, aim):
    """The case of one model size and one batch size."""
    return Case(
        f"train-{size}" + ("-long" if length > 128 else ""),
        f"training step, {size[:-1]} M parameters, {rows} x {length} tokens",
        lambda: runners(config_of(size), rows, length, micro_batch_size),
        {"PyTorch": (floor, aim)},
    )


CASES = [
    against_torch("1m", 16, 128, 4, 1.10, 1.20),
    against_torch("4m", 16, 128, 4, 1.05, 1.15),
    against_torch("10m", 16, 128, 4, 1.05, 1.15),
    against_torch("1m", 32, 256, 4, 1.20, 1.45),
    against_torch("4m", 32, 256, 4, 1.15, 1.35),
    Case("train-depth", "training step, twice the layers", growth(2, 1), {"half": (2.1, 2.0)}, at_most=True),
    Case("train-batch", "training step, twice the batch", growth(1, 2), {"half": (2.1, 2.0)}, at_most=True),
]
