"""Cases of the modules that compute on real numbers, of the optimizer and schedule, and of sampling."""

import numpy as np

from tests.numeric_policy.case import Case, call_of
from tinyslm.generation import next_token_probabilities, sample
from tinyslm.modules import Embedding, LayerNorm, Linear, RMSNorm
from tinyslm.training import AdamW, Muon, warmup_cosine
from tinyslm.training.adamw import adamw_update, clip_by_global_norm
from tinyslm.training.muon import muon_update, orthogonalized

C = 5


def layer_case(make):
    """The call of a module on random inputs."""

    def arguments(rng):
        return {"layer": make(rng), "x": rng.standard_normal((2, C))}

    return Case(call_of(make), arguments)


def moments(rng):
    names = ("parameter", "gradient", "first_moment")
    arrays = dict(zip(names, rng.standard_normal((3, 4, C)), strict=True))
    return arrays | {"second_moment": rng.random((4, C)), "step": 3, "learning_rate": 0.1}


def optimized_by(kind):
    """A function (parameters, gradients) -> parameters after two steps, which change copies of them in place."""

    def optimized(parameters, gradients):
        copies = {path: array.copy() for path, array in parameters.items()}
        optimizer = kind(copies)
        for _ in range(2):
            optimizer.step(gradients, 0.1)
        return copies

    return optimized


def momentum(rng):
    names = ("parameter", "gradient", "momentum")
    return dict(zip(names, rng.standard_normal((3, 4, C)), strict=True)) | {"learning_rate": 0.1}


def clipped(gradients, limit):
    copies = {path: array.copy() for path, array in gradients.items()}
    return clip_by_global_norm(copies, limit), copies


def arrays(rng):
    return {"a": rng.standard_normal((4, C)), "b": rng.standard_normal(7)}


LAYERS = {
    "Linear": layer_case(lambda rng: Linear(rng.standard_normal((4, C)), rng.standard_normal(4))),
    "RMSNorm": layer_case(lambda rng: RMSNorm(rng.standard_normal(C))),
    "LayerNorm": layer_case(lambda rng: LayerNorm(rng.standard_normal(C), rng.standard_normal(C))),
    "Embedding": Case(
        lambda layer, token_ids: layer(token_ids),
        lambda rng: {"layer": Embedding(rng.standard_normal((4, C))), "token_ids": np.array([[0, 3, 1], [2, 3, 0]])},
    ),
}
TRAINING = {
    "adamw_update": Case(adamw_update, moments),
    "muon_update": Case(muon_update, momentum),
    "orthogonalized": Case(orthogonalized, lambda rng: {"matrix": rng.standard_normal((4, C))}),
    "Muon": Case(optimized_by(Muon), lambda rng: {"parameters": arrays(rng), "gradients": arrays(rng)}),
    "AdamW": Case(optimized_by(AdamW), lambda rng: {"parameters": arrays(rng), "gradients": arrays(rng)}),
    "clip_by_global_norm": Case(
        clipped, lambda rng: {"gradients": arrays(rng), "limit": 1.0}, view=lambda result: result[1]
    ),
    "warmup_cosine": Case(warmup_cosine, lambda rng: {"step": 3, "steps": 9, "warmup_steps": 2}),
}
GENERATION = {
    "next_token_probabilities": Case(
        next_token_probabilities,
        lambda rng: {"logits": rng.standard_normal((3, 7)), "temperature": 0.7, "top_k": 5, "top_p": 0.9},
        integers=np.float64,
        result=np.float64,
    ),
    "sample": Case(
        lambda logits, seed: sample(logits, np.random.default_rng(seed), 0.7, top_k=5),
        lambda rng: {"logits": rng.standard_normal((3, 7)), "seed": 1},
        integers=np.float64,
    ),
    "sample, greedy": Case(
        lambda logits: sample(logits, np.random.default_rng(0), 0.0),
        lambda rng: {"logits": rng.standard_normal((3, 7))},
        integers=np.float64,
    ),
}
