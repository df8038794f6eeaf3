"""The first tensor, or output of a layer, with nan or infinity is named."""

import numpy as np
import pytest

from tinyslm import load, save
from tinyslm.checkpoints import save_model
from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.errors import DataError, NumericOverflow
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape

SHAPE = llama_shape(31, 16, 24, 2, 4, 2, 64)
DAMAGED = r"^the tensor {} holds nan or infinity, so the model cannot be used; use an undamaged checkpoint$"


def damaged(value=np.nan):
    """A model with one number that is not finite, in a tensor of the file that has another name than the path."""
    model = random_model(SHAPE, seed=1)
    model.layers[1].feed_forward.down.weight[3, 2] = value
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_is_named_as_in_the_file(value):
    expected = DAMAGED.format("model.layers.1.mlp.down_proj.weight")
    with pytest.raises(DataError, match=expected):
        raise DataError(describe_not_finite(damaged(value)))


def test_of_several_tensors_the_first_is_named():
    model = damaged()
    model.layers[0].feed_forward_norm.weight[0] = np.inf
    model.norm.weight[0] = np.nan
    assert "model.layers.0.post_attention_layernorm.weight" in describe_not_finite(model)


@pytest.mark.parametrize("stored", [np.nan, np.inf])
def test_a_mapped_weight_is_named_by_its_path(tmp_path, stored):
    save(tmp_path / "model", damaged(stored))
    model, _ = load(tmp_path / "model", "mapped")
    assert "the tensor layers.1.feed_forward.down.weight holds" in describe_not_finite(model)


def test_a_bfloat16_file(tmp_path):
    save_model(tmp_path / "model", damaged(), dtype="bfloat16")
    model, _ = load(tmp_path / "model", "mapped")
    assert "the tensor layers.1.feed_forward.down.weight holds" in describe_not_finite(model)


def test_a_layer_output_is_named_if_the_weights_are_finite():
    """A product that is too large for float32."""
    model = random_model(SHAPE, seed=1)
    model.layers[1].feed_forward.down.weight[:] = 3e38
    with np.errstate(all="ignore"):
        found = describe_not_finite(model, [[1, 2, 3]])
    assert found.startswith("the output layers.1.feed_forward.output of the model holds nan or infinity for this text")


def test_an_overflow_names_the_tensor_only_if_one_is_not_finite():
    message = DAMAGED.format("model.layers.1.mlp.down_proj.weight")
    with pytest.raises(DataError, match=message), overflow_names_tensor(damaged(np.inf)):
        raise NumericOverflow("too large")
    with pytest.raises(NumericOverflow, match=r"^too large$"), overflow_names_tensor(random_model(SHAPE)):
        raise NumericOverflow("too large")
    with overflow_names_tensor(damaged()):
        pass
