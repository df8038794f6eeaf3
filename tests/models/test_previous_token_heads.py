"""Initial weights with previous-token heads."""

from dataclasses import replace

import numpy as np
import pytest

from tinyslm.errors import ConfigError
from tinyslm.models import random_model, trace
from tinyslm.models.previous_token_heads import with_previous_token_heads
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.ops import Rope
from tinyslm.tree import named_parameters


def biased(*shape, **changes):
    return replace(llama_shape(301, *shape), attention_bias=True, **changes)


def tokens(seed, length):
    return np.random.default_rng(seed).integers(0, 301, (3, length))


@pytest.mark.parametrize("shape", [(192, 96, 3, 6, 3), (128, 96, 2, 4, 1), (256, 64, 1, 8, 8)])
@pytest.mark.parametrize("changes", [{}, {"ropes": 5e5}, {"attention_scale": 0.05}])
def test_heads_attend_1_to_4_tokens_back(shape, changes):
    if "ropes" in changes:
        D = shape[0] // shape[3]
        changes = {"ropes": (Rope(changes["ropes"], D),) * shape[2]}
    config = biased(*shape, **changes)
    model = with_previous_token_heads(random_model(config, seed=3))
    attentions = trace(model, tokens(1, 30))["attentions.0"]  # (B, H, T, T)
    assert attentions.shape[1] == shape[3]
    for head in range(shape[3]):
        offset = 1 + head % 4
        queries = np.arange(4, 30)
        weights = attentions[:, head, queries, queries - offset]  # (B, 26)
        assert np.mean(weights) > 0.5
        assert np.mean(attentions[:, head, 4:].argmax(-1) == queries - offset) > 0.9


def test_first_predictions_are_nearly_uniform():
    model = with_previous_token_heads(random_model(biased(192, 96, 3, 6, 3)))
    assert 0.2 < np.std(model(tokens(0, 20))) < 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_weights_and_the_model_itself_are_unchanged(dtype):
    before = random_model(biased(192, 96, 3, 6, 3), seed=5, dtype=dtype)
    copies = {path: array.copy() for path, array in named_parameters(before).items()}
    after = named_parameters(with_previous_token_heads(before))
    assert all(np.array_equal(array, copies[path]) for path, array in named_parameters(before).items())
    changed = {path: after[path] for path in copies if not np.array_equal(copies[path], after[path])}
    first = "layers.0.attention."
    assert changed.keys() == {"embedding.table", "norm.weight", first + "output.weight"} | {
        f"{first}{name}.{kind}" for name in ("query", "key") for kind in ("weight", "bias")
    }
    assert {array.dtype for array in after.values()} == {np.dtype(dtype)}
    for name, factor in (("query", 0.2), ("key", 0.2), ("output", 3.0)):
        path = f"{first}{name}.weight"
        np.testing.assert_allclose(after[path], factor * copies[path], rtol=1e-6)
    assert np.std(after["embedding.table"]) == pytest.approx(0.3, rel=1e-5)
    np.testing.assert_allclose(after["norm.weight"], 192**-0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tie_word_embeddings": False}, "a tied head"),
        ({"embedding_scale": 2.0}, "not scaled"),
        ({"ropes": (None,) * 3}, "RoPE of at least 10 dimensions"),
        ({"ropes": (Rope(1e4, 8),) * 3}, "RoPE of at least 10 dimensions"),
        ({"attention_bias": False}, "need biases"),
    ],
)
def test_models_without_what_the_heads_need_are_refused(changes, what):
    model = random_model(replace(biased(192, 96, 3, 6, 3), **changes))
    with pytest.raises(ConfigError, match=what):
        with_previous_token_heads(model)
