"""The kinds of processes that are killed: their arguments, what they may leave, and how they are run again."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np

import tinyslm
from tests.commands.files import TEXT
from tests.kills.victim import run
from tinyslm.commands.unfinished_run import ROWS
from tinyslm.recipes.sweep import read_finished

RECIPES = """
[[recipe]]
name = "keep {ratio}"
grid.ratio = [0.5, 1.0]
[[recipe.step]]
use = "SliceNeurons"
ratio = "{ratio}"
"""
SMALLEST = ("--shape", "smallest", "--vocabulary", "280", "--context", "24", "--batch", "4", "--threads", "1")


def run_quietly(arguments):
    """(exit status, standard error) of a run in this process."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        status = run([str(argument) for argument in arguments])
    return status, error.getvalue()


def require(condition, problem):
    if not condition:
        raise AssertionError(problem)


def require_status(arguments, expected):
    status, error = run_quietly(arguments)
    require(status == expected, f"{' '.join(map(str, arguments[:2]))} exits with {status}: {error[-300:]}")


def require_same_model(found, expected):
    """The model loads, and each file has the bytes of the uninterrupted run, except for the times in training.json."""
    model, _ = tinyslm.load(found)
    require(np.isfinite(model(np.array([[0, 5, 7]]))).all(), f"{found}: logits are not finite")
    names = {path.name for path in expected.iterdir()}
    require({path.name for path in found.iterdir()} == names, f"{found}: holds {sorted(os.listdir(found))}")
    for name in names - {"training.json"}:
        require((found / name).read_bytes() == (expected / name).read_bytes(), f"{found / name}: other bytes")


def visible(directory):
    """Names in a directory that do not begin with a dot; none if it does not exist."""
    return sorted(name for name in os.listdir(directory) if name[0] != ".") if directory.exists() else []


class Kind:
    """Inputs are in `inputs`, the output of an uninterrupted run in `reference`, that of the killed one in `place`."""

    def __init__(self, inputs: Path):
        self.inputs = inputs
        self.reference = inputs / type(self).__name__.lower()

    def arguments(self, place):
        raise NotImplementedError

    def check(self, place):
        """Raise AssertionError unless what the killed process left is correct, and a complete run leaves nothing else.

        Returns a word for what the killed process had reached.
        """
        raise NotImplementedError


class Train(Kind):
    def arguments(self, place):
        text = ("--text", self.inputs / "text.txt", "--steps", "8", "--checkpoint-seconds", "0")
        return ["train", "--out", place / "model", *text, *SMALLEST]

    def check(self, place):
        reached = "begun"
        if (place / "model").exists():
            reached = "finished"
            require_same_model(place / "model", self.reference / "model")
        elif not (place / "model.training").exists():
            reached = "nothing"
            status, error = run_quietly(["train", "--resume", "--out", place / "model"])
            require(status == 2 and "no training to resume" in error, f"resuming nothing: {status} {error}")
            require_status(self.arguments(place), 0)
        require_status(["train", "--resume", "--out", place / "model"], 0)
        require_same_model(place / "model", self.reference / "model")
        losses = [json.loads((side / "model/training.json").read_text())["losses"] for side in (place, self.reference)]
        require(losses[0] == losses[1], "other losses")
        return reached


class Compress(Kind):
    def arguments(self, place):
        text = ("--text", self.inputs / "text.txt", "--recipe", "int8-weights")
        return ["compress", self.inputs / "train" / "model", "--out", place / "out", *text]

    def check(self, place):
        out, expected = place / "out", self.reference / "out"
        found = visible(out)
        for name in set(found) - {"results.json", "report.html", ROWS}:
            require_same_model(out / name, expected / name)
        if "results.json" in found:
            rows = json.loads((out / "results.json").read_text("utf-8"))["rows"]
            require({row["directory"] for row in rows} <= set(found), "results.json names models that are missing")
        if ROWS in found or "results.json" in found:
            status, error = run_quietly(self.arguments(place))
            refusal = "resume it with --resume" if ROWS in found else "exists already"
            require(status == 2 and refusal in error, f"compressing again: {status} {error}")
            require_status(["compress", "--out", out, "--resume"], 0)
        else:
            require(found == [], f"no {ROWS} beside {found}")
            status, error = run_quietly(["compress", "--out", out, "--resume"])
            require(status == 2 and "no run to resume" in error, f"resuming nothing: {status} {error}")
            require_status(self.arguments(place), 0)
        rows = [json.loads((side / "results.json").read_text("utf-8"))["rows"] for side in (out, expected)]
        for row in rows[0] + rows[1]:
            for key in ("prompt_speed", "generation_speed", "steps"):  # with times
                del row[key]
        require(rows[0] == rows[1], "other rows")
        require(visible(out) == visible(expected), f"holds {visible(out)}")
        for name in set(visible(out)) - {"results.json", "report.html"}:
            require_same_model(out / name, expected / name)
        return f"{len(found)} files" if found else "nothing"


class Sweep(Kind):
    def arguments(self, place, executor=()):
        text = ("--text", self.inputs / "text.txt", "--workers", "2", *executor)
        recipes, model = self.inputs / "recipes.toml", self.inputs / "train" / "model"
        return ["sweep", recipes, "--model", model, "--out", place / "s", *text]

    def check(self, place):
        points, expected = place / "s" / "points.jsonl", read_finished(self.reference / "s" / "points.jsonl")
        before = points.read_bytes() if points.exists() else b""
        complete = before[: before.rfind(b"\n") + 1]
        require_status(self.arguments(place, ["--threads"]), 0)
        require(points.read_bytes().startswith(complete), "points were changed")
        names = [json.loads(line)["name"] for line in points.read_bytes().splitlines()]
        require(sorted(names) == sorted(expected), f"points are {names}")
        for name, point in read_finished(points).items():
            require(point["measured"] == expected[name]["measured"], f"{name}: other measurements")
        require(visible(place / "s") == visible(self.reference / "s"), f"holds {visible(place / 's')}")
        lines = complete.count(b"\n")
        return f"{lines} points"


class Save(Kind):
    def arguments(self, place):
        return ["save", self.inputs / "train" / "model", place / "saved"]

    def check(self, place):
        expected = self.reference / "saved"
        reached = "finished" if (place / "saved").exists() else "nothing"
        if reached == "finished":
            require_same_model(place / "saved", expected)
            shutil.rmtree(place / "saved")
        require_status(self.arguments(place), 0)
        require_same_model(place / "saved", expected)
        return reached


class Export(Kind):
    def arguments(self, place):
        return ["export", self.inputs / "train" / "model", "--to", "gguf", place / "model.gguf"]

    def check(self, place):
        file, expected = place / "model.gguf", (self.reference / "model.gguf").read_bytes()
        reached = "finished" if file.exists() else "nothing"
        if reached == "finished":
            require(file.read_bytes() == expected, "model.gguf: other bytes")
            file.unlink()
        require_status(self.arguments(place), 0)
        require(file.read_bytes() == expected, "model.gguf of the second run: other bytes")
        return reached


def write_inputs(inputs):
    """The text and the recipes."""
    (inputs / "text.txt").write_text(TEXT, "utf-8")
    (inputs / "recipes.toml").write_text(RECIPES, "utf-8")
