"""The measurement of recall: the positions of things and answers, the two measures, and the table and file."""

import json

import numpy as np
import pytest

from tests.benchmarks import recall
from tests.benchmarks.recall import (
    Drills,
    attention_to_the_thing,
    excess_of_families,
    measured,
    nats_of_answers,
    nats_without_recall,
)
from tinyslm.models import next_token_loss, random_model
from tinyslm.models.tiny_shapes import tiny_config
from tinyslm.ops import IGNORED
from tinyslm.text import town, train_tokenizer
from tinyslm.text.batches import encode_documents


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


def test_losses_are_those_of_the_answers_in_their_order(tokenizer):
    drills = Drills(tokenizer, 5, 60)
    rows, positions = drills.asked
    for number, nats in enumerate(nats_of_answers(model(), drills)):
        only = np.full_like(drills.answers, IGNORED)
        only[rows[number::3], positions[number::3]] = drills.answers[rows[number::3], positions[number::3]]
        assert nats == pytest.approx(next_token_loss(model(), drills.token_ids, only), rel=1e-5)


def test_losses_without_recall(tokenizer):
    """Of two things with one colour, the answer is more likely; the last answer is certain."""
    drills = Drills(tokenizer, 5, 400)
    answers = drills.token_ids[drills.asked].reshape(-1, 3)
    expected = np.zeros(2)
    for first, second, third in answers.tolist():
        expected += [-np.log([first, second, third].count(first) / 3), -np.log([second, third].count(second) / 2)]
    np.testing.assert_allclose(nats_without_recall(drills), [*expected / 400, 0], rtol=1e-12)


def test_attention_is_that_of_the_best_head_to_the_thing(tokenizer, monkeypatch):
    drills = Drills(tokenizer, 5, 10)
    rows, positions = drills.asked
    attentions = np.zeros((2, 10, 4, *drills.token_ids.shape[1:] * 2))  # layers, B, H, T, T
    attentions[0] = 0.01
    for row, position in zip(rows, positions, strict=True):
        words = [tokenizer.decode([token]).strip() for token in drills.token_ids[row]]
        first = words.index(words[position - recall.THING])
        attentions[1, row, 2, position - 1, first - 1 : first + 5] = [0.1, 0.25, 0.125, 0.0625, 0.3125, 0.1]
    monkeypatch.setattr(recall, "trace", lambda *arguments: {f"attentions.{i}": attentions[i] for i in range(2)})
    assert attention_to_the_thing(model(), drills) == pytest.approx(0.75)


def test_excess_of_nearly_uniform_predictions(tokenizer):
    documents = town.documents("train", 7, 60)
    uniform = random_model(tiny_config("smallest", recall.VOCABULARY), deviation=1e-6)
    for family, excess in excess_of_families(uniform, tokenizer, documents).items():
        texts = [text for name, text, _ in documents if name == family]
        tokens = sum(len(each) - 1 for each in encode_documents(tokenizer, texts, 0))
        bound = -sum(nats for name, _, nats in documents if name == family)
        assert excess == pytest.approx(tokens * np.log(recall.VOCABULARY) / bound - 1, rel=1e-3)


def test_every_variant_is_trained_and_written(tmp_path, monkeypatch, capsys, tokenizer):
    monkeypatch.setattr(recall, "train_tokenizer", lambda *arguments: tokenizer)
    monkeypatch.setattr(recall, "TOKENIZER_DOCUMENTS", 1)
    monkeypatch.setattr(recall, "MEASURED", 30)
    monkeypatch.setattr(recall, "FAMILY_BATCH", 2)
    recall.main(["--steps", "3", "--family-steps", "1", "--out", str(tmp_path / "recall.json")])
    content = json.loads((tmp_path / "recall.json").read_text())
    assert content["trainings"].keys() == {variant.name for variant in recall.VARIANTS}
    assert len({str(points) for points in content["trainings"].values()}) == len(recall.VARIANTS)
    for points in content["trainings"].values():
        assert len(points) == 1 and len(points[0]) == len(content["columns"]) and points[0][0] == 3
    assert content["families"]["columns"] == ["step", *town.FAMILIES]
    assert [len(points) for points in content["families"]["points"]] == [1 + len(town.FAMILIES)]
    assert content["without_recall"][2] == 0
    assert capsys.readouterr().out.count("\n| ") == 4 + len(recall.VARIANTS)
    assert measured(recall.VARIANTS[0], tokenizer, 3) == content["trainings"][recall.VARIANTS[0].name]
