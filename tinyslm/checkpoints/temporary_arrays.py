"""Arrays in temporary files, for results that are larger than the memory.

A temporary file has no name, and the system removes it when its last array is freed. It is in the directory that
`tempfile.gettempdir()` returns, which the environment variable TMPDIR sets.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from tinyslm.errors import Error
from tinyslm.tree import Array, Module, map_arrays, named_arrays

ALIGNMENT = 64  # bytes: every array begins at a multiple, the length of a cache line


def empty_in_file(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A writable array of zeros in a temporary file. It must have at least one number."""
    with _temporary_file() as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))


def moved_to_file(module: Module) -> Module:
    """The module with its arrays in a temporary file, read-only. They need memory only where they are read.

    Raises Error if the file cannot be written.
    """
    arrays = {path: np.asarray(array, order="C") for path, array in named_arrays(module).items()}
    if not any(array.nbytes for array in arrays.values()):
        return module
    begins = {}
    with _temporary_file() as file:
        for path, array in arrays.items():
            begins[path] = file.seek(-(-file.tell() // ALIGNMENT) * ALIGNMENT)
            file.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        content = np.asarray(np.memmap(file, np.uint8, "r"))

    def moved(path, array):
        array = arrays[path]
        return content[begins[path] : begins[path] + array.nbytes].view(array.dtype).reshape(array.shape)

    return map_arrays(moved, module)


@contextmanager
def _temporary_file() -> Iterator[IO[bytes]]:
    """A temporary file. Raises Error in place of an OSError."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as problem:
        raise Error(
            f"{tempfile.gettempdir()}: cannot hold a temporary file ({problem.strerror}): free some space, or set "
            "TMPDIR to another directory"
        ) from problem
