"""The expected time and memory of a compression: what they grow with. No real time is tested."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.commands import compression_plan as plans
from tinyslm.evaluation.loss import LOGITS_AT_ONCE
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.load_save import load, save
from tinyslm.modules import Linear
from tinyslm.recipes import Distill, FoldMasks, PruneWanda, Quantize, QuantizeGPTQ, Recipe
from tinyslm.recipes.statistics import SHARDS
from tinyslm.runtime import default_threads
from tinyslm.tree import named_modules

MODEL = tiny_model()
CALIBRATION = tiny_calibration(MODEL)


def plan(monkeypatch, recipes, validation=(11,), questions=0, finished=0, rounds=3):
    monkeypatch.setattr(plans, "seconds_per_token", lambda model, documents: 0.5)
    documents = [np.zeros(length, int) for length in validation]
    corpus = SimpleNamespace(validation=documents, questions=[None] * questions)
    inputs = SimpleNamespace(model=MODEL, corpus=corpus)
    return plans.make_plan(inputs, CALIBRATION, recipes, finished, rounds)


def test_the_time_of_measuring(monkeypatch):
    dense = [Recipe("dense", ())]
    measured = 10 + plans.SAVING
    assert plan(monkeypatch, dense).seconds == {"dense": 0.5 * measured}
    assert plan(monkeypatch, dense, (11, 5), 3).seconds["dense"] == 0.5 * (measured + 4 + 3 * plans.QUESTION)
    assert plan(monkeypatch, dense, finished=2).speed_seconds == 0.5 * plans.SPEED_RUN * 4 * 3
    assert plan(monkeypatch, dense).total() == 0.5 * (measured + 4 * plans.SPEED_RUN)


def test_the_time_of_steps():
    sample = sum(task.inputs["token_ids"].size for task in CALIBRATION.sample())
    assert plans.tokens_of_step(Quantize(), MODEL, CALIBRATION) == 0
    assert plans.tokens_of_step(FoldMasks(), MODEL, CALIBRATION) == 0
    assert plans.tokens_of_step(PruneWanda(0.5), MODEL, CALIBRATION) == 2 * sample
    assert plans.tokens_of_step(QuantizeGPTQ(), MODEL, CALIBRATION) == 2 * sample + 50 * MODEL.config.hidden_size
    fewer = replace(CALIBRATION, statistics_documents=1)
    assert plans.tokens_of_step(PruneWanda(0.5), MODEL, fewer) < 2 * sample
    tokens = np.mean([len(document) for document in CALIBRATION.documents])
    trained = plans.tokens_of_step(Distill(steps=7, batch_size=3), MODEL, CALIBRATION)
    assert trained == pytest.approx(4 * 7 * 3 * tokens)


def test_training_needs_more_memory():
    small, large = (
        plans.expected_memory(MODEL, [Recipe("x", steps)]) for steps in ((Quantize(),), (Distill(steps=1),))
    )
    assert plans.PROCESS_BYTES < small < large


def test_the_logits_of_a_large_vocabulary_do_not_count_in_full():
    """A batch of 2,048 tokens and 200,000 logits each has 1.6 GB in float32."""
    model = MODEL.replace(config=replace(MODEL.config, vocab_size=200_000))
    weights = 4 * count_parameters(MODEL)
    others = plans.expected_memory(model, []) - plans.PROCESS_BYTES - 3 * weights
    assert others == 3 * 4 * default_threads() * LOGITS_AT_ONCE


def test_a_model_in_its_file_needs_memory_for_a_block(tmp_path):
    save(tmp_path / "model", MODEL)
    mapped, _ = load(tmp_path / "model", "mapped")
    block = MODEL.layers[0]
    weights = sum(layer.weight.size for layer in named_modules(block, Linear).values())
    widths = [block.attention.query, block.attention.output, block.feed_forward.up, block.feed_forward.down]
    products = SHARDS * 4 * sum(layer.in_features**2 for layer in widths)
    assert plans.block_memory(mapped, [Recipe("x", (Quantize(), PruneWanda(0.5)))]) == 8 * weights
    assert plans.block_memory(mapped, [Recipe("x", (QuantizeGPTQ(),))]) == 8 * weights + products
    many = mapped.replace(layers=50 * mapped.layers)
    assert plans.expected_memory(many, []) == plans.expected_memory(mapped, []) > plans.PROCESS_BYTES


def test_the_cost_of_a_token_is_measured_on_the_first_documents(monkeypatch):
    measured = []

    def document_nats(model, documents, tokens_per_batch):
        measured.append([len(document) for document in documents])

    monkeypatch.setattr(plans, "document_nats", document_nats)
    documents = [np.zeros(length, int) for length in (301, 1000, 50)]
    assert plans.seconds_per_token(MODEL, documents) < 0.01
    assert measured == 2 * [[301, 213]]  # twice, because it takes less than a second: 512 predicted tokens
