"""tinyslm sweep as its user runs it: processes, threads, a cluster, a second run, and bad input."""

import copy
import json
import math
import re

import pytest

from tests.commands.files import assert_one_line
from tests.recipes.cluster import local_cluster
from tinyslm.checkpoints import output_lock
from tinyslm.cli import main
from tinyslm.commands import compression_plan
from tinyslm.commands import sweep as command
from tinyslm.errors import ConfigError

pytestmark = pytest.mark.slow

RECIPES = """
[[recipe]]
name = "keep {ratio}"
grid.ratio = [0.5, 1.0]
[[recipe.step]]
use = "SliceNeurons"
ratio = "{ratio}"

[[recipe]]
name = "trained"
[[recipe.step]]
use = "SliceNeurons"
ratio = 0.5
[[recipe.step]]
use = "Distill"
steps = 2
"""
TEXT = "\n\n".join(f"Anna has {n} apples and Otto has {n + 1} pears: {2 * n + 1} fruits." for n in range(60))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a text, a model of two layers, and recipes."""
    place = tmp_path_factory.mktemp("sweep")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    (place / "recipes.toml").write_text(RECIPES, encoding="utf-8")
    arguments = ["--shape", "smallest", "--vocabulary", "300", "--context", "64", "--steps", "4", "--batch", "4"]
    assert main(["train", "--text", str(place / "text.txt"), "--out", str(place / "model"), *arguments]) == 0
    return place


def run(place, out, *options):
    names = ["--model", str(place / "model"), "--text", str(place / "text.txt"), "--out", str(place / out)]
    return main(["sweep", str(place / "recipes.toml"), *names, *options])


def points(place, out):
    """{"recipe, seed": result} of the lines that a sweep wrote."""
    lines = (place / out / "points.jsonl").read_text("utf-8").splitlines()
    return {line["name"].rpartition(",")[0]: line["result"] for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def swept(place):
    """What threads found."""
    assert run(place, "threads", "--threads", "--seeds", "0", "1") == 0
    return points(place, "threads")


def test_every_recipe_with_every_seed(swept, place, capsys):
    names = {f"{name}, seed {seed}" for name in ("keep-0-5", "keep-1-0", "trained") for seed in (0, 1)}
    assert set(swept) == names | {"dense, seed 0"}
    change = {name: point["measured"]["change"]["nats"] for name, point in swept.items()}
    assert change["dense, seed 0"] == change["keep-1-0, seed 0"] == 0
    assert change["keep-0-5, seed 0"] == change["keep-0-5, seed 1"] != 0  # all statistics, no training: no chance
    assert change["trained, seed 0"] != change["trained, seed 1"]
    before = (place / "threads" / "points.jsonl").read_bytes()
    assert run(place, "threads", "--threads", "--seeds", "0", "1") == 0  # nothing is left to do
    assert (place / "threads" / "points.jsonl").read_bytes() == before
    printed = capsys.readouterr().out
    assert "keep 0.5" in printed and "sweep.html" in printed
    assert "<svg" in (place / "threads" / "sweep.html").read_text("utf-8")


def test_the_time_left_is_that_of_the_points_of_this_run():
    assert command.time_left({3: 50.0}, 10) == ""
    assert command.time_left({3: 50.0, 4: 80.0, 5: 90.0}, 10) == "about 2 minutes left"
    assert command.time_left({0: 50.0, 10: 60.0}, 10) == "about 1 second left"


def results_of(found):
    """What does not depend on the time that it took, or on who did it."""
    return {name: [point["measured"], point["recipe"], point["record"]] for name, point in found.items()}


def test_the_plan_is_printed_first(place, monkeypatch, capsys):
    def sweep(jobs, work, make_executor, path, progress, check):
        with make_executor():
            raise ConfigError("after the plan")

    monkeypatch.setattr(command, "sweep", sweep)
    monkeypatch.setattr(compression_plan, "available_memory", lambda: 2_340_000_000)
    memory = {}
    for workers in (1, 3):
        capsys.readouterr()
        assert run(place, "plan", "--workers", str(workers), "--seeds", "0", "1") == 2
        first, second, last = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"model: \d+ k parameters; 7 points, of 3 recipes and dense", first)
        form = rf"expected: {workers} workers?, (\d+) MB of memory; 2\.34 GB are available"
        memory[workers] = int(re.fullmatch(form, second)[1])
        assert last == "tinyslm: after the plan" and len(second) <= 80
    assert 2.5 * memory[1] < memory[3] < 3.1 * memory[1]


def test_processes_find_the_same(swept, place):
    assert run(place, "processes", "--workers", "2", "--seeds", "0", "1") == 0
    assert results_of(points(place, "processes")).keys() == results_of(swept).keys()
    assert run(place, "process", "--workers", "1", "--seeds", "0", "1") == 0
    assert results_of(points(place, "process")) == results_of(swept)


def test_a_cluster_finds_the_same(swept, place):
    with local_cluster() as cluster:
        assert run(place, "cluster", "--scheduler", cluster.scheduler_address, "--seeds", "0", "1") == 0
    found = points(place, "cluster")
    for name, point in swept.items():  # one thread there, several here: sums in another order
        assert found[name]["measured"]["loss"]["nats"] == pytest.approx(point["measured"]["loss"]["nats"], abs=1e-4)


def test_another_model_is_not_taken_for_this_one(place):
    assert run(place, "again", "--threads") == 0
    before = points(place, "again")
    config = place / "model" / "config.json"
    content = config.read_text("utf-8")
    try:
        config.write_text(content.replace('"rms_norm_eps": ', '"rms_norm_eps": 1'), "utf-8")
        assert run(place, "again", "--threads") == 0
    finally:
        config.write_text(content, "utf-8")
    after = points(place, "again")  # of two lines with the same recipe and seed, the later one
    assert len((place / "again" / "points.jsonl").read_text("utf-8").splitlines()) == 2 * len(before)
    for name, point in before.items():
        assert point["measured"]["loss"] != after[name]["measured"]["loss"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--workers", "0"], "--workers is 0"),
        (["--seeds", "-1"], "--seeds has -1"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "not allowed with"),
        (["--scheduler", "nowhere"], "no Dask scheduler answers at nowhere"),
    ],
)
def test_bad_input_gets_one_line(place, capsys, options, message):
    capsys.readouterr()
    assert run(place, "never", *options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.strip().splitlines()) == 1 and message in printed.err


def test_a_recipe_that_cannot_be_applied_does_not_stop_the_others(place, capsys):
    text = RECIPES + '\n[[recipe]]\nname = "impossible"\n[[recipe.step]]\nuse = "SliceNeurons"\nratio = 7\n'
    (place / "more.toml").write_text(text, "utf-8")
    names = ["--model", str(place / "model"), "--text", str(place / "text.txt"), "--out", str(place / "more")]
    assert main(["sweep", str(place / "more.toml"), *names, "--threads"]) == 0
    assert "ratio is the fraction of neurons kept" in capsys.readouterr().out


def test_an_interrupted_sweep_says_how_to_resume(place, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(command, "sweep", interrupt)
        assert run(place, "interrupted") == 130
    assert_one_line(capsys.readouterr(), "interrupted; the finished points are kept. Resume with the same command")


def test_the_text_of_the_model_is_used(swept, place, capsys):
    """Without --text: the same jobs, so every point is found in the file."""
    recipes, model, out = place / "recipes.toml", place / "model", place / "threads"
    before = (out / "points.jsonl").read_bytes()
    capsys.readouterr()
    arguments = ["sweep", recipes, "--model", model, "--out", out, "--threads", "--seeds", "0", "1"]
    assert main([str(argument) for argument in arguments]) == 0
    assert f"text of the model: {place / 'text.txt'} (one document per paragraph)\n" in capsys.readouterr().err
    assert (out / "points.jsonl").read_bytes() == before
    assert "text.txt (one document per paragraph)" in (out / "sweep.html").read_text("utf-8")


def test_a_second_sweep_to_one_directory_is_refused(swept, place, capsys):
    before = (place / "threads" / "points.jsonl").read_bytes()
    capsys.readouterr()
    with output_lock(place / "threads"):
        assert run(place, "threads", "--threads", "--seeds", "2") == 2
    assert_one_line(capsys.readouterr(), "threads: another process (", "is writing it")
    assert (place / "threads" / "points.jsonl").read_bytes() == before


def test_leftovers_of_a_killed_sweep_are_removed(swept, place):
    before = sorted(path.name for path in (place / "threads").iterdir())
    (place / "threads" / ".sweep.html.0123abcd.partial").write_text("")
    assert run(place, "threads", "--threads", "--seeds", "0", "1") == 0
    assert sorted(path.name for path in (place / "threads").iterdir()) == before


DAMAGED = [
    (("measured",), "measured.bits is None, expected a finite number"),
    (("measured", "bits"), "measured.bits is"),
    (("measured", "parameters"), "measured.parameters is"),
    (("measured", "multiply_adds"), "measured.multiply_adds is"),
    (("measured", "loss"), "measured.loss.nats is None"),
    (("measured", "loss", "nats"), "measured.loss.nats is"),
    (("measured", "loss", "tokens"), "measured.loss.tokens is"),
    (("measured", "change", "nats"), "measured.change.nats is"),
    (("steps",), "steps is"),
    (("steps", 0, "step"), "steps is"),
    (("record",), "record.versions.tinyslm is None, expected a text"),
    (("record", "versions", "tinyslm"), "record.versions.tinyslm is"),
    (("name",), "name is"),
    (("recipe",), "recipe is"),
    (("seed",), "seed is"),
    (("experiment",), "experiment is"),
    (("threads",), "threads is"),
    (("files",), "files is"),
]


@pytest.mark.parametrize(("keys", "message"), DAMAGED, ids=lambda value: ".".join(map(str, value)))
def test_damaged_points_are_refused_with_file_and_key(swept, place, capsys, keys, message):
    path = place / "threads" / "points.jsonl"
    before = path.read_bytes()
    lines = before.splitlines()
    number = next(i for i, line in enumerate(lines) if b'"keep-0-5, seed 0' in line)
    capsys.readouterr()
    try:
        for wrong in (None, [], [1], {}, {"error": 1}, True, math.nan, math.inf, 10**30, -(10**400), "missing"):
            point = json.loads(lines[number])
            *parents, last = keys
            value = point["result"]
            for key in parents:
                value = value[key]
            if wrong == "missing":
                del value[last]
            else:
                value[last] = wrong
            changed = b"\n".join([*lines[:number], json.dumps(point).encode(), *lines[number + 1 :]]) + b"\n"
            path.write_bytes(changed)
            assert run(place, "threads", "--threads", "--seeds", "0", "1") == 2, wrong
            captured = capsys.readouterr()
            assert_one_line(captured, "points.jsonl: keep-0-5, seed 0", message, "remove this line, or the file")
            assert captured.out == "" and path.read_bytes() == changed
    finally:
        path.write_bytes(before)


def test_a_broken_model_is_an_error_of_its_recipe(swept):
    measured = next(iter(swept.values()))["measured"]
    command.check_measured(measured)
    for nats in (math.nan, math.inf):
        broken = copy.deepcopy(measured)
        broken["loss"]["nats"] = nats
        with pytest.raises(ConfigError, match=r"measured\.loss\.nats is (nan|inf), expected a finite number"):
            command.check_measured(broken)


def test_a_recorded_error_is_read_again(swept, place, capsys):
    path = place / "errors" / "points.jsonl"
    path.parent.mkdir()
    lines = [json.loads(line) for line in (place / "threads" / "points.jsonl").read_text("utf-8").splitlines()]
    lines[1]["result"] = {"error": "no memory"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    capsys.readouterr()
    assert run(place, "errors", "--threads", "--seeds", "0", "1") == 0
    assert ": no memory" in capsys.readouterr().out
