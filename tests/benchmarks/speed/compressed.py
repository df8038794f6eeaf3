"""Time of compressed layers and models, compared with the dense ones and with their number of multiply-adds."""

import numpy as np

from tests.benchmarks.speed.case import OURS, Case, timed
from tests.benchmarks.speed.shapes import random_tokens
from tinyslm.compression.pruning import CsrLinear
from tinyslm.compression.quantization import integer_matmul, quantize
from tinyslm.evaluation import footprint
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Linear
from tinyslm.recipes import Calibration, Factorize, SliceNeurons

IN, OUT, ROWS = 2048, 8192, 256  # a projection of the shape of Llama 3.2 1B, and a prompt
MATRICES = 24  # 1.6 GB of them


def random_weight():
    """(OUT, IN)."""
    return np.random.default_rng(0).standard_normal((OUT, IN), np.float32)


def exact_integers():
    """The product of a prompt's codes with a matrix of codes, and the same product in float32."""
    x = np.random.default_rng(1).standard_normal((ROWS, IN), np.float32)
    weight = random_weight()
    x_codes, w_codes = quantize(x).codes, quantize(weight).codes
    return {
        OURS: timed(lambda: integer_matmul(x_codes, w_codes)),
        "float32": timed(lambda: x @ weight.T),
    }


def sparse():
    """One token through matrices in CSR with a tenth of their weights, and through the dense ones. There are many
    matrices, as in a model, so that none of them stays in a cache."""
    weight = random_weight()
    weight[np.random.default_rng(1).random(weight.shape) < 0.9] = 0
    dense = [Linear(weight.copy()) for _ in range(MATRICES)]
    csr = [CsrLinear.from_linear(linear) for linear in dense]
    x = np.random.default_rng(2).standard_normal((1, IN), np.float32)
    np.testing.assert_allclose(csr[0](x), dense[0](x), atol=1e-3)

    def through(layers):
        return timed(lambda: [layer(x) for layer in layers], MATRICES)

    return {OURS: through(csr), "dense": through(dense)}


def smaller(step):
    """A prompt through a model after a step; the time of the dense model, multiplied by the ratio of multiply-adds."""

    def prepare():
        model = random_model(llama_shape(1536, 512, 2048, 4, 8, 4, max_position_embeddings=512))
        token_ids = random_tokens(model.config, 1, ROWS)
        small = step(model, Calibration(list(token_ids), model))
        share = footprint(small).multiply_adds / footprint(model).multiply_adds
        dense = timed(lambda: model(token_ids))
        return {OURS: timed(lambda: small(token_ids)), "multiply-adds": lambda: dense() * share}

    return prepare


CASES = [
    Case("integers", f"exact integer product, {ROWS} x {IN} x {OUT}", exact_integers, {"float32": (0.85, 1.0)}),
    Case("sparse", f"one token, {OUT} x {IN} in CSR, 90 % zeros", sparse, {"dense": (2, 4)}),
    Case(
        "sliced",
        "prompt of a model with half of its neurons",
        smaller(SliceNeurons(ratio=0.5)),
        {"multiply-adds": (0.8, 0.95)},
    ),
    Case(
        "low-rank",
        "prompt of a model factorized to half of its parameters",
        smaller(Factorize(0.5)),
        {"multiply-adds": (0.8, 0.95)},
    ),
]
