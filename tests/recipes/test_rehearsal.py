"""The rehearsal of a recipe: what cannot work is refused before the first step, and nothing else is."""

import re
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, small_model
from tests.recipes.families import calibrated, drawn
from tests.recipes.models import tiny_calibration, tiny_model
from tests.recipes.steps import STEPS
from tinyslm.checkpoints import check_savable
from tinyslm.errors import ConfigError, Error
from tinyslm.recipes import (
    Distill,
    DropLayers,
    Factorize,
    FoldMasks,
    FreshStudent,
    KeepLayers,
    LearnRanks,
    PruneBySensitivity,
    PruneGradually,
    PruneIteratively,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    Quantize,
    QuantizeFormat,
    QuantizeGPTQ,
    QuantizeOutlierAware,
    QuantizeStatic,
    RefitWeights,
    SliceChannels,
    SliceExperts,
    SliceGroups,
    SliceHeads,
    SliceNeurons,
    Smooth,
    StoreSparse,
    TrainQuantized,
    compress,
)
from tinyslm.recipes.recipe import accept_any
from tinyslm.recipes.rehearsal import first_layers, rehearse, shortened
from tinyslm.recipes.step import apply_step, ignore_progress

IMPOSSIBLE = [  # steps, of which the last one fails, and a part of the message
    ([SliceNeurons(0.0)], "ratio"),
    ([SliceHeads(0.5, "luck")], "importance is 'luck'"),
    ([SliceHeads(0.5), SliceHeads(0.5)], "1 query heads per key/value head removes none; SliceGroups"),
    ([SliceGroups(0.5), SliceGroups(0.5)], "1 key/value heads removes none; SliceHeads"),
    ([SliceChannels(1.5)], "ratio"),
    ([SliceExperts(1)], "llama model has no experts"),
    ([DropLayers(3)], "count of layers to drop"),
    ([DropLayers(1), KeepLayers((0, 2))], "expected ascending numbers from 0 to 1"),
    ([FreshStudent(4)], "student_layers"),
    ([PruneMagnitude(0.5, "row")], "scope is 'row'"),
    ([PruneMagnitude(0.8, pattern="1:5")], "layers.0.attention.query"),
    ([PruneWanda(0.8, "1:5")], "layers.0.attention.query"),
    ([SliceNeurons(0.5), PruneSparseGPT(0.5, "2:4")], "layers.0.feed_forward.down: .* 10"),
    ([PruneWanda(0.5), PruneSparseGPT(0.5)], "MaskedLinear already"),
    ([PruneBySensitivity(0.95)], "the largest sparsities remove"),
    ([PruneGradually(1.5, steps=3)], "from 0 to 1, found 1.5"),
    ([PruneGradually(0.5, steps=0)], "steps"),
    ([PruneGradually(0.5, steps=3), PruneGradually(0.8, steps=50)], "MaskedLinear already"),
    ([PruneIteratively(0.5, rounds=0, steps=3)], "rounds"),
    ([PruneIteratively(0.5, rounds=2, steps=3), Quantize()], "MaskedLinear already.*FoldMasks"),
    ([RefitWeights()], "no masks"),
    ([SliceNeurons(0.5), PruneMagnitude(0.5), RefitWeights()], "counterpart"),
    ([StoreSparse("coo")], "pattern"),
    ([PruneMagnitude(0.5), StoreSparse("2:4")], "2:4"),
    ([Quantize(bits=4, group_size=5)], "group_size must divide"),
    ([Quantize(group_size=4, dynamic_activations=True)], "leave out group_size"),
    ([SliceNeurons(0.5), QuantizeGPTQ(group_size=4)], "layers.0.feed_forward.down: group_size must divide"),
    ([QuantizeFormat("nf5")], "format is 'nf5'"),
    ([QuantizeStatic("largest")], "method is 'largest'"),
    ([QuantizeOutlierAware(-1.0)], "threshold"),
    ([TrainQuantized(steps=3, bits=9)], "bits must be"),
    ([TrainQuantized(steps=3), Smooth()], "PackedLinear already"),
    ([Smooth(alpha=2.0)], "alpha"),
    ([LearnRanks(0.0001)], "budget"),
    ([LearnRanks(0.5, steps=3), Factorize(0.5)], "LowRankLinear already"),
    ([Factorize(0.01, ranks="greedy")], "budget"),
    ([Distill(steps=3, batch_size=0)], "batch_size"),
    ([Distill(steps=1.5)], "steps"),
    ([Distill(steps=True)], "steps"),
    ([SliceChannels(0.5), Distill(steps=3, cosine_weight=1.0)], "cosine_weight needs states"),
    ([SliceGroups(0.5), Distill(steps=3, value_weight=1.0)], "num_key_value_heads is 1"),
]


@dataclass(frozen=True)
class Recorder:
    """A step that records its number of steps and the number of layers of the model."""

    steps: int = 7
    calls: list = field(default_factory=list, compare=False)

    def __call__(self, model, calibration=None, progress=None):
        self.calls.append((self.steps, len(model.layers)))
        return model


