"""The measurement of recall: the positions of things and answers, the two measures, and the table and file."""

import json

import numpy as np
import pytest

from tests.benchmarks import recall
from tests.benchmarks.recall import Drills, attention_to_the_thing, measured, nats_of_answers
from tinyslm.models import next_token_loss, random_model
from tinyslm.models.tiny_shapes import tiny_config
from tinyslm.text import town, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text for _, text, _ in town.documents("train", 0, 3000)], recall.VOCABULARY)


def model():
    return random_model(tiny_config("smallest", recall.VOCABULARY, recall.CONTEXT), seed=2)


def test_things_and_answers_of_a_question(tokenizer):
    drills = Drills(tokenizer, 5, 30)
    rows, positions = drills.asked
    assert np.array_equal(np.bincount(rows), [3] * 30)
    for row, position in zip(rows, positions, strict=True):
        words = [tokenizer.decode([token]).strip() for token in drills.token_ids[row]]
        assert words[position] in town.TOWN.colours and words[position - recall.THING] in town.TOWN.things
        assert " ".join(words[position - recall.THING + 1 : position]) == "now ? Answer :"


def test_losses_are_those_of_the_answers(tokenizer):
    """Over whole answers, a colour, a full stop and an end, the mean loss is smaller or larger; so only one is kept."""
    drills = Drills(tokenizer, 5, 60)
    rows, positions = drills.asked
    only = np.full_like(drills.answers, -100)
    only[rows, positions] = drills.token_ids[rows, positions]
    expected = next_token_loss(model(), drills.token_ids, only)
    assert nats_of_answers(model(), drills).shape == (3,)
    assert nats_of_answers(model(), drills).mean() == pytest.approx(expected, rel=1e-5)


def test_attention_of_uniform_heads(tokenizer):
    """Without queries, a head attends equally to all tokens so far."""
    drills = Drills(tokenizer, 5, 10)
    blank = model()
    blank = blank.replace(
        layers=[
            block.replace(
                attention=block.attention.replace(
                    query=block.attention.query.replace(weight=np.zeros_like(block.attention.query.weight))
                )
            )
            for block in blank.layers
        ]
    )
    expected = np.mean(1 / drills.asked[1])  # the colon is at position p - 1, so it sees p tokens
    assert attention_to_the_thing(blank, drills) == pytest.approx(expected, rel=1e-5)


def test_every_variant_is_trained_and_written(tmp_path, monkeypatch, capsys, tokenizer):
    monkeypatch.setattr(recall, "train_tokenizer", lambda *arguments: tokenizer)
    monkeypatch.setattr(recall, "TOKENIZER_DOCUMENTS", 1)
    monkeypatch.setattr(recall, "MEASURED", 30)
    monkeypatch.setattr(recall, "FAMILY_BATCH", 2)
    recall.main(["--steps", "1", "--family-steps", "1", "--out", str(tmp_path / "recall.json")])
    content = json.loads((tmp_path / "recall.json").read_text())
    assert content["trainings"].keys() == {variant.name for variant in recall.VARIANTS}
    for points in content["trainings"].values():
        assert len(points) == 1 and len(points[0]) == len(content["columns"]) and points[0][0] == 1
    assert content["families"]["columns"] == ["step", *town.FAMILIES]
    assert [len(points) for points in content["families"]["points"]] == [1 + len(town.FAMILIES)]
    assert capsys.readouterr().out.count("\n| ") == 3 + len(recall.VARIANTS)
    assert measured(recall.VARIANTS[0], tokenizer, 1) == content["trainings"][recall.VARIANTS[0].name]
