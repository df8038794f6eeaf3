"""Greedy continuations equal those of transformers, token by token, with and without left padding."""

import numpy as np
import pytest

from tests.golden import DIRECTORY, golden_names
from tinyslm.checkpoints import load_model
from tinyslm.generation import generate
from tinyslm.models import DecoderConfig


@pytest.mark.filterwarnings("ignore:.* parts for images")
@pytest.mark.parametrize("name", golden_names(DecoderConfig))
def test_greedy_continuations(name):
    model = load_model(DIRECTORY / name)
    with np.load(DIRECTORY / name / "golden.npz") as golden:
        wanted = golden["generated"]
        np.testing.assert_array_equal(generate(model, golden["input_ids"], wanted.shape[1]), wanted)
        wanted, mask = golden["leftpad.generated"], golden["leftpad.attention_mask"]
        padded = generate(model, golden["leftpad.input_ids"], wanted.shape[1], attention_mask=mask)
        np.testing.assert_array_equal(padded, wanted)
        if "prefix.generated" in golden:  # a prompt from which the length of longrope or dynamic rope is crossed
            wanted = golden["prefix.generated"]
            np.testing.assert_array_equal(generate(model, golden["prefix.input_ids"], wanted.shape[1]), wanted)
