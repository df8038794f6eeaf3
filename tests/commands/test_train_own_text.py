"""tinyslm train on a text of the user: settings by its size, the best model, and what is printed before training."""

import json

import numpy as np
import pytest

from tests.commands.files import TEXT, run, write_text
from tests.commands.training_runs import assert_refused, names, random_text, train_text
from tinyslm import load
from tinyslm.commands import training_inputs, training_progress
from tinyslm.commands.training_inputs import new_tokenizer
from tinyslm.evaluation import measure_loss
from tinyslm.text import document_rows, read_documents, train_tokenizer
from tinyslm.text.corpus import text_corpus
from tinyslm.text.text_source import read_text_source
from tinyslm.training.text_size import batch_for, steps_for, vocabulary_for
from tinyslm.tree import named_arrays

MEMORIZE = ("--steps", 600, "--batch", 10, "--rate", 0.01, "--warmup", 50)


def record_of(directory):
    return json.loads((directory / "training.json").read_text())


@pytest.fixture(scope="module")
def memorized(tmp_path_factory):
    """A directory with a text of random words, and the model of a training that memorized it."""
    place = tmp_path_factory.mktemp("memorized")
    assert train_text(place, *MEMORIZE, text=write_text(place, random_text())) == 0
    return place


def test_the_model_with_the_lowest_validation_loss_is_written(memorized):
    record = record_of(memorized / "model")
    curve = dict(record["validation_curve"])
    assert record["written_step"] < max(curve)
    assert curve[record["written_step"]] == min(curve.values())
    model, tokenizer = load(memorized / "model")
    validation = text_corpus(tokenizer, 0, read_documents([memorized / "text.txt"])).validation
    assert measure_loss(model, validation).nats == pytest.approx(curve[record["written_step"]], abs=1e-5)
    assert record["validation"]["nats"] == pytest.approx(curve[record["written_step"]], abs=1e-5)


def test_a_training_that_only_memorizes_ends_early(memorized):
    record = record_of(memorized / "model")
    steps = [step for step, _ in record["validation_curve"]]
    after = [step for step in steps if step > record["written_step"]]
    assert len(after) == training_progress.PATIENCE
    assert len(record["losses"]) == steps[-1] < record["settings"]["steps"]


def test_rising_validation_loss_is_reported_once(tmp_path, capsys):
    assert train_text(tmp_path, *MEMORIZE, text=write_text(tmp_path, random_text())) == 0
    captured, best = capsys.readouterr(), record_of(tmp_path / "model")["written_step"]
    assert captured.err.count(f"validation loss rises since step {best}: the model memorizes the text;") == 1
    assert f"the model of step {best} will be written" in captured.err
    assert captured.out.rstrip().endswith(f"model of step {best} of 600")


def test_a_training_that_learns_says_nothing_of_memorizing(tmp_path, capsys):
    assert train_text(tmp_path, "--steps", 20) == 0
    assert "memorizes" not in capsys.readouterr().err
    assert record_of(tmp_path / "model")["written_step"] == 20


def test_validation_happens_at_least_twice_per_pass(memorized):
    steps = [step for step, _ in record_of(memorized / "model")["validation_curve"]]
    corpus = text_corpus(load(memorized / "model")[1], 0, read_documents([memorized / "text.txt"]))
    rows = len(document_rows(corpus.training, 24)[0])
    assert np.diff([0, *steps]).max() <= rows / 10 / 2 < 600 // training_progress.EVALUATIONS


def test_settings_follow_from_the_size_of_the_text(tmp_path, capsys):
    text = random_text(300, 20)
    given = ("--shape", "smallest", "--threads", 1)
    assert run("train", "--text", write_text(tmp_path, text), "--out", tmp_path / "a", *given, "--steps", 1) == 0
    record = record_of(tmp_path / "a")
    paragraphs = text.split("\n\n")
    assert record["options"]["vocabulary"] == vocabulary_for(sum(map(len, paragraphs))) > 512
    corpus = text_corpus(load(tmp_path / "a")[1], 0, paragraphs)
    tokens = sum(len(document) - 1 for document in corpus.training)
    assert record["options"]["batch"] == batch_for(tokens, len(corpus.training)) > 1
    assert record["options"]["rate"] == 4e-3
    shown = capsys.readouterr().err
    assert f"training text: {tokens:,} tokens, {len(corpus.training)} documents" in shown
    assert f"learning rate {record['options']['rate']}" in shown
    assert f"little text: {tokens:,} training tokens; 100,000 or more are recommended" in shown


def test_the_default_number_of_steps(tmp_path):
    text = write_text(tmp_path, random_text(40, 10))
    given = ("--shape", "smallest", "--threads", 1, "--vocabulary", 280)
    assert run("train", "--text", text, "--out", tmp_path / "a", *given, "--batch", 12) == 0
    options = record_of(tmp_path / "a")["options"]
    corpus = text_corpus(load(tmp_path / "a")[1], 0, read_documents([text]))
    assert options["steps"] == steps_for(1, len(corpus.training), 12) == round(6 * len(corpus.training) / 12)


