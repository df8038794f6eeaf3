"""Arrays in temporary files: equal to those in memory, read-only, and of no name in the directory."""

import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.checkpoints.models import small_model
from tinyslm.checkpoints.temporary_arrays import empty_in_file, moved_to_file
from tinyslm.errors import Error
from tinyslm.modules import Linear
from tinyslm.tree import named_arrays

DTYPES = st.sampled_from([np.float32, np.float64, np.int8, np.uint8, np.bool_])


@given(st.lists(arrays(DTYPES, array_shapes(min_dims=0, max_dims=3, min_side=0)), max_size=4))
def test_moved_arrays_are_equal_and_read_only(values):
    module = {str(i): value for i, value in enumerate(values)}
    moved = moved_to_file(module)
    assert moved.keys() == module.keys()
    for name, value in module.items():
        np.testing.assert_array_equal(moved[name], value, strict=True)
        if any(array.nbytes for array in values):
            assert not moved[name].flags.writeable


def test_the_arrays_are_in_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = small_model("llama")
    moved = named_arrays(moved_to_file(model))
    assert all(not array.flags.owndata for array in moved.values())
    assert empty_in_file((3, 2), np.float32).tolist() == [[0, 0]] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_matrix_in_columns_is_stored_in_rows():
    weight = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    moved = moved_to_file(Linear(weight)).weight
    assert moved.flags.c_contiguous
    np.testing.assert_array_equal(moved, weight)


def test_a_directory_that_cannot_hold_the_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(Error, match=r"missing: cannot hold a temporary file \(No such file .*set TMPDIR"):
        moved_to_file(Linear(np.ones((2, 3))))
