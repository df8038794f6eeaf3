"""A model is a tree of arrays: walking it, rebuilding it, and what counts as trainable."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import decoder_configs, generic_model
from tinyslm.autodiff import Traced
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import (
    Array,
    Module,
    constant,
    is_array,
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
    text = repr(example())
    assert "many=[2 x Linear]" in text and "pair=(1, 2)" in text
    assert "many=[]" in repr(example().replace(many=[]))


CONTAINERS = {
    "module": lambda child: Tree(first=child, many=[], by_name={}),
    "list": lambda child: [None, child],
    "tuple": lambda child: (child, "text"),
    "dict": lambda child: {3: child, "other": 1},
}
NAMES = {"module": "first", "list": "1", "tuple": "0", "dict": "3"}


@pytest.mark.parametrize("inner", CONTAINERS)
@pytest.mark.parametrize("outer", CONTAINERS)
def test_a_leaf_is_found_below_every_kind_of_node(outer, inner):
    """It is the only array, and the only module of its class, below two nodes with one child that is a node."""
    array = np.arange(3.0)
    path = f"{NAMES[outer]}.{NAMES[inner]}"
    tree = CONTAINERS[outer](CONTAINERS[inner](array))
    assert list(named_arrays(tree)) == list(named_parameters(tree)) == [path]
    assert named_arrays(map_arrays(lambda path, array: array + 1, tree))[path].tolist() == [1, 2, 3]
    tree = CONTAINERS[outer](CONTAINERS[inner](Linear(array)))
    assert named_modules(tree, Linear).keys() == {path}
    changed = map_modules(lambda path, module: (path, module.weight), tree, Linear)
    assert type(changed) is type(tree) and named_modules(changed, Linear) == {}
    assert named_arrays(changed) == {f"{path}.1": array}
    assert map_modules(lambda path, module: path, Linear(array), Linear) == ""


def test_nodes_without_arrays_or_modules_are_shared():
    tree = [(1, 2), {"a": None}, np.ones(1)]
    for copy in (map_arrays(lambda path, array: array, tree), map_modules(lambda path, module: None, [*tree, Linear])):
        assert copy[0] is tree[0] and copy[1] is tree[1] and copy[2] is tree[2]


def test_arrays_have_a_shape_and_a_dtype_and_are_no_scalars():
    """Traced values are arrays too. NumPy's scalars are settings."""
    assert is_array(np.ones(2)) and is_array(np.ones(())) and is_array(Traced(np.ones(2), []))
    for value in (np.float32(1), 1.0, SimpleNamespace(shape=(2,)), SimpleNamespace(dtype=np.dtype(float)), None, [1.0]):
        assert not is_array(value)
    assert list(named_arrays({"eps": np.float32(1), "weight": np.ones(1)})) == ["weight"]


def test_a_class_of_modules_has_no_options():
    with pytest.raises(TypeError, match="takes no keyword arguments"):

        class Frozen(Module, frozen=True):
            pass


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
