"""The machine of a measurement, and its limits: multiply-adds and bytes per second; a model's matrix products alone."""

import re
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from tests.benchmarks.speed.case import timed
from tinyslm.evaluation.machine import processor_name
from tinyslm.modules import Linear
from tinyslm.parallel import map_shares
from tinyslm.tree import named_modules

CPUINFO = Path("/proc/cpuinfo")  # of Linux only
INSTRUCTIONS = ("avx2", "avx512f")
SIDE = 2048  # of the square matrices
ARRAY = 2**28  # float32 numbers: a GiB, more than any cache holds


def processor() -> str:
    """Name, family, model, stepping and vector instructions of the processor, as far as the system states them."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return processor_name()
    parts = [processor_name()]
    for key, word in (("cpu family", "family"), ("model", "model"), ("stepping", "stepping")):
        if found := re.search(rf"^{key}\s*: (\S+)", text, re.MULTILINE):
            parts.append(f"{word} {found[1]}")
    flags = re.search(r"^(?:flags|Features)\s*: (.*)", text, re.MULTILINE)
    return ", ".join(parts + [name for name in INSTRUCTIONS if flags and name in flags[1].split()])


def blas() -> dict:
    """The matrix library of NumPy: its name, version, kernel and number of threads. Empty if it is not recognized."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    libraries.sort(key=lambda library: "numpy" not in library["filepath"])  # SciPy can have one of its own
    if not libraries:
        return {}
    keys = {"library": "internal_api", "version": "version", "kernel": "architecture", "threads": "num_threads"}
    return {name: libraries[0].get(key) for name, key in keys.items()}


def product_limit(multiply_adds):
    """A runner: seconds of this number of multiply-adds in the product of two large matrices, on all cores."""
    left, right = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty((SIDE, SIDE), np.float32)

    return timed(lambda: np.matmul(left, right, out=out), SIDE**3 / multiply_adds)


def memory_limit(size):
    """A runner: seconds of reading this number of bytes from memory, on all cores."""
    array = np.ones(ARRAY, np.float32)
    return timed(lambda: map_shares(lambda share: np.max(array[share]), ARRAY), array.nbytes / size)


def products(model, rows, head_rows, backward=False):
    """A function that computes the matrix products of a pass through a decoder's linear layers and its head.

    rows, head_rows: rows of the inputs of the layers and of the head;  backward: with the two products per matrix that
    its gradients need.
    """
    matrices = [(linear.weight, rows) for linear in named_modules(model.layers, Linear).values()]
    matrices.append((model.embedding.table, head_rows))
    activations = {size: np.ones((rows, size), np.float32) for weight, _ in matrices for size in weight.shape}

    def run():
        for weight, count in matrices:
            dy, x = (activations[size][:count] for size in weight.shape)  # (count, out), (count, in)
            x @ weight.T
            if backward:
                dy @ weight, dy.T @ x

    return run
