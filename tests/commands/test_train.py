"""tinyslm train: a model from a text, resumed after a kill with the same bits, and nothing half-written on failure."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.commands.files import QUICK, TEXT, assert_one_line, run, write_text
from tests.commands.training_runs import assert_refused, interrupt_after, names, train_text
from tinyslm import load
from tinyslm.checkpoints import output_lock, read_safetensors
from tinyslm.commands import train as command
from tinyslm.commands import training_inputs, training_options, training_progress
from tinyslm.commands.training_options import OPTIONS
from tinyslm.evaluation import measure_loss
from tinyslm.models import next_token_loss, next_token_losses
from tinyslm.ops import IGNORED
from tinyslm.text import read_documents, town, train_tokenizer
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.text.text_source import TextSource
from tinyslm.training.loop import count_next_tokens, count_selections

MODEL = ["config.json", "corpus.json", "model.safetensors", "tokenizer.json", "training.json"]
UNFINISHED = ["corpus.json", "state.safetensors", "tokenizer.json", "training.json"]


@pytest.mark.parametrize("name", ["text.txt", "text.jsonl"])
def test_a_model_from_a_text(tmp_path, capsys, name):
    lines = [json.dumps({"text": paragraph}) for paragraph in TEXT.split("\n\n")]
    path = write_text(tmp_path, TEXT if name == "text.txt" else "\n".join(lines), name)
    assert train_text(tmp_path, text=path) == 0
    assert names(tmp_path) == ["model", name]
    assert names(tmp_path / "model") == MODEL
    model, tokenizer = load(tmp_path / "model")
    assert model.config.vocab_size == tokenizer.get_vocab_size() == 280
    assert model.config.max_position_embeddings == 24
    assert model.config.eos_token_id == 0
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert len(record["losses"]) == record["options"]["steps"] == record["settings"]["steps"] == 3
    assert record["floor"] is None
    validation = text_corpus(tokenizer, 0, read_documents([path])).validation
    assert record["validation"]["nats"] == pytest.approx(measure_loss(model, validation).nats, rel=1e-6)
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'model'}: validation loss {record['validation']['nats']:.4f} nats")
    assert "floor" not in captured.err and "step 3: loss" in captured.err


def test_training_on_the_town_shows_the_floor(tmp_path, capsys, monkeypatch):
    """The floor on the way is that of the documents measured on the way."""
    monkeypatch.setattr(training_inputs, "TOKENIZER_DOCUMENTS", 30)
    monkeypatch.setattr(training_inputs, "VALIDATION_DOCUMENTS", 12)
    monkeypatch.setattr(training_progress, "TOWN_VALIDATION_DOCUMENTS", 3)
    out = tmp_path / "town"
    assert run("train", "--out", out, *QUICK, "--town-documents", 20, "--vocabulary", 400, "--dtype", "float16") == 0
    record = json.loads((out / "training.json").read_text())
    _, tokenizer = load(out)
    corpus = town_corpus(tokenizer, 0, validation=12)
    assert record["floor"]["nats"] == corpus.floor.nats
    captured = capsys.readouterr()
    assert f", floor {corpus.floor.nats:.3f} (+" in captured.out
    assert captured.err.count(f", floor {corpus.first_validation(3).floor.nats:.3f} (+") == 3
    assert all(len(line) <= 80 for line in captured.err.splitlines())
    assert {tensor.dtype for tensor in read_safetensors(out / "model.safetensors").values()} == {"F16"}


def test_optimizer_schedule_and_families_reach_the_training(tmp_path, monkeypatch, capsys):
    """They are recorded and kept by --resume. The default rate on the town depends on the optimizer."""
    monkeypatch.setattr(training_inputs, "TOKENIZER_DOCUMENTS", 30)
    monkeypatch.setattr(training_inputs, "VALIDATION_DOCUMENTS", 3)
    town = (*QUICK, "--town-documents", 20, "--vocabulary", 400)
    chosen = ("--optimizer", "muon", "--schedule", "stable", "--town-families", "hard", "--town-loss", "both")
    chosen += ("--start", "previous-token")
    assert run("train", "--out", tmp_path / "plain", *town) == 0
    monkeypatch.setattr(training_progress, "TIMED_STEPS", 1)
    assert run("train", "--out", tmp_path / "chosen", *town, *chosen) == 0
    assert "expected time: " in capsys.readouterr().err
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert run("train", "--out", tmp_path / "resumed", *town, *chosen, "--checkpoint-seconds", 0) == 130
    assert run("train", "--out", tmp_path / "resumed", "--resume") == 0
    plain, other, resumed = (
        json.loads((tmp_path / name / "training.json").read_text()) for name in ("plain", "chosen", "resumed")
    )
    names_of_options = ("optimizer", "schedule", "start", "town_families", "town_loss", "rate")
    plain_options = ["adamw", "cosine", "random", "natural", "all", 2e-3]
    assert [plain["options"][name] for name in names_of_options] == plain_options
    chosen_options = ["muon", "stable", "previous-token", "hard", "both", 5e-3]
    assert [other["options"][name] for name in names_of_options] == chosen_options
    assert (other["settings"]["optimizer"], other["settings"]["schedule"]) == ("muon", "stable")
    assert plain["data_sha256"] != other["data_sha256"]
    assert resumed["losses"] == other["losses"] != plain["losses"]
    model, _ = load(tmp_path / "chosen")
    assert model.config.family == "qwen2" and np.abs(model.layers[0].attention.key.bias[:5]).mean() > 1
    assert load(tmp_path / "plain")[0].config.family == "llama"


LOSS = {"loss_function": next_token_loss, "count_predicted": count_next_tokens}
LOSSES = {"loss_function": next_token_losses, "count_predicted": count_selections}


def test_the_loss_on_answers_predicts_only_them(monkeypatch):
    monkeypatch.setattr(training_inputs, "VALIDATION_DOCUMENTS", 1)
    tokenizer = train_tokenizer(["some text"], 257)
    options = {"town_documents": 9, "town_families": "recall", "context": 256}
    whole, answers, both = (
        training_inputs.open_inputs(TextSource(), None, tokenizer, options | {"town_loss": loss})
        for loss in ("all", "answers", "both")
    )
    assert (
        np.array_equal(both.labels, np.stack([whole.labels, answers.labels], axis=-1)) and both.tokens == whole.tokens
    )
    assert (whole.loss, answers.loss, both.loss) == (LOSS, LOSS, LOSSES)
    assert np.array_equal(whole.token_ids, answers.token_ids) and 0 < answers.tokens < whole.tokens / 2
    spans = [
        text[start:end] for text, spans in town.answered_documents("train", 0, 9, "recall") for start, end in spans
    ]
    predicted = answers.labels[:, 1:]  # a row of a long document begins with the last token of the row before it
    assert tokenizer.decode(predicted[predicted != IGNORED].tolist()) == "".join(spans)


def test_an_existing_but_empty_directory_is_filled(tmp_path):
    (tmp_path / "model").mkdir()
    assert train_text(tmp_path) == 0
    assert "config.json" in names(tmp_path / "model")


def test_the_default_length_on_the_town_is_two_passes_over_the_rows():
    options = {
        "from": None,
        "steps": None,
        "batch": 4,
        "rate": 1e-3,
        "warmup": 50,
        "schedule": "cosine",
        "optimizer": "adamw",
        "threads": 1,
        "seed": 0,
        "context": 24,
    }

    def settings(rows, **given):
        chosen = options | given
        training_options.complete(chosen, True, 10 * rows, rows, 64)
        return training_options.make_settings(chosen, True, 280)

    assert settings(21).steps == 10
    assert settings(1).steps == 1
    assert settings(21, steps=7).steps == 7
    assert settings(210).warmup_steps == 10


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interrupted_training_is_resumed_to_the_same_bits(tmp_path, capsys, monkeypatch, stop):
    assert train_text(tmp_path, out="whole") == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop)
        assert train_text(tmp_path, "--checkpoint-seconds", 0) == 130
    assert names(tmp_path) == ["model.training", "text.txt", "whole"]
    assert set(names(tmp_path / "model.training")) == {*UNFINISHED, "best.safetensors"}
    last = capsys.readouterr().err.splitlines()[-2:]
    assert last[0].startswith("tinyslm: interrupted") and last[1] == f"tinyslm train --out {tmp_path}/model --resume"
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    assert names(tmp_path) == ["model", "text.txt", "whole"]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("model", "whole")]
    assert records[0]["losses"] == records[1]["losses"]


def test_the_number_of_threads_is_kept_for_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(training_options, "default_threads", lambda: 3)
    arguments = ["train", "--text", write_text(tmp_path), "--out", tmp_path / "model", *QUICK]
    position = arguments.index("--threads")
    del arguments[position : position + 2]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert run(*arguments) == 130
    monkeypatch.setattr(training_options, "default_threads", lambda: 1)
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    assert json.loads((tmp_path / "model" / "training.json").read_text())["settings"]["threads"] == 3


def test_a_kill_at_any_moment_and_resuming_give_the_same_bits(tmp_path):
    """The real program, killed twice without warning after a random number of checkpoints, then left to finish."""
    steps = ["--steps", "60", "--checkpoint-seconds", "0"]
    assert train_text(tmp_path, *steps, out="whole") == 0
    rng = random.Random(3)
    state = tmp_path / "model.training" / "state.safetensors"
    start = ["--text", tmp_path / "text.txt", *QUICK, *steps]
    for options in (start, ["--resume", "--checkpoint-seconds", "0"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "tinyslm", "train", "--out", tmp_path / "model", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = state.stat().st_mtime_ns if state.exists() else None
        changes = rng.randint(1, 12)
        while changes and process.poll() is None:
            time.sleep(0.001)
            now = state.stat().st_mtime_ns if state.exists() else None
            changes, before = changes - (now != before), now
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it had not finished
        assert not (tmp_path / "model").exists()
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    found, expected = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "whole"))
    assert found == expected
    assert names(tmp_path) == ["model", "text.txt", "whole"]


def test_a_kill_between_writing_the_model_and_removing_the_training(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(command, "remove_directory", lambda place: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train_text(tmp_path) == 130
    assert names(tmp_path) == ["model", "model.training", "text.txt"]
    before = (tmp_path / "model" / "training.json").read_bytes()
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    assert names(tmp_path) == ["model", "text.txt"]
    assert (tmp_path / "model" / "training.json").read_bytes() == before


def test_resuming_does_not_replace_another_model(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert train_text(tmp_path) == 130
    assert train_text(tmp_path, "--seed", 5, out="other") == 0
    (tmp_path / "other").rename(tmp_path / "model")
    before = (tmp_path / "model" / "training.json").read_bytes()
    capsys.readouterr()
    assert run("train", "--resume", "--out", tmp_path / "model") == 2
    assert_one_line(capsys.readouterr(), "model: exists already")
    assert (tmp_path / "model" / "training.json").read_bytes() == before
    assert (tmp_path / "model.training").exists()


def test_resuming_what_cannot_be_resumed(tmp_path, capsys, monkeypatch):
    assert run("train", "--resume", "--out", tmp_path / "model") == 2
    assert_one_line(capsys.readouterr(), "model.training: no training to resume;")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert train_text(tmp_path) == 130
    place = tmp_path / "model.training"
    record, state = (place / "training.json").read_text(), (place / "state.safetensors").read_bytes()
    capsys.readouterr()

    def assert_not_resumed(*parts):
        assert run("train", "--resume", "--out", tmp_path / "model") == 2
        assert_refused(capsys.readouterr(), *parts)
        assert names(tmp_path) == ["model.training", "text.txt"]

    for damaged in ("", "[]", "{}", '{"options": {}}', '{"options": 3}'):
        (place / "training.json").write_text(damaged)
        assert_not_resumed("no training to resume")
    (place / "training.json").write_text(record)
    (place / "state.safetensors").write_bytes(state[:-9])
    assert_not_resumed("state.safetensors", "truncated")
    (place / "state.safetensors").write_bytes(state)
    write_text(tmp_path, "Another start. " + TEXT)
    assert_not_resumed("the text has changed since this training started")
    (tmp_path / "text.txt").unlink()
    assert run("train", "--resume", "--out", tmp_path / "model") == 2
    assert_one_line(capsys.readouterr(), "text.txt: cannot be read")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["text.txt: contains no text"]),
        (" \n\n", ["text.txt: contains no text"]),
        ("caf\xe9".encode("latin-1"), ["text.txt: not UTF-8", "byte 3"]),
        ("hello", ["only 2 tokens"]),
        (None, ["text.txt: cannot be read"]),
    ],
)
def test_a_text_that_cannot_be_used(tmp_path, capsys, text, parts):
    path = tmp_path / "text.txt" if text is None else write_text(tmp_path, text)
    assert train_text(tmp_path, text=path) == 2
    assert_refused(capsys.readouterr(), *parts)
    assert names(tmp_path) == ([] if text is None else ["text.txt"])


@pytest.mark.parametrize(
    "option", ["town-documents", "context", "steps", "batch", "rate", "warmup", "threads", "vocabulary"]
)
@pytest.mark.parametrize("value", ["0", "-3"])
def test_numbers_that_mean_nothing(tmp_path, capsys, option, value):
    assert train_text(tmp_path, f"--{option}", value) == 2
    assert_refused(capsys.readouterr(), option, value)
    assert names(tmp_path) == ["text.txt"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("context", "1"),
        ("seed", "-1"),
        ("checkpoint-seconds", "-1"),
        ("checkpoint-seconds", "nan"),
        ("rate", "nan"),
        ("rate", "inf"),
        ("vocabulary", "256"),
        ("vocabulary", "9999999999"),
        ("shape", "huge"),
    ],
)
def test_options_out_of_range(tmp_path, capsys, option, value):
    assert train_text(tmp_path, f"--{option}", value) == 2
    assert_refused(capsys.readouterr(), option, value)
    assert names(tmp_path) == ["text.txt"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_rate_at_which_training_diverges(tmp_path, capsys):
    with np.errstate(all="ignore"):
        assert train_text(tmp_path, "--rate", "1e38", "--threads", 1) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("tinyslm: training diverged at step")
    assert names(tmp_path) == ["model.training", "text.txt"]


@pytest.mark.parametrize("out", ["file", "file/model", "full", ".", "n" * 300])
def test_where_the_model_cannot_go(tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    before = names(tmp_path)
    assert run("train", "--text", "text.txt", "--out", out, *QUICK) == 2
    assert_one_line(capsys.readouterr(), out)
    assert names(tmp_path) == before
    assert names(tmp_path / "full") == ["mine"] and (tmp_path / "file").read_text() == "mine"


def test_an_unfinished_training_is_not_overwritten(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert train_text(tmp_path, "--checkpoint-seconds", 0) == 130
    state = (tmp_path / "model.training" / "state.safetensors").read_bytes()
    capsys.readouterr()
    assert train_text(tmp_path) == 2
    assert_one_line(capsys.readouterr(), "model.training: an unfinished training", "--resume", "--overwrite")
    assert (tmp_path / "model.training" / "state.safetensors").read_bytes() == state


@pytest.mark.parametrize("left", ["unfinished", "finished", "both", "nothing", "empty"])
def test_an_earlier_training_is_replaced_on_request(tmp_path, monkeypatch, left):
    if left in ("finished", "both"):
        assert train_text(tmp_path, "--seed", 3) == 0
    if left in ("unfinished", "both"):
        with monkeypatch.context() as patch:
            interrupt_after(patch, 1)
            assert train_text(tmp_path, out="other") == 130
        (tmp_path / "other.training").rename(tmp_path / "model.training")
    if left == "empty":
        (tmp_path / "model").mkdir()
    assert train_text(tmp_path, "--overwrite") == 0
    assert train_text(tmp_path, out="expected") == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "expected")]
    assert files[0] == files[1]
    assert names(tmp_path) == ["expected", "model", "text.txt"]


def test_only_trainings_are_replaced(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("mine")
    assert train_text(tmp_path, "--overwrite") == 2
    assert_refused(capsys.readouterr(), "model: exists already")
    (tmp_path / "model").rename(tmp_path / "model.training")
    assert train_text(tmp_path, "--overwrite") == 2
    assert_refused(capsys.readouterr(), "model.training: exists already")
    assert (tmp_path / "model.training" / "mine").read_text() == "mine"
    assert names(tmp_path) == ["model.training", "text.txt"]


def test_what_an_invalid_training_would_replace_is_kept(tmp_path, capsys):
    assert train_text(tmp_path) == 0
    before = (tmp_path / "model" / "training.json").read_bytes()
    assert train_text(tmp_path, "--overwrite", "--vocabulary", 3) == 2
    assert train_text(tmp_path, "--overwrite", text=tmp_path / "missing") == 2
    assert (tmp_path / "model" / "training.json").read_bytes() == before
    capsys.readouterr()
    assert train_text(tmp_path) == 2
    assert_one_line(capsys.readouterr(), "model: exists already", "--overwrite")


def test_a_second_training_to_one_directory_is_refused(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert train_text(tmp_path) == 130
    before = (tmp_path / "model.training" / "state.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    with output_lock(tmp_path / "model"):
        for options in (["--text", tmp_path / "text.txt", *QUICK], ["--resume"]):
            assert run("train", "--out", tmp_path / "model", *options) == 2
            assert_one_line(capsys.readouterr(), tmp_path / "model", "is writing it")
        assert train_text(tmp_path, out="other") == 0
    assert (tmp_path / "model.training" / "state.safetensors").stat().st_mtime_ns == before
    assert names(tmp_path) == ["model.training", "other", "text.txt"]


def test_the_lock_is_held_during_the_whole_training(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "remove_directory", lambda path: seen.append(names(tmp_path)))
    monkeypatch.setattr(command, "check_free", lambda *paths: seen.append(names(tmp_path)))
    assert train_text(tmp_path) == 0
    assert seen == [[".model.lock", "text.txt"], [".model.lock", "model", "model.training", "text.txt"]]


@pytest.mark.parametrize("leftover", [".model.0123abcd.partial", ".model.training.0123abcd.partial"])
def test_leftovers_of_a_killed_training_are_removed(tmp_path, capsys, leftover):
    assert train_text(tmp_path) == 0
    (tmp_path / leftover).mkdir()
    (tmp_path / leftover / "state.safetensors").write_text("")
    capsys.readouterr()
    assert run("train", "--resume", "--out", tmp_path / "model") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'model'}: this training is already complete\n"
    assert names(tmp_path) == ["model", "text.txt"]


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A directory with a text and a training that was interrupted after one step."""
    place = tmp_path_factory.mktemp("unfinished")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 1)
        assert train_text(place, "--checkpoint-seconds", 0) == 130
    return place


