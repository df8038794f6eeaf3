"""The data card describes the corpus and the teacher that the repository contains."""

import json
import re
from pathlib import Path

import pytest

from tinyslm.load_save import data_directory, load
from tinyslm.text.town.digest import DOCUMENTS, exam_digest, split_digest
from tinyslm.tree import named_arrays

CARD_DIRECTORY = Path(__file__).parent.parent / "data"
CARD = (CARD_DIRECTORY / "README.md").read_text("utf-8")


def card_digest(split):
    """SHA-256 of a split in the data card."""
    return re.search(rf"^\| {split} \|.*\b([0-9a-f]{{64}})\b", CARD, re.MULTILINE).group(1)


@pytest.mark.slow
@pytest.mark.parametrize("split", DOCUMENTS)
def test_splits_are_those_of_the_card(split):
    assert split_digest(split, DOCUMENTS[split]) == card_digest(split)


def test_the_exam_is_that_of_the_card():
    assert exam_digest() == card_digest("exam")


def test_the_teacher_is_that_of_the_card():
    model, tokenizer = load("teacher")
    parameters = sum(array.size for array in named_arrays(model).values())
    assert f"{parameters:,} parameters" in CARD
    assert tokenizer.get_vocab_size() == model.config.vocab_size
    record = json.loads((data_directory() / "teacher" / "training.json").read_text("utf-8"))
    assert f"{record['validation']['nats']:.4f}" in CARD and f"{record['floor']['nats']:.4f}" in CARD
    assert len(record["losses"]) == record["settings"]["steps"]


def test_data_is_small():
    """The teacher takes at most 12 MB."""
    assert sum(path.stat().st_size for path in (data_directory() / "teacher").iterdir()) < 12_000_000


def test_the_scores_of_mutation_testing():
    """Two samples; the goal is 97 % of the mutants that change a result."""
    runs = json.loads((CARD_DIRECTORY / "mutation.json").read_text("utf-8"))["runs"]
    assert len({run["seed"] for run in runs}) >= 2
    for run in runs:
        assert run["killed"] + run["survived"] + run["equivalent"] == run["drawn"] == 300
        assert run["survived"] == len(run["survivors"])
        assert run["score"] == round(run["killed"] / (run["killed"] + run["survived"]), 4) >= 0.97
