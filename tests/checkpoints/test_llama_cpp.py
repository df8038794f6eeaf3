"""Exported models compute what llama.cpp computes from the file.

tests/golden/llama_cpp.json holds its results. Where it is installed, it reads the files again.
"""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

import tinyslm
from tests.checkpoints.llama_cpp import INSTALLED
from tests.checkpoints.llama_cpp_models import CASES, RESULTS, export, golden_model, token_ids
from tests.checkpoints.rounded_inputs import half, with_rounded_inputs
from tinyslm import ops
from tinyslm.autodiff import differentiable
from tinyslm.checkpoints import load_model
from tinyslm.ops import log_softmax

CLOSE = 1e-4


@cache
def entries():
    """{"family type": what llama.cpp computes}."""
    return json.loads(RESULTS.read_text())


@differentiable
def half_gelu(x):
    """GELU as llama.cpp looks it up: for numbers in float16, with results in float16."""
    return np.where(np.abs(x) < 10, half(ops.gelu_tanh(half(x))), np.maximum(x, 0)), None


def written(tmp_path, family, kind):
    """(path of the exported model, the tokens that llama.cpp reads for its last result, its entry)."""
    entry = entries()[f"{family} {kind}"]
    export(tmp_path / "model.gguf", golden_model(family, kind, entry["seed"]), kind)
    tokens = np.array([*token_ids(kind)[0], *entry["greedy"][:-1]])
    return tmp_path / "model.gguf", tokens[None], entry


def errors(model, tokens, entry):
    """Of the log-probabilities of the tokens that the entry names, absolute."""
    rows = log_softmax(model(tokens)[0, -len(entry["ids"]) :])
    return np.abs(np.take_along_axis(rows, np.array(entry["ids"]), axis=-1) - entry["log_probabilities"])


@pytest.mark.parametrize("family", [family for family, kind in CASES if kind == "F32"])
def test_every_architecture(tmp_path, monkeypatch, family):
    """The same log-probabilities and greedy tokens. Few numbers lie between two entries of the table of GELU."""
    path, tokens, entry = written(tmp_path, family, "F32")
    model = load_model(path)
    assert tinyslm.generate(model, token_ids("F32"), len(entry["greedy"]))[0].tolist() == entry["greedy"]
    if not model.config.activation.startswith("gelu"):
        assert errors(model, tokens, entry).max() < CLOSE
        return
    assert CLOSE < errors(model, tokens, entry).max() < 0.02
    monkeypatch.setitem(ops.ACTIVATIONS, model.config.activation, half_gelu)
    assert np.median(errors(model, tokens, entry)) < CLOSE


@pytest.mark.parametrize("kind", [kind for _, kind in CASES if kind != "F32"])
def test_codes(tmp_path, kind):
    """The same log-probabilities, if inputs are rounded as in llama.cpp."""
    path, tokens, entry = written(tmp_path, "llama", kind)
    assert errors(with_rounded_inputs(path), tokens, entry).max() < CLOSE
    assert 100 * CLOSE < errors(load_model(path), tokens, entry).max() < 0.1


@pytest.mark.skipif(INSTALLED is None, reason="needs llama-cpp-python or xllamacpp")
def test_llama_cpp_reads_the_files(tmp_path):
    """It computes the results that are stored."""
    names = ["llama F32", "gemma2 F32", "llama Q4_1"]
    command = [sys.executable, "-m", "tests.golden.make_llama_cpp", "--out", str(tmp_path / "new.json"), *names]
    subprocess.run(command, check=True, capture_output=True)
    for name, found in json.loads((tmp_path / "new.json").read_text()).items():
        entry = dict(entries()[name])
        wanted = entry.pop("log_probabilities")
        np.testing.assert_allclose(found.pop("log_probabilities"), wanted, rtol=0, atol=CLOSE)
        assert found == entry
