"""tinyslm train --from: a finished model is trained further, on its own text or on another."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.commands.files import TEXT, run, write_text
from tests.commands.training_runs import assert_refused, interrupt_after, names, random_text, train_text
from tinyslm import load, save
from tinyslm.checkpoints import read_safetensors
from tinyslm.recipes.factorization.factorize import Factorize
from tinyslm.recipes.pruning import PruneMagnitude
from tinyslm.recipes.quantization.affine import Quantize
from tinyslm.text.text_source import read_text_source
from tinyslm.tree import named_arrays

GOLDEN = Path(__file__).parent.parent / "golden"
DECODERS = ("gpt2", "gemma2", "phi3", "mixtral", "qwen3", "smollm3")
STEPS = ("--steps", 4, "--batch", 4, "--threads", 1)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A directory with a text and a model that was trained on it."""
    place = tmp_path_factory.mktemp("first")
    assert train_text(place, "--steps", 12) == 0
    return place


def record_of(directory):
    return json.loads((directory / "training.json").read_text())


def train_further(origin, out, *options):
    return run("train", "--from", origin, "--out", out, *STEPS, *options)


def test_model_tokenizer_and_text_are_those_of_the_first_training(first, tmp_path):
    assert train_further(first / "model", tmp_path / "second") == 0
    before, after = (load(path)[0] for path in (first / "model", tmp_path / "second"))
    assert before.config == after.config
    for name in ("tokenizer.json", "corpus.json", "config.json"):
        assert (tmp_path / "second" / name).read_bytes() == (first / "model" / name).read_bytes()
    changed = [(one != other).any() for one, other in zip(*map(arrays, (before, after)), strict=True)]
    assert any(changed)
    assert record_of(tmp_path / "second")["options"]["rate"] == 5e-4
    assert names(tmp_path) == ["second"]


def arrays(model):
    return named_arrays(model).values()


def test_muon_is_refused_for_a_pruned_model(first, tmp_path, capsys):
    """It would change removed weights. AdamW keeps them at 0."""
    model, tokenizer = load(first / "model")
    save(tmp_path / "pruned", PruneMagnitude(0.5)(model, None), tokenizer)
    text = ("--text", first / "text.txt")
    assert train_further(tmp_path / "pruned", tmp_path / "second", *text, "--optimizer", "muon") == 2
    assert_refused(capsys.readouterr(), "pruned", "--optimizer muon", "adamw")
    assert train_further(tmp_path / "pruned", tmp_path / "second", *text) == 0
    before, after = (load(tmp_path / name)[0].layers[0].feed_forward.up.weight for name in ("pruned", "second"))
    assert ((before == 0) == (after == 0)).all() and (before != after).any()


def test_the_first_validation_is_that_of_the_finished_model(first, tmp_path, capsys):
    """A rate of almost 0 leaves it as it is; then the model of step 0 is as good as any."""
    assert train_further(first / "model", tmp_path / "second", "--rate", 1e-12) == 0
    step, nats = record_of(tmp_path / "second")["validation_curve"][0]
    assert step == 0 and nats == pytest.approx(record_of(first / "model")["validation"]["nats"], abs=1e-5)
    assert "step 0: validation" in capsys.readouterr().err


def test_a_model_that_gets_worse_is_written_as_it_was(first, tmp_path):
    """Random words, at a rate that destroys the model."""
    assert train_further(first / "model", tmp_path / "second", "--rate", 3.0) == 0
    assert record_of(tmp_path / "second")["written_step"] == 0
    for one, other in zip(*(arrays(load(path)[0]) for path in (first / "model", tmp_path / "second")), strict=True):
        assert (one == other).all()


def test_another_text(first, tmp_path):
    text = write_text(tmp_path, random_text())
    assert train_further(first / "model", tmp_path / "second", "--text", text, "--documents", "line", "--pack") == 0
    source = read_text_source(tmp_path / "second")
    assert (source.files, source.documents, source.pack_length) == ((str(text),), "line", 24)


def test_the_remembered_packing_is_used(tmp_path):
    assert train_text(tmp_path, "--pack") == 0
    assert train_further(tmp_path / "model", tmp_path / "second") == 0
    digests = [record_of(tmp_path / name)["data_sha256"] for name in ("model", "second")]
    assert digests[0] == digests[1] and read_text_source(tmp_path / "second").pack_length == 24


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_one_is_resumed_to_the_same_bits(first, tmp_path, monkeypatch, stop):
    """Even if the first model is gone by then."""
    shutil.copytree(first / "model", tmp_path / "origin")
    options = ("--checkpoint-seconds", 0, "--rate", 1e-2)
    assert train_further(tmp_path / "origin", tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        assert train_further(tmp_path / "origin", tmp_path / "second", *options) == 130
    shutil.rmtree(tmp_path / "origin")
    assert run("train", "--resume", "--out", tmp_path / "second") == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("second", "whole")]
    assert files[0] == files[1]


