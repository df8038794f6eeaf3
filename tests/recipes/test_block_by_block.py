"""Block-by-block compression: equal to running the whole model for each block, at a cost proportional to the depth."""

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given

from tests.recipes.families import calibrated, drawn
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.errors import DataError
from tinyslm.models.layer_stacks import layer_stacks
from tinyslm.modules import Block, ParallelBlock, PostNormBlock
from tinyslm.recipes import PruneWanda, QuantizeGPTQ, block_by_block, compress
from tinyslm.recipes.block_by_block import compress_block_by_block, grams_by_block
from tinyslm.recipes.linear_layers import compressible_layers, paths_by_block, replace_layers
from tinyslm.recipes.statistics import gram, input_grams, input_statistics
from tinyslm.tree import named_arrays, named_modules


def rounded(layer, products, tokens):
    """A layer that depends on every number of its statistic, and on the number of tokens."""
    scales = 1 + np.diag(products) / (1 + np.trace(products)) + 0.01 * tokens
    return layer.replace(weight=np.round(layer.weight * scales.astype(layer.weight.dtype), 1))


def with_a_whole_pass_for_each_block(model, tasks, statistic, compress_layer):
    """The definition: all documents pass through the whole model again for each block."""
    for paths in paths_by_block(model).values():
        layers, found = named_modules(model), input_statistics(model, tasks, statistic, paths=paths)
        model = replace_layers(model, {path: compress_layer(layers[path], *found[path]) for path in paths})
    return model


def assert_same_arrays(model, other):
    arrays, others = named_arrays(model), named_arrays(other)
    assert arrays.keys() == others.keys()
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, others[path], err_msg=path)


@given(drawn())
def test_the_states_between_blocks_are_those_of_whole_passes(case):
    model = case.model()
    before = {path: array.copy() for path, array in named_arrays(model).items()}
    tasks, seen = calibrated(model).sample(), []
    walked = compress_block_by_block(model, tasks, gram, rounded, seen.append)
    assert_same_arrays(walked, with_a_whole_pass_for_each_block(model, tasks, gram, rounded))
    assert seen == list(paths_by_block(model))
    assert all(np.array_equal(array, before[path]) for path, array in named_arrays(model).items())


@given(drawn())
def test_the_products_of_each_block_are_those_of_whole_passes(case):
    model = case.model()
    tasks, paths = calibrated(model).sample(), list(compressible_layers(model))[1:]
    blocks = list(grams_by_block(model, tasks, paths))
    assert [list(found) for found in blocks if found] == [
        [path for path in block if path in paths] for block in paths_by_block(model).values()
    ]
    expected = input_grams(model, tasks, paths)
    for path, products in (item for found in blocks for item in found.items()):
        np.testing.assert_array_equal(products, expected[path][0], strict=True)


@given(drawn())
def test_no_block_is_computed_more_than_twice_for_a_document(case):
    model = case.model()
    tasks, calls = calibrated(model).sample(), Counter()

    def counted(kind):
        compute = kind.__call__

        def call(block, x, context):
            calls[context.stack, context.layer] += 1
            return compute(block, x, context)

        return mock.patch.object(kind, "__call__", call)

    with counted(Block), counted(ParallelBlock), counted(PostNormBlock):
        compress_block_by_block(model, tasks, gram, rounded, lambda path: None)
    assert len(calls) == sum(len(stack.layers) for stack in layer_stacks(model).values())
    assert max(calls.values()) <= 2 * len(tasks)


@pytest.mark.parametrize("step", [QuantizeGPTQ(bits=4), PruneWanda(0.5)])
def test_hidden_states_in_a_temporary_file_are_those_in_memory(step, monkeypatch):
    model = tiny_model()
    calibration = tiny_calibration(model)
    in_memory = compress(model, [step], calibration)[0]
    monkeypatch.setattr(block_by_block, "STATES_IN_MEMORY", 0)
    with mock.patch.object(block_by_block, "empty_in_file", wraps=block_by_block.empty_in_file) as file:
        assert_same_arrays(compress(model, [step], calibration)[0], in_memory)
    assert file.called


def test_statistics_without_documents_are_refused():
    with pytest.raises(DataError, match="at least one document"):
        compress_block_by_block(tiny_model(), [], gram, rounded, lambda path: None)
