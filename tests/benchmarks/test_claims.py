"""The table of claims: verdicts follow from numbers, and every claim says where it comes from."""

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest

from tests.benchmarks.claims import __main__ as program
from tests.benchmarks.claims.__main__ import CLAIMS, FIRST, TOPICS, judged, main, markdown, measured, table_row
from tests.benchmarks.claims.claim import Claim, in_order, spread
from tests.benchmarks.claims.low_rank import RATIOS, at_every_ratio
from tinyslm.errors import ConfigError
from tinyslm.load_save import data_directory
from tinyslm.runtime import default_threads


def a_claim(name, measure, order):
    """One about the order of what was measured."""
    return Claim(name, "One is less.", "never (nobody)", measure, lambda results: in_order(results, order), "Why.")


@pytest.mark.parametrize(
    "lower, higher, holds",
    [
        ([1, 2, 3], [2, 3, 4], True),
        ([1, 2, 3], [2, 3, 2.9], True),  # in the mean, and in two of three
        ([1, 2, 3], [0.9, 1.9, 9], False),  # in the mean only
        ([1, 2, 3], [1.1, 2.1, 1], False),  # in two of three only
        ([1, 2, 3], [1, 2, 3], False),
    ],
)
def test_an_order_holds_in_the_mean_and_in_most_seeds(lower, higher, holds):
    verdict = in_order({"a": np.array(lower), "b": np.array(higher)}, ["a", "b"])
    assert verdict.holds is holds and ("<" in verdict.ours) is holds


def test_an_order_of_three_needs_both_steps():
    results = {"a": np.zeros(3), "b": np.ones(3), "c": np.full(3, 0.5)}
    assert not in_order(results, ["a", "b", "c"]).holds and in_order(results, ["a", "c", "b"]).holds


def test_two_lanes_are_measured_in_processes_of_their_own(tmp_path, monkeypatch):
    """And the time of all is that of the longer one."""

    def claim(name):
        def measure(bench, seed):
            time.sleep(0.1)
            return {"a": os.getpid(), "b": default_threads()}

        return a_claim(name, measure, ["b", "a"])

    claims = {name: claim(name) for name in ("first", "second", "third")}
    lanes = [[SimpleNamespace(CLAIMS=[claims["first"], claims["third"]])], [SimpleNamespace(CLAIMS=[claims["second"]])]]
    monkeypatch.setattr(program, "CLAIMS", claims)
    monkeypatch.setattr(program, "LANES", lanes)
    monkeypatch.setattr(program, "Bench", lambda split: None)
    monkeypatch.setattr(program, "ProcessPoolExecutor", partial(ProcessPoolExecutor, mp_context=get_context("fork")))
    out = tmp_path / "claims.json"
    main(["--seeds", "1", "--out", str(out)])
    content = json.loads(out.read_text("utf-8"))
    assert [row["name"] for row in content["claims"]] == ["first", "second", "third"]
    first, second, third = (row["measured"][0] for row in content["claims"])
    assert first["a"] == third["a"] != second["a"] and os.getpid() not in (first["a"], second["a"])
    assert first["b"] == max(default_threads() // 2, 1)
    seconds = [row["seconds"] for row in content["claims"]]
    assert content["seconds"] == pytest.approx(max(seconds[0] + seconds[2], seconds[1]))


def test_spreads_are_standard_deviations_over_seeds():
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 1.000" and spread([0.5], 1) == "0.5 ± 0.0"


def test_every_claim_has_a_name_of_its_own_and_a_source(capsys):
    assert len(CLAIMS) == sum(len(topic.CLAIMS) for topic in TOPICS)
    assert all(claim.statement and claim.published and claim.reason for claim in CLAIMS.values())
    assert list(CLAIMS)[: len(FIRST)] == FIRST
    main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(CLAIMS)
    with pytest.raises(SystemExit):
        main(["nothing"])


def test_a_row_holds_what_every_seed_gave():
    claim = a_claim("three", lambda bench, seed: {"a": seed, "b": bench}, ["a", "b"])
    row = measured(claim, 7, [1, 2, 3])
    assert row["measured"] == [{"a": 1.0, "b": 7.0}, {"a": 2.0, "b": 7.0}, {"a": 3.0, "b": 7.0}]
    assert row["verdict"] == "holds" and "2.000 ± 1.000 a < 7.000 ± 0.000 b" in table_row(row)
    assert table_row(row).endswith("| **holds** | Why. |")


def test_a_table_that_was_begun_goes_on_and_one_with_other_seeds_does_not(tmp_path, monkeypatch, capsys):
    calls = []

    def measure(bench, seed):
        calls.append(seed)
        return {"a": seed, "b": seed + 1}

    claims = {name: a_claim(name, measure, ["a", "b"]) for name in ("first", "second")}
    monkeypatch.setattr(program, "CLAIMS", claims)
    monkeypatch.setattr(program, "LANES", [[SimpleNamespace(CLAIMS=list(claims.values()))]])
    monkeypatch.setattr(program, "Bench", lambda split: None)
    out = tmp_path / "below" / "claims.json"
    main(["second", "--seeds", "1", "2", "--out", str(out)])
    assert json.loads(out.read_text("utf-8"))["command"].endswith(f"claims second --out {out}")
    main(["--seeds", "1", "2", "--out", str(out)])
    content = json.loads(out.read_text("utf-8"))
    assert calls == [1, 2, 1, 2] and [row["name"] for row in content["claims"]] == ["first", "second"]
    assert content["command"].endswith(f"claims --out {out}") and content["seeds"] == [1, 2]
    assert capsys.readouterr().out.count("**holds**") == 3
    table = out.with_suffix(".md").read_text("utf-8")
    assert table == markdown(content) and table.count("| One is less. |") == 2
    assert "seeds [1, 2], on test documents. 2 holds, 0 does not hold, 0 undecided." in table
    monkeypatch.setattr(program, "versions", lambda: content["versions"] | {"teacher": "another"})
    with pytest.raises(ConfigError, match="versions"):
        main(["--seeds", "1", "2", "--out", str(out)])
    with pytest.raises(ConfigError, match="seeds"):
        main(["--seeds", "1", "--out", str(out)])


def test_the_committed_table_is_of_the_built_in_model_and_of_these_claims():
    path = data_directory() / "claims.json"
    content = json.loads(path.read_text("utf-8"))
    assert content["versions"]["teacher"] == program.versions()["teacher"]
    assert [row["name"] for row in content["claims"]] == list(CLAIMS) and content["split"] == "test"
    for row in content["claims"]:
        assert row == judged(CLAIMS[row["name"]], row["measured"], row["seconds"])
    assert path.with_suffix(".md").read_text("utf-8") == markdown(content)


def test_at_every_ratio_names_the_ratio_and_the_order_that_fail():
    results = {f"{name} {ratio}": np.full(3, value) for name, value in (("a", 1.0), ("b", 2.0)) for ratio in RATIOS}
    assert at_every_ratio(results, [("a", "b")]).holds
    results["a 0.9"] = np.full(3, 2.5)
    verdict = at_every_ratio(results, [("a", "b")])
    assert not verdict.holds and verdict.ours.count("not") == 1
    assert "0.9: 2.500 ± 0.000 a, 2.000 ± 0.000 b (not a < b)" in verdict.ours
