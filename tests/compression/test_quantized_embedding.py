"""The 8-bit embedding: lookup in a rounded table, and the same table as the output head."""

import numpy as np
from hypothesis import given

from tests.strategies import generators
from tinyslm.autodiff import differentiable, value_and_grad
from tinyslm.compression.quantization import QuantizedEmbedding
from tinyslm.modules import Embedding


@given(generators())
def test_lookup_and_head_use_one_rounded_table(rng):
    embedding = Embedding(rng.standard_normal((11, 6)).astype(np.float32))
    quantized = QuantizedEmbedding.from_embedding(embedding)
    assert quantized.codes.dtype == np.int8 and quantized.scale.shape == (11, 1)
    token_ids = rng.integers(0, 11, (2, 5))
    np.testing.assert_array_equal(quantized(token_ids), quantized.table[token_ids])
    x = rng.standard_normal((2, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(quantized.as_head(x), x @ quantized.table.T, rtol=1e-5, atol=1e-5)
    assert quantized(token_ids).dtype == quantized.as_head(x).dtype == np.float32


@given(generators())
def test_every_number_is_within_half_a_step(rng):
    """A token with small numbers keeps its precision beside one with large numbers."""
    table = rng.standard_normal((7, 5)) * np.logspace(-3, 3, 7)[:, None]
    quantized = QuantizedEmbedding.from_embedding(Embedding(table))
    assert np.all(np.abs(quantized.table - table) <= 0.5000001 * quantized.scale)
    np.testing.assert_allclose(quantized.scale[:, 0], np.abs(table).max(axis=1) / 127)


def test_the_gradient_passes_through_the_head_and_the_codes_are_not_trained():
    rng = np.random.default_rng(0)
    quantized = QuantizedEmbedding.from_embedding(Embedding(rng.standard_normal((11, 6))))
    direction = rng.standard_normal((3, 11))

    @differentiable
    def project(logits):
        return np.sum(logits * direction), lambda dloss: (dloss * direction,)

    inputs = {"x": rng.standard_normal((3, 6)), "head": quantized}
    _, gradients = value_and_grad(lambda inputs: project(inputs["head"].as_head(inputs["x"])))(inputs)
    np.testing.assert_allclose(gradients["x"], direction @ quantized.table)
    assert gradients["head"].codes is None and gradients["head"].scale is None
