"""A model is a tree of arrays: walking it, rebuilding it, and what counts as trainable."""

from typing import Any

import numpy as np
from hypothesis import given

from tests.strategies import decoder_configs, generic_model
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import (
    Array,
    Module,
    constant,
    map_arrays,
    map_modules,
    map_parameters,
    named_arrays,
    named_modules,
    named_parameters,
)


class Masked(Module):
    weight: Array
    mask: Array = constant()
    codes: Array | None = None
    name: str = "plain"


class Tree(Module):
    first: Masked
    many: list[Any]
    by_name: dict[str, Any]
    pair: tuple[Any, ...] = (1, 2)


def example():
    return Tree(
        first=Masked(np.ones((2, 3)), mask=np.zeros((2, 3)), codes=np.ones(4, np.int8)),
        many=[Linear(np.ones((3, 2))), [Masked(np.ones(1), mask=np.ones(1))]],
        by_name={"a": np.arange(3.0), "b": None},
    )


def test_paths_follow_the_fields_in_order():
    assert list(named_arrays(example())) == [
        "first.weight",
        "first.mask",
        "first.codes",
        "many.0.weight",
        "many.1.0.weight",
        "many.1.0.mask",
        "by_name.a",
    ]


def test_trainable_is_floating_point_and_not_constant():
    """Masks are declared constant, codes are integers."""
    assert list(named_parameters(example())) == ["first.weight", "many.0.weight", "many.1.0.weight", "by_name.a"]


def test_everything_below_a_constant_field_is_constant():
    class Holder(Module):
        inner: Linear = constant()

    assert named_parameters(Holder(Linear(np.ones((2, 2)), np.ones(2)))) == {}


def test_map_arrays_rebuilds_and_leaves_the_original():
    tree = example()
    doubled = map_arrays(lambda path, array: array * 2, tree)
    np.testing.assert_array_equal(doubled.by_name["a"], [0, 2, 4])
    np.testing.assert_array_equal(tree.by_name["a"], [0, 1, 2])
    assert isinstance(doubled, Tree)
    assert isinstance(doubled.many[1], list)
    assert (doubled.pair, doubled.by_name["b"], doubled.first.name) == ((1, 2), None, "plain")


def test_map_parameters_has_another_answer_for_the_rest():
    tree = map_parameters(lambda path, array: path, example(), otherwise=lambda path, array: None)
    assert (tree.first.weight, tree.first.mask, tree.first.codes) == ("first.weight", None, None)


def test_map_modules_exchanges_one_kind_and_shares_the_rest():
    """What compression does: a leaf in place of every Linear, with its path."""
    tree = example()
    seen = []

    def exchange(path, module):
        seen.append(path)
        return Embedding(module.weight)

    changed = map_modules(exchange, tree, Linear)
    assert seen == ["many.0"]
    assert isinstance(changed.many[0], Embedding)
    assert isinstance(tree.many[0], Linear)
    assert changed.first.weight is tree.first.weight


def test_named_modules_lists_parents_before_children():
    assert list(named_modules(example())) == ["", "first", "many.0", "many.1.0"]
    assert list(named_modules(example(), Linear)) == ["many.0"]


def test_replace_makes_a_copy_and_modules_are_compared_by_identity():
    layer = Linear(np.ones((2, 3)))
    other = layer.replace(bias=np.ones(2))
    assert layer.bias is None
    assert other.weight is layer.weight
    assert layer != Linear(layer.weight)


def test_repr_shows_shapes_and_not_numbers():
    """A whole model in a debugger stays readable."""
    assert repr(Linear(np.ones((3, 2), np.float32))) == "Linear(weight=float32[3, 2], bias=None)"
    assert "many=[2 x Linear]" in repr(example())


@given(decoder_configs())
def test_models_are_rebuilt_as_they_were(config):
    """Mapping with the identity gives the same arrays under the same paths, in a model that computes the same."""
    model = generic_model(config)
    copy = map_arrays(lambda path, array: array, model)
    before, after = named_arrays(model), named_arrays(copy)
    assert list(before) == list(after)
    assert all(before[path] is after[path] for path in before)
    assert copy is not model
    np.testing.assert_array_equal(copy(np.array([[1, 2, 3]])), model(np.array([[1, 2, 3]])))
