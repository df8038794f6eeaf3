"""tinyslm compress as its user runs it: what it prints, what it writes, and what it says to bad input."""

import io
import json
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.commands.files import assert_one_line
from tinyslm.checkpoints import output_lock
from tinyslm.checkpoints import save_model as save
from tinyslm.cli import main
from tinyslm.commands import compress as command
from tinyslm.commands import compression_inputs, compression_plan, training_inputs
from tinyslm.commands.compression_inputs import choose_weights, outline_of
from tinyslm.errors import DataError
from tinyslm.load_save import load
from tinyslm.recipes.default_recipes import presets
from tinyslm.text import town
from tinyslm.text.corpus import town_corpus
from tinyslm.tree import named_arrays

pytestmark = pytest.mark.slow

TEXT = "\n\n".join(f"Anna has {n} apples, Otto {n + 1}." for n in range(60))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with a text and a model of two layers that saw a little of it."""
    place = tmp_path_factory.mktemp("compress")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    arguments = ["--shape", "smallest", "--vocabulary", "300", "--context", "24", "--steps", "4", "--batch", "4"]
    assert main(["train", "--text", str(place / "text.txt"), "--out", str(place / "model"), *arguments]) == 0
    return place


@pytest.fixture(scope="module")
def compressed(trained):
    """The directory that one whole run on the user's own text writes."""
    out = trained / "compressed"
    assert main(["compress", str(trained / "model"), "--text", str(trained / "text.txt"), "--out", str(out)]) == 0
    return out


def test_every_row_has_its_model_and_its_numbers(compressed):
    results = json.loads((compressed / "results.json").read_text("utf-8"))
    assert len(results["rows"]) == 12 and results["corpus"]["floor"] is None
    assert results["corpus"]["split"] == "validation"
    for row in results["rows"]:
        model, tokenizer = load(compressed / row["directory"])
        assert tokenizer is not None
        arrays = named_arrays(model).values()
        assert row["memory_bytes"] == sum(array.nbytes for array in arrays)
        assert row["disk_bytes"] == (compressed / row["directory"] / "model.safetensors").stat().st_size
        assert row["loss"]["nats"] > 0 and row["excess"] is None and row["exam"] is None
        bits = row["loss"]["nats"] * row["loss"]["tokens"] / np.log(2)
        assert row["bits_per_byte"] == pytest.approx(bits / results["corpus"]["validation_bytes"], rel=1e-12)
        assert row["generation_speed"]["low"] <= row["generation_speed"]["median"] <= row["generation_speed"]["high"]
        assert model(np.array([[0, 5, 7]])).shape == (1, 3, model.config.vocab_size)


def test_sizes_are_those_that_the_techniques_promise(compressed):
    rows = {row["name"]: row for row in json.loads((compressed / "results.json").read_text("utf-8"))["rows"]}
    dense = rows["dense"]
    assert rows["distilled student"]["parameters"] < dense["parameters"]
    assert rows["SparseGPT 50 %"]["parameters"] == dense["parameters"]
    assert rows["SparseGPT 50 %"]["non_zeros"] < 0.8 * dense["non_zeros"]
    halves = rows["magnitude 50 %"]["non_zeros"] / rows["SparseGPT 50 %"]["non_zeros"]
    assert halves == pytest.approx(1, rel=0.01)
    assert rows["neurons 67 %"]["multiply_adds"] < dense["multiply_adds"]
    assert rows["INT8 weights"]["parameters"] == dense["parameters"]
    assert rows["INT8 weights"]["disk_bytes"] < 0.35 * dense["disk_bytes"]
    assert rows["GPTQ 4 bits"]["disk_bytes"] < 0.7 * rows["INT8 weights"]["disk_bytes"]
    assert 0.9 * rows["SVD 0.7"]["parameters"] < rows["learned ranks 0.7"]["parameters"] < dense["parameters"]
    assert rows["FWSVD 0.7"]["parameters"] == rows["SVD 0.7"]["parameters"]
    for plain, better in (("magnitude 50 %", "SparseGPT 50 %"), ("SVD 0.7", "FWSVD 0.7")):
        assert rows[plain]["loss"] != rows[better]["loss"]
    assert rows["slice, distil, INT8"]["disk_bytes"] < rows["INT8 weights"]["disk_bytes"]


