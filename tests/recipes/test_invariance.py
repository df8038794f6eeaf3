"""What a technique is blind to. The same function can be written with other arrays: neurons in another order, features
of another size, another basis of the residual stream. Some techniques then give the same compressed function; those
that look at weights alone do not, and their failure here documents a weakness."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests import transforms
from tests.recipes.families import calibrated
from tests.strategies import generic_model, seeds
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.recipes import (
    DropLayers,
    Factorize,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    Quantize,
    SliceChannels,
    SliceNeurons,
    compress,
)

CONFIG = llama_shape(31, 16, 14, 2, 4, 2, max_position_embeddings=40)
TRANSFORMS = {
    "permuted neurons": transforms.permute_neurons,
    "permuted heads": transforms.permute_heads,
    "rescaled neurons": transforms.rescale_neurons,
    "rescaled values": transforms.rescale_values,
    "rescaled queries": transforms.rescale_queries,
    "unfolded gains": transforms.unfold_gains,
    "outliers": lambda model, rng: transforms.inject_outliers(model, [1, 7], 30.0),
    "rotated": transforms.rotate,
}
STEPS = {
    "magnitude": PruneMagnitude(0.4),
    "Wanda": PruneWanda(0.4),
    "SparseGPT": PruneSparseGPT(0.4, damping=1e-9),
    "neurons by L2 norm": SliceNeurons(0.5, "magnitude"),
    "neurons by peak to peak": SliceNeurons(0.5, "peak_to_peak"),
    "neurons by Taylor": SliceNeurons(0.5, "taylor_vector"),
    "neurons by activation": SliceNeurons(0.5, "activation"),
    "neurons by Minitron": SliceNeurons(0.5, "minitron"),
    "channels by Taylor": SliceChannels(0.5, "taylor_vector"),
    "layers by influence": DropLayers(1),
    "SVD": Factorize(0.6),
    "activation-weighted SVD": Factorize(0.6, "activation"),
    "whitened SVD": Factorize(0.6, "whitened"),
    "round to nearest": Quantize(),
}
BLIND = [
    ("Wanda", "permuted neurons"),
    ("Wanda", "permuted heads"),
    ("Wanda", "rescaled neurons"),
    ("Wanda", "rescaled values"),
    ("Wanda", "unfolded gains"),
    ("Wanda", "outliers"),
    ("Wanda", "rescaled queries"),
    ("SparseGPT", "unfolded gains"),
    ("SparseGPT", "outliers"),
    ("neurons by Taylor", "permuted neurons"),
    ("neurons by Taylor", "rescaled neurons"),
    ("neurons by Taylor", "rescaled values"),
    ("neurons by Taylor", "unfolded gains"),
    ("neurons by Taylor", "outliers"),
    ("neurons by activation", "rescaled neurons"),
    ("neurons by Minitron", "permuted neurons"),
    ("neurons by Minitron", "rescaled values"),
    ("neurons by Minitron", "unfolded gains"),
    ("neurons by Minitron", "rotated"),
    ("channels by Taylor", "permuted neurons"),
    ("channels by Taylor", "rescaled neurons"),
    ("channels by Taylor", "rescaled queries"),
    ("channels by Taylor", "unfolded gains"),
    ("layers by influence", "rescaled neurons"),
    ("layers by influence", "unfolded gains"),
    ("layers by influence", "rotated"),
    ("whitened SVD", "permuted neurons"),
    ("whitened SVD", "unfolded gains"),
    ("whitened SVD", "outliers"),
    ("whitened SVD", "rotated"),
    ("SVD", "permuted neurons"),
    ("SVD", "rotated"),
    ("magnitude", "permuted neurons"),
    ("round to nearest", "permuted neurons"),
]
NOT_BLIND = [
    ("magnitude", "unfolded gains"),
    ("magnitude", "outliers"),
    ("magnitude", "rescaled neurons"),
    ("magnitude", "rescaled queries"),
    ("magnitude", "rotated"),
    ("Wanda", "rotated"),
    ("neurons by L2 norm", "rescaled neurons"),
    ("neurons by peak to peak", "rescaled neurons"),
    ("neurons by Minitron", "rescaled neurons"),
    ("SparseGPT", "rescaled values"),
    ("SVD", "unfolded gains"),
    ("SVD", "outliers"),
    ("SVD", "rescaled neurons"),
    ("whitened SVD", "rescaled queries"),
    ("round to nearest", "unfolded gains"),
    ("round to nearest", "outliers"),
    ("round to nearest", "rotated"),
]


def change_by_transform(step, transform, seed):
    """(how much the compressed function changes with the arrays, how much compressing changes it), relative."""
    model = transforms.fold_gains(generic_model(CONFIG, seed))
    other = TRANSFORMS[transform](model, np.random.default_rng(seed))
    token_ids = np.random.default_rng(seed).integers(0, 31, (3, 9))
    found = []
    for each in (model, other):
        smaller, _ = compress(each, [STEPS[step]], calibrated(each, count=10))
        found.append(smaller(token_ids))
    dense = model(token_ids)
    np.testing.assert_allclose(other(token_ids), dense, rtol=1e-7, atol=1e-9)
    size = np.linalg.norm(dense)
    return np.linalg.norm(found[0] - found[1]) / size, np.linalg.norm(found[0] - dense) / size


@pytest.mark.parametrize("step, transform", BLIND)
@settings(max_examples=5)
@given(seeds)
def test_some_techniques_do_not_feel_how_the_function_is_written(step, transform, seed):
    change, error = change_by_transform(step, transform, seed)
    assert change < 1e-5 and error > 1e-4


@pytest.mark.parametrize("step, transform", NOT_BLIND)
@settings(max_examples=5)
@given(seeds)
def test_techniques_that_look_at_weights_alone_do(step, transform, seed):
    change, error = change_by_transform(step, transform, seed)
    assert change > 1e-4 and error > 1e-4