@dataclass(frozen=True)
class Unsavable:
    """A step after which no file of the family can hold the model."""

    def __call__(self, model, calibration=None, progress=None):
        return model.replace(config=replace(model.config, logit_softcap=3.0))


def refusal(model, steps, calibration):
    """The message of the error of `compress`, which no step may precede."""
    begun = []
    with pytest.raises(Error) as problem:
        compress(model, steps, calibration, progress=begun.append, check=check_savable)
    assert begun == ["checking the steps"]
    return str(problem.value)


def words(message):
    return re.sub(r"\d+", "", str(message))


@pytest.mark.parametrize(("steps", "message"), IMPOSSIBLE, ids=str)
def test_a_step_that_cannot_be_applied_is_refused_before_the_training(steps, message):
    model = tiny_model()
    found = refusal(model, [Distill(steps=50), *steps], tiny_calibration(model))
    assert re.search(message, found)
    with pytest.raises(Error) as problem:
        for step in steps:
            model = step(model, tiny_calibration(tiny_model()), ignore_progress)
    counted = message in ("budget", "the largest sparsities remove")  # numbers of parameters: of fewer layers
    assert str(problem.value) == found or (counted and words(problem.value) == words(found))


def test_a_result_that_cannot_be_saved_is_refused_before_the_training():
    model = tiny_model()
    found = refusal(model, [Distill(steps=50), Unsavable()], tiny_calibration(model))
    assert found.startswith("logit_softcap is 3.0, but a llama checkpoint can only hold None")
    for start, step, names in ((model, Unsavable(), ["Unsavable"]), (Unsavable()(model), Distill(steps=50), [])):
        begun = []
        with pytest.raises(ConfigError, match="logit_softcap"):
            compress(start, step, tiny_calibration(model), progress=begun.append, check=check_savable)
        assert begun == names
    compress(model, [Distill(steps=1), Unsavable()], tiny_calibration(model))  # without the check, it has any form


def test_missing_documents_are_refused_before_the_first_step():
    model = tiny_model()
    assert refusal(model, [PruneMagnitude(0.5), Distill(steps=50)], None).startswith("Distill needs calibration")
    empty = replace(tiny_calibration(model), documents=[])
    assert refusal(model, [PruneMagnitude(0.5), RefitWeights()], empty).startswith("calibration needs at least one")
    encoder = small_model("bert")
    unmasked = replace(calibrated(encoder), mask_token_id=None)
    assert "mask_token_id" in refusal(encoder, [PruneMagnitude(0.5), RefitWeights()], unmasked)
    assert "cannot generate" in refusal(encoder, [Distill(50), Distill(50, text="teacher")], calibrated(encoder))


@settings(max_examples=30)
@given(drawn(), st.sampled_from(sorted(STEPS)))
def test_the_rehearsal_raises_what_the_steps_raise_and_nothing_else(case, name):
    model, steps = case.model(), STEPS[name]

    def error(run):
        try:
            run()
        except Error as problem:
            return str(problem)

    def apply_all():
        result = model
        for step in steps:
            result = apply_step(step, result, calibrated(model), ignore_progress, check_savable)

    found = error(lambda: rehearse(model, steps, calibrated(model), check_savable))
    assert found == error(apply_all)


@pytest.mark.parametrize(
    ("steps", "layers"),
    [([], 1), ([KeepLayers((0, 2))], 2), ([DropLayers(1), FoldMasks()], 2), ([FreshStudent(2)], 2)],
    ids=str,
)
def test_the_rehearsal_takes_one_training_step_on_few_layers(steps, layers):
    """Steps before one that changes the number of layers see all layers."""
    model, recorder = tiny_model(), Recorder()
    compress(model, [recorder, *steps, recorder], tiny_calibration(model))
    assert recorder.calls == [(1, 3 if steps else 1), (1, 1), (7, 3), (7, layers if steps else 3)]


def test_a_single_step_without_training_is_not_rehearsed():
    begun = []
    compress(tiny_model(), PruneMagnitude(0.5), progress=begun.append)
    assert begun == ["PruneMagnitude"]


def test_the_first_layers_have_every_form():
    model = tiny_model()
    assert len(first_layers(model, accept_any).layers) == 1
    mixed = model.replace(layers=[*model.layers[:1], *PruneMagnitude(0.5)(model).layers[1:]])
    assert first_layers(mixed, accept_any).layers == mixed.layers[:2]
    for family in ALL_FAMILIES:
        smaller = first_layers(small_model(family), check_savable)
        check_savable(smaller)
        assert smaller.config.num_hidden_layers in (1, 2)
    both = first_layers(small_model("t5"), accept_any)
    assert (len(both.encoder.layers), len(both.decoder.layers)) == (1, 1)


def test_all_layers_are_used_if_fewer_cannot_be_saved():
    def check(each):
        if len(each.layers) < 3:
            raise ConfigError("three layers")

    model = tiny_model()
    assert first_layers(model, check) is model
    compress(model, [Distill(steps=1), Quantize()], tiny_calibration(model), check=check)


def test_rounds_are_shortened_too():
    assert shortened(PruneIteratively(0.5, rounds=9, steps=8)) == PruneIteratively(0.5, rounds=1, steps=1)
    assert shortened(Quantize()) == Quantize()