def test_a_compressed_model_can_be_compressed_again(compressed, trained):
    """It is widened first, so that every recipe finds matrices of floating-point numbers."""
    model, text, out = str(compressed / "int8-weights"), str(trained / "text.txt"), trained / "again"
    names = ["neurons-67", "svd-0-7"]
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", *names]) == 0
    assert len(json.loads((out / "results.json").read_text("utf-8"))["rows"]) == 3


def test_a_run_can_be_repeated_exactly(compressed, trained):
    """From what it recorded: the same models bit for bit, trained ones too."""
    model, text, out = str(trained / "model"), str(trained / "text.txt"), trained / "repeated"
    recorded = str(compressed / "results.json")
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", recorded]) == 0
    first, second = (json.loads((place / "results.json").read_text("utf-8")) for place in (compressed, out))
    assert first["record"] == second["record"] and first["seed"] == second["seed"]
    for row, again in zip(first["rows"], second["rows"], strict=True):
        assert [step["settings"] for step in row["steps"]] == [step["settings"] for step in again["steps"]]
        assert (row["name"], row["loss"], row["bits"]) == (again["name"], again["loss"], again["bits"])
        path = f"{row['directory']}/model.safetensors"
        assert (compressed / path).read_bytes() == (out / path).read_bytes(), row["name"]


