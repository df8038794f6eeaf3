"""The table of speeds: ratios are taken within rounds, verdicts follow from them, and both sides do the same work."""

import json
import os
import time

import numpy as np
import pytest

from tests.benchmarks.speed import __main__ as program
from tests.benchmarks.speed import compressing, figure
from tests.benchmarks.speed.__main__ import CASES, cost, lines, main
from tests.benchmarks.speed.case import OURS, Case, measured, timed
from tests.benchmarks.speed.peer import Peer
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Linear, LinearLayer
from tinyslm.tree import named_modules


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """No pauses before measurements: these tests compare counts and outputs, not times."""
    monkeypatch.setattr("tests.benchmarks.speed.case.REST", 0.0)


def in_turn(*costs):
    """A runner that costs one of these after the other."""
    return iter(costs).__next__


def test_ratios_are_taken_within_rounds_and_the_first_round_is_not_counted():
    case = Case("a", "work", lambda: {OURS: in_turn(100, 1, 2, 4), "peer": in_turn(1, 3, 6, 12)}, {"peer": (2, 4)})
    row = measured(case, 3)
    assert row["comparisons"]["peer"]["ratio"] == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert row["costs"][OURS]["median"] == 2.0 and row["comparisons"]["peer"]["verdict"] == "floor"
    assert "ratio 3.00" in lines(row)[2] and "floor reached" in lines(row)[2]


def test_who_begins_changes_from_round_to_round():
    order = []
    runners = {name: lambda name=name: order.append(name) or 1.0 for name in (OURS, "peer")}
    measured(Case("a", "work", lambda: runners, {}), 3)
    assert order == [OURS, "peer", "peer", OURS] * 2


@pytest.mark.parametrize(
    "at_most, ratio, verdict",
    [(False, 4, "aim"), (False, 3.9, "floor"), (False, 1.9, "missed"),
     (True, 2, "aim"), (True, 2.1, "floor"), (True, 4.1, "missed")],
)  # fmt: skip
def test_bounds_are_lower_or_upper(at_most, ratio, verdict):
    bounds = (4, 2) if at_most else (2, 4)
    assert Case("a", "work", None, {"peer": bounds}, at_most).verdict("peer", ratio) == verdict
    assert Case("a", "work", None, {"peer": bounds}, at_most).verdict("other", ratio) is None


@pytest.mark.parametrize(
    "durations, calls, median", [([0.5, 0.25, 0.125, 0.125], 4, 0.1875), ([0.75, 0.25], 2, 0.5), ([4.0], 1, 4.0)]
)
def test_a_second_of_calls_is_timed(monkeypatch, durations, calls, median):
    """The slow first ones count for little, and what takes longer is called once."""
    clock, made = [0.0], []

    def work():
        clock[0] += durations[len(made)]
        made.append(None)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert timed(work, units=2)() == median / 2 and len(made) == calls


def test_costs_are_shown_in_units_that_suit_them():
    assert [cost(value, "seconds") for value in (2.5, 0.0025, 2.5e-6)] == ["2.5 s", "2.5 ms", "2.5 us"]
    assert cost(3e8, "bytes") == "300 MB"


def test_the_program_lists_refuses_and_writes(tmp_path, monkeypatch, capsys):
    main(["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(CASES)
    for wrong in (["nothing"], ["start", "--rounds", "0"]):
        with pytest.raises(SystemExit):
            main(wrong)
    case = Case("a", "work", lambda: {OURS: lambda: 1.0, "transformers": lambda: 5.0}, {"transformers": (2, 4)})
    monkeypatch.setattr(program, "CASES", {"a": case})
    out = tmp_path / "below" / "benchmarks.json"
    main(["a", "--rounds", "2", "--out", str(out)])
    content = json.loads(out.read_text("utf-8"))
    assert content["rounds"] == 2 and content["cases"][0]["comparisons"]["transformers"]["verdict"] == "aim"
    assert (
        content["command"] == f"python -m tests.benchmarks.speed a --rounds 2 --out {out}"
        and content["versions"]["numpy"]
    )
    figure.main([str(out), str(tmp_path / "figure.png")])
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        figure.main([str(tmp_path / "none.json"), str(tmp_path / "figure.png")])
    assert "none.json is not a table" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train-1m", "generate-1m", "prompt-1m", "integers", "sparse", "low-rank", "start"])
def test_a_case_runs_and_its_sides_agree(name, monkeypatch):
    """Outputs of installed peers are compared by `prepare`. One call is timed, not a second."""
    monkeypatch.setattr("tests.benchmarks.speed.case.SECONDS", 1e-9)
    monkeypatch.setattr("tests.benchmarks.speed.compressed.MATRICES", 2)
    runners = CASES[name].prepare()
    assert OURS in runners and len(runners) >= 2
    assert all(np.isfinite(runner()) and runner() > 0 for runner in runners.values())


@pytest.mark.parametrize("name", ["gptq-135m", "wanda-135m", "int8-135m", "export-transformers", "export-gguf"])
def test_a_case_of_compressing_does_its_work(name, monkeypatch):
    """On a small shape with the names of the large one, of four blocks."""
    if name not in CASES:
        pytest.skip("needs the package gguf")
    monkeypatch.setattr("tests.benchmarks.speed.case.SECONDS", 1e-9)
    monkeypatch.setattr(compressing, "BLOCKS", 4)
    monkeypatch.setattr(compressing, "DOCUMENTS", (2, 9))
    monkeypatch.setitem(CATALOGUE, compressing.SHAPE, llama_shape(50, 16, 32, 6, 2, 1))
    runners = CASES[name].prepare()
    assert OURS in runners and len(runners) == 2
    assert all(np.isfinite(runner()) and runner() > 0 for runner in runners.values())


@pytest.mark.parametrize("name", compressing.STEPS)
def test_compressed_shapes_have_the_blocks_that_the_case_states(name, monkeypatch):
    monkeypatch.setattr(compressing, "DOCUMENTS", (2, 9))
    monkeypatch.setitem(CATALOGUE, compressing.SHAPE, llama_shape(50, 16, 32, 6, 2, 1))
    small = compressing.compression(name, 3)()
    assert len(small.layers) == small.config.num_hidden_layers == len(small.config.ropes) == 3
    assert not any(type(layer) is Linear for layer in named_modules(small.layers, LinearLayer).values())


def test_a_peer_works_in_a_process_that_imports_nothing_of_ours():
    peer = Peer("functools:partial", sorted, [3, 1, 2])
    assert peer() == peer() == [1, 2, 3] and 0 < peer.runner(2)() < 1
    modules = Peer("functools:partial", eval, "list(__import__('sys').modules)")()
    assert "tests.benchmarks.speed.peer" in modules and not any(name.startswith("tinyslm") for name in modules)


def test_what_fails_in_a_peer_is_told():
    with pytest.raises(RuntimeError, match="nothing_there"):
        Peer("functools:nothing_there")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        Peer("functools:partial", divmod, 1, 0)()
    with pytest.raises(RuntimeError, match="ended"):
        Peer("os:_exit", 3)
    with pytest.raises(RuntimeError, match="ended"):
        Peer("functools:partial", os._exit, 3)()


def test_names_are_unique():
    names = [case.name for topic in program.TOPICS for case in topic.CASES]
    assert len(names) == len(set(names)) == len(CASES)
    assert all(
        aim <= floor if case.at_most else floor <= aim for case in CASES.values() for floor, aim in case.bounds.values()
    )