def test_options_that_are_given_win(tmp_path):
    assert train_text(tmp_path, "--steps", 2, "--batch", 3, "--rate", 0.5e-3, "--vocabulary", 270, "--warmup", 2) == 0
    record = record_of(tmp_path / "model")
    given = {"steps": 2, "batch": 3, "rate": 0.5e-3, "vocabulary": 270, "warmup": 2}
    assert {name: record["options"][name] for name in given} == given
    assert (record["settings"]["steps"], record["settings"]["batch_size"]) == (2, 3)
    assert record["settings"]["learning_rate"] == 0.5e-3


def test_the_plan_is_printed_before_the_first_step(tmp_path, capsys):
    assert train_text(tmp_path, "--steps", 12) == 0
    lines = capsys.readouterr().err.splitlines()
    starts = (
        "reading",
        "training the tokenizer",
        "encoding",
        "training text:",
        "validation text:",
        "model:",
        "training:",
    )
    found = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert found == sorted(found) and found[-1] < next(i for i, line in enumerate(lines) if line.startswith("step 1:"))
    assert any(line.startswith("expected time: ") for line in lines)
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)


def test_timing_a_step_does_not_change_the_result(tmp_path, monkeypatch):
    assert train_text(tmp_path, "--steps", 12, out="timed") == 0
    monkeypatch.setattr(training_progress, "TIMED_STEPS", 100)
    monkeypatch.setattr(training_progress, "seconds_per_step", None)
    assert train_text(tmp_path, "--steps", 12, out="untimed") == 0
    models = [load(tmp_path / name)[0] for name in ("timed", "untimed")]
    for one, other in zip(*(named_arrays(model).values() for model in models), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize(("seconds", "shown"), [(0.2, "1 second"), (89, "89 seconds"), (100, "2 minutes")])
def test_durations(seconds, shown):
    assert training_progress.format_duration(seconds) == shown
    assert training_progress.format_duration(3 * 3600) == "3 hours"


@pytest.mark.parametrize(("kind", "documents"), [("paragraph", 20), ("line", 60), ("file", 1)])
def test_documents_are_paragraphs_lines_or_files(tmp_path, kind, documents, capsys):
    lines = random_text(60).split("\n\n")
    text = write_text(tmp_path, "\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, 60, 3)))
    assert train_text(tmp_path, "--documents", kind, text=text) == 0
    assert f"encoding {documents} documents" in capsys.readouterr().err
    assert read_text_source(tmp_path / "model").documents == kind


def test_packed_rows_are_full(tmp_path, capsys, monkeypatch):
    """All rows have T tokens, but for the last one of each part."""
    seen = []
    usual = training_inputs.document_rows
    monkeypatch.setattr(training_inputs, "document_rows", lambda *given: seen.append(usual(*given)) or seen[-1])
    assert train_text(tmp_path, "--pack") == 0
    assert train_text(tmp_path, out="unpacked") == 0
    assert "packed rows" in capsys.readouterr().err
    filled = [(labels >= 0).sum(axis=1) for _, labels in seen]
    assert (filled[0] == 24).sum() >= len(filled[0]) - 1 and len(filled[0]) < len(filled[1])
    assert [read_text_source(tmp_path / name).pack_length for name in ("model", "unpacked")] == [24, None]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--documents", "line"], ["--documents", "--text"]),
        (["--pack"], ["--pack", "--text"]),
        (["--text", "text.txt", "--town-documents", "9"], ["--town-documents", "leave it out"]),
        (["--text", "text.txt", "--town-families", "hard"], ["--town-families", "leave it out"]),
        (["--text", "town", "--pack"], ["--pack", "--text"]),
    ],
)
def test_options_that_would_have_no_effect(tmp_path, capsys, monkeypatch, options, parts):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    assert run("train", "--out", "model", *options) == 2
    assert_refused(capsys.readouterr(), *parts)
    assert names(tmp_path) == ["text.txt"]


def test_the_tokenizer_does_not_see_validation_documents():
    """Every tenth document."""
    texts = ["abab abab"] * 9 + ["xyxyxyxyxyxy"]
    assert new_tokenizer(texts * 3, 300).to_str() == train_tokenizer(["abab abab"] * 27, 300).to_str()


def test_the_tokenizer_of_a_long_text_sees_a_sample(monkeypatch, capsys):
    monkeypatch.setattr(training_inputs, "TOKENIZER_CHARACTERS", 2_000)
    monkeypatch.setattr(training_inputs, "PIECE", 100)
    texts = random_text(300, 12).split("\n\n")
    tokenizer = new_tokenizer(texts, 300)
    assert tokenizer.get_vocab_size() == 300
    used, _, total = capsys.readouterr().err.split()[4:7]
    assert 1_000 < int(used.replace(",", "")) <= 2_000 < int(total.replace(",", ""))
    new_tokenizer([" ".join(texts)], 300)  # one long document
    assert capsys.readouterr().err.startswith("training the tokenizer on 2,000 of ")


def test_a_text_of_three_lines_is_refused(tmp_path, capsys):
    assert train_text(tmp_path, text=write_text(tmp_path, "One line.\nTwo lines.\nThree lines.")) == 2
    assert_refused(capsys.readouterr(), "tokens", "at least")
    assert names(tmp_path) == ["text.txt"]


def test_the_record_of_the_text(tmp_path):
    assert train_text(tmp_path) == 0
    source = read_text_source(tmp_path / "model")
    assert source.files == (str(tmp_path / "text.txt"),) and source.texts() == TEXT.split("\n\n")