def test_recipes_of_ones_own(trained):
    recipe = '[[recipe]]\nname = "tiny"\n[[recipe.step]]\nuse = "SliceNeurons"\nratio = 0.2\n'
    (trained / "own.toml").write_text(recipe, encoding="utf-8")
    model, text, out = str(trained / "model"), str(trained / "text.txt"), trained / "own"
    names = [str(trained / "own.toml"), "int8-weights"]
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", *names]) == 0
    rows = json.loads((out / "results.json").read_text("utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["dense", "INT8 weights", "tiny"]


@dataclass(frozen=True)
class Unsavable:
    """A step after which no file of the family can hold the model."""

    def __call__(self, model, calibration=None, progress=None):
        return model.replace(config=replace(model.config, logit_softcap=3.0))


def test_a_recipe_whose_model_cannot_be_saved_ends_before_its_training(trained, capsys, monkeypatch):
    monkeypatch.setitem(command.STEPS, "Unsavable", Unsavable)
    recipe = '[[recipe]]\nname = "own"\nstep = [{use = "Unsavable"}, {use = "Distill", steps = 1000000}]\n'
    (trained / "unsavable.toml").write_text(recipe, encoding="utf-8")
    model, text, out = str(trained / "model"), str(trained / "text.txt"), trained / "unsavable"
    names = [str(trained / "unsavable.toml")]
    capsys.readouterr()
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", *names]) == 1
    assert "tinyslm: own: logit_softcap is 3.0, but a llama checkpoint can only hold None" in capsys.readouterr().err
    assert (out / "dense").is_dir() and not (out / "own").exists()


def test_the_table_and_the_page(trained, capsys):
    out = trained / "one"
    model, text = str(trained / "model"), str(trained / "text.txt")
    status = main(["compress", model, "--text", text, "--out", str(out), "--recipe", "int8-weights"])
    printed = capsys.readouterr().out
    assert status == 0 and "INT8 weights" in printed and "report.html" in printed
    assert "SVD" not in printed
    page = (out / "report.html").read_text("utf-8")
    assert "<svg" in page and "INT8 weights" in page


def test_the_town_has_a_floor_and_an_exam(tmp_path, monkeypatch):
    monkeypatch.setattr(training_inputs, "TOKENIZER_DOCUMENTS", 300)
    monkeypatch.setattr(training_inputs, "VALIDATION_DOCUMENTS", 100)
    monkeypatch.setattr(command, "TRAINING_DOCUMENTS", 300)
    monkeypatch.setattr(command, "QUESTIONS_PER_SUBJECT", 8)
    arguments = ["--shape", "smallest", "--town-documents", "300", "--steps", "3", "--batch", "2"]
    assert main(["train", "--out", str(tmp_path / "model"), *arguments]) == 0
    out = tmp_path / "out"
    assert main(["compress", str(tmp_path / "model"), "--out", str(out), "--recipe", "int8-weights"]) == 0
    results = json.loads((out / "results.json").read_text("utf-8"))
    floor, row = results["corpus"]["floor"], results["rows"][0]
    assert results["corpus"]["split"] == "test"
    tokenizer = load(tmp_path / "model")[1]
    count = results["corpus"]["validation_documents"]
    assert floor["nats"] == town_corpus(tokenizer, 0, validation=count, split="test").floor.nats
    assert row["excess"] == pytest.approx(row["loss"]["nats"] / floor["nats"] - 1)
    assert row["loss"]["tokens"] == floor["tokens"] and row["bits_per_byte"] is None
    assert set(row["exam"]["by_subject"]) == set(town.FAMILIES)
    assert row["exam"]["low"] < row["exam"]["accuracy"] < row["exam"]["high"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "--text", "{text}", "--recipe", "zip"], "recipe 'zip' is not one of dense, "),
        (["{place}/nowhere"], "no such directory; built-in models are teacher"),
        (["{text}"], "is a file, expected the directory"),
        (["{model}", "--text", "{place}/missing.txt"], "missing.txt"),
        (["{model}", "--text", "{text}", "--out", "{model}"], "exists already"),
        (["{model}", "--text", "{text}", "--out", "{text}/below"], "cannot be written"),
        (["{model}", "--text", "{empty}"], "no text"),
        (["{model}", "--text", "{latin}"], "not UTF-8"),
    ],
)
def test_bad_input_gets_one_line(trained, capsys, arguments, message):
    """Exit status 2, one line on standard error, and no output directory."""
    (trained / "empty.txt").write_text("\n\n")
    (trained / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    names = {
        "model": trained / "model",
        "place": trained,
        "text": trained / "text.txt",
        "empty": trained / "empty.txt",
        "latin": trained / "latin.txt",
    }
    arguments = [argument.format(**names) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(trained / "never")]
    capsys.readouterr()
    assert main(["compress", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.strip().splitlines()) == 1
    assert printed.err.startswith("tinyslm: ") and message in printed.err
    assert not (trained / "never").exists()


def files_of(out):
    """The rows of results.json without their speeds, and {file: content} of the models."""
    rows = json.loads((out / "results.json").read_text("utf-8"))["rows"]
    for row in rows:
        del row["prompt_speed"], row["generation_speed"]
        for step in row["steps"]:
            del step["seconds"]
    models = [path for row in rows for path in sorted((out / row["directory"]).iterdir())]
    return rows, {str(path.relative_to(out)): path.read_bytes() for path in models}


@pytest.fixture(scope="module")
def whole(trained):
    """An uninterrupted run of three rows."""
    out = trained / "whole"
    names = ["--recipe", "int8-weights", "neurons-67", "--seed", "3", "--out", str(out)]
    assert main(["compress", str(trained / "model"), *names]) == 0
    return out


@pytest.fixture(scope="module")
def interrupted_once(trained):
    """The same run, with Ctrl-C while the third model is computed."""
    usual = command.compress
    calls = []

    def compress(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return usual(*arguments, **options)

    out = trained / "interrupted"
    arguments = ["model", "--recipe", "int8-weights", "neurons-67", "--seed", "3", "--out", str(out)]
    printed, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(errors):
        patch.chdir(trained)  # only there is the path of the model right
        patch.setattr(command, "compress", compress)
        assert main(["compress", *arguments]) == 130
    assert printed.getvalue() == ""
    assert errors.getvalue().endswith(f"Resume with\ntinyslm compress --out {out} --resume\n")
    return out


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A copy of the interrupted run."""
    return shutil.copytree(interrupted_once, tmp_path / "out")


def test_an_interrupted_run_is_resumed(trained, whole, interrupted, monkeypatch, capsys):
    """The finished rows and models are kept; the result is that of an uninterrupted run."""
    rows, out = interrupted / "rows.jsonl", str(interrupted)
    assert len(rows.read_bytes().splitlines()) == 3  # the run, and two rows
    assert main(["compress", str(trained / "model"), "--out", out]) == 2
    assert "an unfinished run; resume it with --resume, or remove it" in capsys.readouterr().err
    before = (interrupted / "dense" / "model.safetensors").stat().st_mtime_ns
    saved = []
    monkeypatch.setattr(
        command, "save_model", lambda path, *rest, **more: saved.append(path.name) or save(path, *rest, **more)
    )
    assert main(["compress", "--out", out, "--resume"]) == 0
    assert saved == ["int8-weights"]
    assert (interrupted / "dense" / "model.safetensors").stat().st_mtime_ns == before
    assert not rows.exists() and files_of(interrupted) == files_of(whole)
    assert sorted(path.name for path in interrupted.iterdir()) == sorted(path.name for path in whole.iterdir())
    capsys.readouterr()
    assert main(["compress", "--out", out, "--resume"]) == 0
    assert capsys.readouterr().out == f"{out}: this run is already complete\n"


@pytest.mark.parametrize("damage", ["no row", "no weights", "other weights", "half a line"])
def test_what_is_not_complete_is_measured_again(whole, interrupted, damage):
    rows, weights = interrupted / "rows.jsonl", interrupted / "neurons-67" / "model.safetensors"
    lines = rows.read_bytes().splitlines(keepends=True)
    if damage == "no row":  # killed between saving the model and recording its row
        rows.write_bytes(b"".join(lines[:2]))
    elif damage == "half a line":
        rows.write_bytes(b"".join(lines)[:-9])
    elif damage == "no weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert main(["compress", "--out", str(interrupted), "--resume"]) == 0
    assert files_of(interrupted) == files_of(whole)


@pytest.mark.parametrize("damage", ["removed", "shorter", "no configuration", "no tokenizer"])
def test_a_model_is_complete_with_all_of_its_files(whole, tmp_path, damage):
    row = {"disk_bytes": (whole / "dense" / "model.safetensors").stat().st_size}
    shutil.copytree(whole / "dense", tmp_path / "dense")
    assert command._is_complete(tmp_path / "dense", row)
    names = {"removed": "model.safetensors", "no configuration": "config.json", "no tokenizer": "tokenizer.json"}
    if damage == "shorter":
        (tmp_path / "dense" / "model.safetensors").write_bytes(b"")
    else:
        (tmp_path / "dense" / names[damage]).unlink()
    assert not command._is_complete(tmp_path / "dense", row)


def test_the_same_options_may_be_repeated(trained, interrupted):
    text = ["--text", str(trained / "text.txt")]
    names = ["--recipe", "int8-weights", "neurons-67", "--seed", "3", "--out", str(interrupted), *text]
    assert main(["compress", str(trained / "model"), *names, "--resume"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "0"], "--seed is 0, but this run began with 3; leave it out with --resume"),
        (["teacher"], "MODEL is teacher, but this run began with "),
        (["--weights", "mapped"], "--weights is mapped, but this run began with float32"),
        (["--thorough"], "--thorough is True, but this run began with False"),
        (["--recipe", "int8-weights"], "--recipe names other recipes"),
        (["--text", "{other}"], "--text is not the text of this run ("),
        (["--text", "{text}", "--documents", "line"], "--text is not the text of this run ("),
        (["--text", "{text}", "--pack"], "--text is not the text of this run ("),
        (["--pack"], "--documents and --pack can only be used with --text FILE"),
    ],
)
def test_other_options_are_refused_with_resume(trained, interrupted, capsys, arguments, message):
    (interrupted.parent / "other.txt").write_text(TEXT)
    names = {"other": interrupted.parent / "other.txt", "text": trained / "text.txt"}
    capsys.readouterr()
    before = (interrupted / "rows.jsonl").read_bytes()
    arguments = [argument.format(**names) for argument in arguments]
    assert main(["compress", *arguments, "--out", str(interrupted), "--resume"]) == 2
    assert_one_line(capsys.readouterr(), message)
    assert (interrupted / "rows.jsonl").read_bytes() == before


def test_a_run_whose_inputs_have_changed_is_not_resumed(trained, interrupted, capsys, monkeypatch):
    def assert_refused(message):
        capsys.readouterr()
        assert main(["compress", "--out", str(interrupted), "--resume"]) == 2
        assert_one_line(capsys.readouterr(), message)

    text, config = trained / "text.txt", trained / "model" / "config.json"
    text.write_text(TEXT + " One more.")
    assert_refused(f"{interrupted}: the text has changed since this run began; start a new run")
    text.write_text(TEXT)
    with monkeypatch.context() as patch:
        patch.setattr("numpy.__version__", "1.0")
        assert_refused(f"{interrupted}: numpy is 1.0, but this run began with ")
    before = config.read_text()
    config.write_text(before.replace('"rms_norm_eps": ', '"rms_norm_eps": 1'))
    try:
        assert_refused(f"{interrupted}: the model {trained / 'model'} has changed since this run began")
    finally:
        config.write_text(before)


def test_what_cannot_be_resumed(interrupted, tmp_path, capsys):
    rows = interrupted / "rows.jsonl"

    def assert_refused(out, message):
        capsys.readouterr()
        assert main(["compress", "--out", str(out), "--resume"]) == 2
        assert_one_line(capsys.readouterr(), message)

    assert_refused(tmp_path / "nothing", "no run to resume; start one without --resume")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    content = rows.read_bytes()
    for changed in (content.replace(b'"bits": ', b'"bits": 1'), content.replace(b'"seed": 3', b'"seed": 4')):
        rows.write_bytes(changed)
        assert_refused(interrupted, "has been changed; remove ")
        assert rows.read_bytes() == changed
    rows.write_bytes(b"")
    assert_refused(interrupted, "no run to resume")
    rows.write_bytes(b"[]\n")
    assert_refused(interrupted, "rows.jsonl, line 1: found")
    for value in ("3", "null", '{"value": 3}', '{"value": {}, "sha256": "0"}'):
        rows.write_text(f'{{"name": "the run", "result": {value}}}\n')
        assert_refused(interrupted, "rows.jsonl")


def remove_while_it_runs(monkeypatch, name, path):
    """Remove a path before the second model is saved, before speeds are measured, or after the page is written."""
    usual, calls = getattr(command, name), []

    def removing(*arguments, **options):
        calls.append(name)
        if (name, len(calls)) in (("save_model", 2), ("measure_speeds", 1)):
            shutil.rmtree(path)
        result = usual(*arguments, **options)
        if name == "write_page":
            shutil.rmtree(path)
        return result

    monkeypatch.setattr(command, name, removing)


@pytest.mark.parametrize(
    ("name", "removed", "missing"),
    [
        ("save_model", "", "dense"),  # the directory is made again for the second model
        ("save_model", "dense", "dense"),
        ("measure_speeds", "", "dense, int8-weights"),  # after the last model, before results.json
        ("measure_speeds", "int8-weights", "int8-weights"),
        ("write_page", "", "dense, int8-weights, results.json"),
    ],
)
def test_models_removed_while_it_runs_are_missed(trained, tmp_path, monkeypatch, capsys, name, removed, missing):
    """Exit status 1, the table, and one line that names what is missing."""
    out, model, text = tmp_path / "out", str(trained / "model"), str(trained / "text.txt")
    remove_while_it_runs(monkeypatch, name, out / removed)
    capsys.readouterr()
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", "int8-weights"]) == 1
    printed = capsys.readouterr()
    assert "INT8 weights" in printed.out
    assert printed.err.splitlines()[-1] == f"tinyslm: {out}: removed while the command ran: {missing}; run it again"


def test_a_recipe_that_fails_keeps_the_others_and_is_tried_again(trained, tmp_path, monkeypatch, capsys):
    """Exit status 1, the table and the page of the finished rows, and one line that names the recipe."""
    out, usual = tmp_path / "out", command.compress

    def failing(failure):
        def compress(model, recipe, *arguments, **options):
            if recipe.name == "INT8 weights":
                raise failure
            return usual(model, recipe, *arguments, **options)

        return compress

    names = ["--text", str(trained / "text.txt"), "--recipe", "int8-weights", "int8-products", "--out", str(out)]
    for failure, message in ((DataError("it failed"), "it failed"), (MemoryError(), "MemoryError")):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(command, "compress", failing(failure))
            resumed = ["--resume"] if out.exists() else [str(trained / "model"), *names[:-2]]
            assert main(["compress", *resumed, "--out", str(out)]) == 1
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert f"tinyslm: INT8 weights: {message}" in lines
        assert lines[-2:] == [
            "tinyslm: failed: INT8 weights. Try again with",
            f"tinyslm compress --out {out} --resume",
        ]
        assert "INT8 products" in printed.out and f"\nINT8 weights failed: {message}\n" in printed.out
        results = json.loads((out / "results.json").read_text("utf-8"))
        assert [row["name"] for row in results["rows"]] == ["dense", "INT8 products"]
        assert results["failed"] == [{"name": "INT8 weights", "error": message}]
        page = (out / "report.html").read_text("utf-8")
        assert "INT8 products" in page and f"INT8 weights failed: {message}" in page
    assert main(["compress", "--out", str(out), "--resume"]) == 0
    assert json.loads((out / "results.json").read_text("utf-8"))["failed"] == []
    assert main(["compress", str(trained / "model"), *names[:-1], str(tmp_path / "whole")]) == 0
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_dense_model_that_fails_ends_the_run(trained, tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise DataError("it failed")

    monkeypatch.setattr(command, "compress", fail)
    model, text, out = str(trained / "model"), str(trained / "text.txt"), tmp_path / "out"
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", "int8-weights"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "tinyslm: it failed"
    assert not (out / "results.json").exists()


@pytest.mark.parametrize(("limit", "name", "rounds"), [(10**6, "training", 9), (1000, "no-training", 3)])
def test_a_large_model_gets_recipes_without_training_and_fewer_rounds(
    trained, tmp_path, monkeypatch, capsys, limit, name, rounds
):
    def make_plan(inputs, calibration, recipes, finished, number):
        assert recipes == presets(inputs.model)[name] and number == rounds
        raise DataError("as expected")

    monkeypatch.setattr(sys.modules[presets.__module__], "LARGE_MODEL", limit)
    monkeypatch.setattr(command, "make_plan", make_plan)
    model, text, out = str(trained / "model"), str(trained / "text.txt"), tmp_path / "out"
    capsys.readouterr()
    assert main(["compress", model, "--text", text, "--out", str(out)]) == 2
    assert_one_line(capsys.readouterr(), "as expected")


@pytest.mark.parametrize("available", [2_340_000_000, 2_340_000])
def test_the_plan_is_printed_first(trained, tmp_path, monkeypatch, capsys, available):
    monkeypatch.setattr(command, "compress", lambda *arguments, **options: pytest.fail("after the plan"))
    model, text, out = str(trained / "model"), str(trained / "text.txt"), tmp_path / "out"
    monkeypatch.setattr(compression_plan, "available_memory", lambda: available)
    with pytest.raises(pytest.fail.Exception):
        main(["compress", model, "--text", text, "--out", str(out), "--recipe", "no-training"])
    plan = capsys.readouterr().err.splitlines()
    assert plan[0].startswith("model: ") and "parameters; loss measured on" in plan[0]
    assert plan[1].startswith("recipes: dense; INT8 weights; ")
    expected = plan[-1] if available > 1e9 else plan[-3]
    form = r"expected: about \d+ (seconds?|minutes|hours), \d+ MB of memory; 2\.34 [MG]B are available"
    assert re.fullmatch(form, expected)
    assert ("--weights mapped" in plan[-1]) == (available < 1e9)
    assert max(map(len, plan)) <= 80


def test_a_model_in_its_file_is_compressed_as_one_in_memory(trained, tmp_path, capsys):
    """With a step that folds masks. The losses are equal to rounding."""
    text, names = str(trained / "text.txt"), ["gptq-4-bits", "wanda-2-4"]
    model, tokenizer = load(trained / "model")
    save(tmp_path / "half", model, tokenizer, "bfloat16")
    rows = {}
    for weights in ("float32", "mapped"):
        out = tmp_path / weights
        arguments = [str(tmp_path / "half"), "--text", text, "--recipe", *names, "--weights", weights]
        capsys.readouterr()
        assert main(["compress", *arguments, "--out", str(out)]) == 0
        printed = capsys.readouterr()
        results = json.loads((out / "results.json").read_text("utf-8"))
        rows[weights] = results["rows"]
        assert results["weights"] == weights
        assert ("parameters in their files;" in printed.err) == ("were read from their files" in printed.out)
        assert ("were read from their files" in printed.out) == (weights == "mapped")
    for row, other in zip(*rows.values(), strict=True):
        assert row["loss"]["nats"] == pytest.approx(other["loss"]["nats"], rel=1e-5)
        assert row["non_zeros"] == other["non_zeros"]
        assert row["disk_bytes"] == other["disk_bytes"]
    assert rows["mapped"][0]["memory_bytes"] < 0.1 * rows["float32"][0]["memory_bytes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "neurons-80-refit"], "--weights mapped: a step of the recipe 'neurons 80 %, refit' needs"),
        (["--weights", "int8"], "argument --weights: invalid choice: 'int8'"),
    ],
)
def test_forms_of_weights_that_recipes_cannot_read_are_refused(
    trained, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr(command, "CompressionInputs", lambda options: pytest.fail("before the model is loaded"))
    capsys.readouterr()
    model, text = str(trained / "model"), ["--text", str(trained / "text.txt"), "--out", str(tmp_path / "out")]
    assert main(["compress", model, *text, "--weights", "mapped", *arguments]) == 2
    assert_one_line(capsys.readouterr(), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "limit", "weights"),
    [
        (["int8-weights"], 1000, "mapped"),
        (["int8-weights", "svd-0-7"], 1000, "float32"),
        (["int8-weights"], 10**8, "float32"),
    ],
)
def test_a_large_model_stays_in_its_file_if_all_recipes_can_read_it(trained, monkeypatch, names, limit, weights):
    monkeypatch.setattr(compression_inputs, "MAPPED_MODEL", limit)
    outline = outline_of(str(trained / "model"))
    recipes = command.choose_recipes(names, [], outline, False)
    assert choose_weights(None, outline, recipes) == weights
    assert choose_weights("float32", outline, recipes) == "float32"


def test_a_second_run_to_one_directory_is_refused(trained, tmp_path, capsys):
    model, text, out = str(trained / "model"), str(trained / "text.txt"), tmp_path / "out"
    capsys.readouterr()
    with output_lock(out):
        assert main(["compress", model, "--text", text, "--out", str(out)]) == 2
    assert_one_line(capsys.readouterr(), f"{out}: another process (", "is writing it")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_do_not_stop_the_next(trained, tmp_path):
    model, text, out = str(trained / "model"), str(trained / "text.txt"), tmp_path / "out"
    (out / ".dense.0123abcd.partial").mkdir(parents=True)
    (out / ".dense.0123abcd.partial.lock").write_text("1")
    assert main(["compress", model, "--text", text, "--out", str(out), "--recipe", "int8-weights"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["dense", "int8-weights", "report.html", "results.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