def word_tokenizer():
    """A tokenizer with 62 words, for models with a small vocabulary."""
    words = ["[UNK]", *sorted(set(TEXT.replace(".", " .").split())), *(f"w{i}" for i in range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words[:62])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.parametrize("family", DECODERS)
def test_decoders_of_other_families(tmp_path, family):
    model = load(GOLDEN / family)[0]
    save(tmp_path / "origin", model, word_tokenizer())
    text = write_text(tmp_path, TEXT * 2)
    assert train_further(tmp_path / "origin", tmp_path / "second", "--text", text, "--rate", 1e-2) == 0
    trained, _ = load(tmp_path / "second")
    assert trained.config == load(tmp_path / "origin")[0].config
    losses = record_of(tmp_path / "second")["losses"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_factorized_model(first, tmp_path):
    model, tokenizer = load(first / "model")
    save(tmp_path / "small", Factorize(0.7)(model), tokenizer)
    text = first / "text.txt"
    assert train_further(tmp_path / "small", tmp_path / "second", "--text", text, "--rate", 1e-2) == 0
    stored = [read_safetensors(tmp_path / name / "model.safetensors") for name in ("small", "second")]
    assert stored[0].keys() == stored[1].keys() and any("left" in name for name in stored[0])


def test_a_quantized_model_is_refused(first, tmp_path, capsys):
    model, tokenizer = load(first / "model")
    save(tmp_path / "int8", Quantize(bits=8)(model), tokenizer)
    assert train_further(tmp_path / "int8", tmp_path / "second", "--text", first / "text.txt") == 2
    assert_refused(
        capsys.readouterr(), "int8", "holds integers; only models with floating-point weights can be trained"
    )
    assert names(tmp_path) == ["int8"]


@pytest.mark.parametrize("option", [("--shape", "small"), ("--vocabulary", 300), ("--context", 12)])
def test_what_is_fixed_by_the_model(first, tmp_path, capsys, option):
    assert train_further(first / "model", tmp_path / "second", *option) == 2
    assert_refused(capsys.readouterr(), "--from keeps the model as it is; leave out", option[0])


def test_documents_of_the_town_have_no_effect_on_the_own_text(first, tmp_path, capsys):
    assert train_further(first / "model", tmp_path / "second", "--town-documents", 9) == 2
    assert_refused(capsys.readouterr(), "--town-documents", "leave it out")
    assert names(tmp_path) == []


def test_what_cannot_be_trained_further(first, tmp_path, capsys):
    assert train_further(tmp_path / "nothing", tmp_path / "second") == 2
    assert_refused(capsys.readouterr(), "nothing: no such directory")
    save(tmp_path / "plain", load(first / "model")[0])
    assert train_further(tmp_path / "plain", tmp_path / "second") == 2
    assert_refused(capsys.readouterr(), "plain: has no tokenizer.json")
    save(tmp_path / "without-text", *load(first / "model"))
    assert train_further(tmp_path / "without-text", tmp_path / "second") == 2
    assert_refused(capsys.readouterr(), "without-text: no corpus.json", "--text FILE")
    assert train_further(GOLDEN / "bert", tmp_path / "second") == 2
    assert_refused(capsys.readouterr(), "bert", "decoder")
    assert names(tmp_path) == ["plain", "without-text"]


def test_a_text_that_has_changed(tmp_path, capsys):
    assert train_text(tmp_path) == 0
    write_text(tmp_path, TEXT + " Another end.")
    assert train_further(tmp_path / "model", tmp_path / "second") == 2
    assert_refused(capsys.readouterr(), "text.txt: has changed", "--text FILE")


@pytest.mark.parametrize("further", [[], ["--text", "town"]])
def test_a_model_of_the_town(tmp_path, monkeypatch, further):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinyslm.commands.training_inputs.TOKENIZER_DOCUMENTS", 30)
    monkeypatch.setattr("tinyslm.commands.training_inputs.VALIDATION_DOCUMENTS", 5)
    town = ("--shape", "smallest", "--vocabulary", 300, "--town-documents", 8, "--steps", 2)
    assert run("train", "--out", "model", *town) == 0
    assert train_further("model", "second", "--town-documents", 8, *further) == 0
    assert read_text_source(tmp_path / "second").is_town
    record = record_of(tmp_path / "second")
    assert record["written_step"] == 4 and record["floor"] is not None