WRONG = (None, True, -1, 0, 10**30, 10**400, 0.5, float("nan"), float("inf"), "", "\0", "\ud800", "x\ny", "3")
WRONG += ([], [1], ["--help"], [["x"]], {}, {"a": 1}, [{}], "9" * 500)
ALLOWED = dict.fromkeys(("from", "town_documents", "town_families", "town_loss"), (None,))
ALLOWED |= {"rate": (0.5,), "seed": (0, 10**30, 10**400)}


@pytest.mark.parametrize("name", [*OPTIONS, "options", "data_sha256"])
def test_damaged_options_are_refused_with_file_and_key(unfinished, capsys, name):
    path = unfinished / "model.training" / "training.json"
    content = path.read_text()
    state = (unfinished / "model.training" / "state.safetensors").read_bytes()
    capsys.readouterr()
    try:
        for value in WRONG:
            if any(type(each) is type(value) and each == value for each in ALLOWED.get(name, ())):
                continue
            record = json.loads(content)
            (record["options"] if name in OPTIONS else record)[name] = value
            path.write_text(json.dumps(record))
            assert run("train", "--resume", "--out", unfinished / "model") == 2, value
            captured = capsys.readouterr()
            assert_one_line(captured, "training.json: ", "options: " if name == "from" else name)
            assert len(captured.err) < 600
    finally:
        path.write_text(content)
    assert names(unfinished) == ["model.training", "text.txt"]
    assert (unfinished / "model.training" / "state.safetensors").read_bytes() == state


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("town_documents", 20, "training.json: options: town_documents is 20, expected nothing"),
        ("from", "other", "training.json: options: shape is 'smallest', expected nothing"),
        ("vocabulary", 279, "training.json: options: vocabulary is 279, expected 280 to 1000000"),
        ("vocabulary", 2_000_000, "training.json: options: vocabulary is 2000000, expected 280 to 1000000"),
        ("shape", "small", "expected float32[280, 128]; the file is from another run"),
        ("context", 2_000_000, "training.json: options: --context is 2000000, expected at most 1000000"),
    ],
)
def test_options_that_do_not_fit_the_training(unfinished, capsys, option, value, message):
    path = unfinished / "model.training" / "training.json"
    content = path.read_text()
    try:
        record = json.loads(content)
        record["options"][option] = value
        path.write_text(json.dumps(record))
        assert run("train", "--resume", "--out", unfinished / "model") == 2
        assert_refused(capsys.readouterr(), message)
    finally:
        path.write_text(content)


@pytest.mark.parametrize("option", ["town-documents", "context", "steps", "batch", "warmup", "threads"])
def test_numbers_that_are_too_large(tmp_path, capsys, option):
    assert train_text(tmp_path, f"--{option}", 10**15) == 2
    assert_one_line(capsys.readouterr(), option, 10**15, "expected at most")
    assert names(tmp_path) == ["text.txt"]
