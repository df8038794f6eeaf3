"""Initial weights that copy: what each head adds to the residual stream, and what stays as it was."""

import dataclasses

import numpy as np
import pytest

from tinyslm.errors import ConfigError
from tinyslm.models import random_model
from tinyslm.models.copying_start import with_copying_start
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.tree import named_arrays

V, C, F, LAYERS, H, G = 300, 48, 80, 3, 6, 2
D = C // H


def start(seed=0, dtype=np.float32, key_value_heads=G):
    """A random model, and the same with the copying start."""
    model = random_model(llama_shape(V, C, F, LAYERS, H, key_value_heads), seed, dtype)
    return model, with_copying_start(model)


@pytest.mark.parametrize("key_value_heads", [1, 2, 6])
def test_every_head_returns_a_multiple_of_what_it_reads(key_value_heads):
    """On the subspace of its values: the cosine of x and of what the head makes of it is near 1, at random near 0."""
    model, copying = start(key_value_heads=key_value_heads)
    for layers, nearest in ((model.layers, (-0.5, 0.5)), (copying.layers, (0.7, 1))):
        for layer in layers:
            attention = layer.attention
            values = attention.value.weight.reshape(-1, D, C)  # (G, D, C)
            outputs = attention.output.weight.reshape(C, H, D)
            for head in range(H):
                value = values[head * key_value_heads // H]
                x = value.T @ np.random.default_rng(head).standard_normal(D)  # (C,) in the subspace
                made = outputs[:, head] @ (value @ x)
                cosine = made @ x / np.linalg.norm(made) / np.linalg.norm(x)
                assert nearest[0] < cosine < nearest[1]


def test_a_token_seen_before_gets_a_higher_logit():
    """Before any training: the tokens of the context, against all others."""
    rng = np.random.default_rng(3)
    for key_value_heads in (2, 6):
        model, copying = start(key_value_heads=key_value_heads)
        token_ids = rng.choice(V, size=(20, 12), replace=True)
        leads = []
        for each in (model, copying):
            logits = each(token_ids)[:, -1]
            seen = np.zeros((20, V), bool)
            np.put_along_axis(seen, token_ids[:, :-1], True, axis=1)
            leads.append(logits[seen].mean() - logits[~seen].mean())
        assert leads[1] > leads[0] + 0.3


def test_scales_of_embedding_logits_and_projections():
    model, copying = start()
    assert np.std(copying.embedding.table) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(copying.norm.weight, C**-0.5, rtol=1e-6)
    logits = copying(np.random.default_rng(0).integers(0, V, (4, 20)))
    others = np.array(logits)
    assert 0.7 < np.std(others) < 1.5
    for before, after in zip(model.layers, copying.layers, strict=True):
        ratio = np.std(after.attention.output.weight) / np.std(before.attention.output.weight)
        assert ratio == pytest.approx(1, abs=0.05)


def test_all_other_arrays_stay_and_the_model_is_not_changed():
    model, copying = start(seed=5)
    again = random_model(llama_shape(V, C, F, LAYERS, H, G), 5)
    before, after = named_arrays(model), named_arrays(copying)
    assert before.keys() == after.keys()
    for path, array in before.items():
        np.testing.assert_array_equal(array, named_arrays(again)[path])
        changed = path in ("embedding.table", "norm.weight") or path.endswith("attention.output.weight")
        assert np.array_equal(array, after[path]) != changed
        assert after[path].dtype == array.dtype and after[path].shape == array.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype):
    _, copying = start(dtype=dtype)
    assert {array.dtype for array in named_arrays(copying).values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("changes", [{"tie_word_embeddings": False}, {"embedding_scale": 3.0}])
def test_models_whose_logits_would_change_are_refused(changes):
    config = dataclasses.replace(llama_shape(V, C, F, LAYERS, H, G), **changes)
    with pytest.raises(ConfigError, match="the copying start needs a tied head, and an embedding that is not scaled"):
        with_copying_start(random_model(config))
