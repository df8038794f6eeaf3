"""The table of speeds: ratios are taken within rounds, verdicts follow from them, and all runners do the same work."""

import json
import os
import time

import numpy as np
import pytest

from tests.benchmarks.speed import __main__ as program
from tests.benchmarks.speed import compressing, decoder_peers, figure, machine
from tests.benchmarks.speed.__main__ import CASES, cost, lines, main
from tests.benchmarks.speed.case import OURS, Absent, Case, Noted, measured, timed
from tests.benchmarks.speed.generation import own_pass
from tests.benchmarks.speed.llama_cpp_decoder import Request
from tests.benchmarks.speed.peer import Peer, runners_of, start_peer
from tests.benchmarks.speed.prompts import check_most_probable
from tinyslm.generation import generate
from tinyslm.models import random_model
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
    assert lines(row)[1:] == [
        "    tinyslm            2 s",
        "    peer               6 s  3.00 (3.00-3.00)  floor 2 met, aim 4",
    ]


def test_absent_peers_and_notes_are_shown_and_recorded():
    prepared = {OURS: lambda: 0.5, "peer": Absent("peer not installed"), "prepare, seconds": Noted(0.01234)}
    row = measured(Case("a", "work", lambda: prepared, {"peer": (2, 4)}, unit="seconds per token"), 1)
    assert row["absent"] == {"peer": "peer not installed"} and row["noted"] == {"prepare, seconds": 0.01234}
    assert row["comparisons"] == {} and list(row["costs"]) == [OURS]
    assert lines(row)[1:] == [
        "    tinyslm           2.00 tokens/s",
        "    peer               not measured  peer not installed",
        "    prepare, seconds         0.0123",
    ]


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
    """The median ignores slow first calls. A longer call is made once."""
    clock, made = [0.0], []

    def work():
        clock[0] += durations[len(made)]
        made.append(None)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert timed(work, units=2)() == median / 2 and len(made) == calls


def test_a_function_can_measure_itself(monkeypatch):
    monkeypatch.setattr("tests.benchmarks.speed.case.SECONDS", 1e-9)

    class Work:
        seconds = in_turn(3.0)

        def __call__(self):
            raise AssertionError("only its own time is requested")

    assert timed(Work(), units=2)() == 1.5


def test_costs_are_shown_in_suitable_units():
    assert [cost(value, "seconds") for value in (2.5, 0.0025, 2.5e-6)] == ["2.5 s", "2.5 ms", "2.5 us"]
    assert cost(3e8, "bytes") == "300 MB"
    assert [cost(value, "seconds per token") for value in (0.25, 4e-4)] == ["4.00 tokens/s", "2,500 tokens/s"]


def test_the_program_lists_refuses_and_writes(tmp_path, monkeypatch, capsys):
    for name in program.BLAS_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    main(["--list"])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(CASES) and all(line[21:].strip() and len(line) <= 80 for line in shown)
    for wrong in (["nothing"], ["start", "--rounds", "0"]):
        with pytest.raises(SystemExit):
            main(wrong)
    runners = {OURS: lambda: 1.0, "transformers": lambda: 5.0, "torch.compile": lambda: 4.0, "llama.cpp": lambda: 4.1}
    case = Case("a", "work", lambda: runners, {"transformers": (2, 4)})
    monkeypatch.setattr(program, "CASES", {"a": case})
    out = tmp_path / "below" / "benchmarks.json"
    main(["a", "--rounds", "2", "--out", str(out)])
    content = json.loads(out.read_text("utf-8"))
    assert content["rounds"] == 2 and content["cases"][0]["comparisons"]["transformers"]["verdict"] == "aim"
    assert content["command"] == f"python -m tests.benchmarks.speed a --rounds 2 --out {out}"
    assert content["versions"]["numpy"] and content["processor"] == machine.processor()
    assert content["blas"] == machine.blas() and set(content["blas"]) in (
        set(), {"library", "version", "kernel", "threads"}
    )  # fmt: skip
    assert content["processor"] in capsys.readouterr().out
    figure.main([str(out), str(tmp_path / "figure.png")])
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        figure.main([str(tmp_path / "none.json"), str(tmp_path / "figure.png")])
    assert "none.json is not a table" in capsys.readouterr().err


@pytest.mark.parametrize("name", program.BLAS_SETTINGS)
def test_results_with_other_settings_of_the_matrix_library_are_not_written(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "Haswell")
    monkeypatch.setattr(program, "CASES", {"a": Case("a", "work", lambda: {OURS: lambda: 1.0}, {})})
    with pytest.raises(SystemExit):
        main(["a", "--rounds", "1", "--out", str(tmp_path / "a.json")])
    message = " ".join(capsys.readouterr().err.split())
    assert f"matrix products have another speed with {name};" in message
    command = "env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m tests.benchmarks.speed a --rounds 1 --out"
    assert command in message and not list(tmp_path.iterdir())
    main(["a", "--rounds", "1"])  # without a file


def test_the_processor_is_described(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: A Name\nstepping\t: 2\nflags\t\t: fpu avx2\n"
    )
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(machine, "processor_name", lambda: "A Name")
    assert machine.processor() == "A Name, family 6, model 207, stepping 2, avx2"
    path.write_text("CPU part\t: 0xd0c\n")
    assert machine.processor() == "A Name"
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert machine.processor() == "A Name"


SLOW = [
    "train-1m",
    "generate-1m",
    "generate-1m-int8",
    "token-window",
    "prompt-1m",
    "integers",
    "sparse",
    "low-rank",
    "start",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_case_runs_and_its_runners_agree(name, monkeypatch):
    """`prepare` compares the outputs of installed peers. One call is timed, not a second."""
    monkeypatch.setattr("tests.benchmarks.speed.case.SECONDS", 1e-9)
    monkeypatch.setattr("tests.benchmarks.speed.compressed.MATRICES", 2)
    prepared = CASES[name].prepare()
    runners = {key: runner for key, runner in prepared.items() if not isinstance(runner, Absent | Noted)}
    assert OURS in runners and len(runners) >= 2 and set(CASES[name].bounds) <= set(prepared)
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


def test_failures_in_a_peer_are_raised():
    with pytest.raises(RuntimeError, match="nothing_there"):
        Peer("functools:nothing_there")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        Peer("functools:partial", divmod, 1, 0)()
    with pytest.raises(RuntimeError, match="ended"):
        Peer("os:_exit", 3)
    with pytest.raises(RuntimeError, match="ended"):
        Peer("functools:partial", os._exit, 3)()


def test_peers_that_cannot_run_are_absent_with_the_reason():
    """The reason is the first paragraph of the error."""
    assert start_peer(("numpy", "nothing_there"), "functools:partial", sorted, []) == Absent(
        "nothing_there not installed"
    )
    code = "raise ValueError('no\\ncompiler\\n\\nSet VERBOSE')"
    assert start_peer((), "builtins:exec", code) == Absent("ValueError: no compiler")
    peers = {"peer": start_peer(("numpy",), "functools:partial", sorted, []), "other": Absent("reason")}
    assert peers["peer"]() == [] and runners_of(peers)["other"] == Absent("reason") and runners_of(peers)["peer"]() > 0


def test_all_peers_of_a_decoder_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = random_model(llama_shape(50, 16, 32, 1, 2, 1))
    found = decoder_peers.decoder_peers(model, "generation", np.ones((1, 1), int), 2, compiled="compiled_generation")
    assert found == {
        "transformers": Absent("torch and transformers not installed"),
        "torch.compile": Absent("torch and transformers not installed"),
        "llama.cpp": Absent("xllamacpp and gguf not installed"),
    }


@pytest.mark.parametrize("fastest", [1, 2])
def test_llama_cpp_takes_the_faster_number_of_threads(tmp_path, monkeypatch, fastest):
    class Fake:
        def __init__(self, packages, make, path, count):
            self.cost = 1.0 if count == fastest else 2.0

        def __call__(self):
            return None

        def runner(self):
            return lambda: self.cost

    monkeypatch.setattr(decoder_peers, "missing", lambda packages: None)
    monkeypatch.setattr(decoder_peers, "start_peer", Fake)
    monkeypatch.setattr(decoder_peers, "save_gguf", lambda *arguments: None)
    model = random_model(llama_shape(2000, 16, 32, 1, 2, 1))
    found = decoder_peers.llama_cpp(model, "prompt", tmp_path / "model.gguf", 2)
    assert found["llama.cpp"].cost == 1.0 and found["llama.cpp threads"] == Noted(fastest)


def test_the_time_of_llama_cpp_is_that_of_the_prompt_and_the_new_tokens():
    class Server:
        def handle_completions(self, request):
            assert request["prompt"] == [7, 8] and request["temperature"] == 0 and not request["cache_prompt"]
            times = {"prompt_n": 2, "prompt_ms": 30.0, "predicted_n": request["n_predict"], "predicted_ms": 500.0}
            return {"timings": times | self.changes}

    server = Server()
    server.changes = {}
    assert Request(server, [7, 8], 5, None).seconds() == 0.53 and Request(server, [7, 8], 1, None).seconds() == 0.03
    server.changes = {"prompt_n": 1}  # it kept a part of the prompt
    with pytest.raises(RuntimeError, match="read 1 tokens and generated 5"):
        Request(server, [7, 8], 5, None).seconds()


@pytest.mark.parametrize("name", ["transformers", "llama.cpp"])
def test_most_probable_tokens_must_agree(name):
    expected = np.array([0.0, 5.0, 4.0, 1.0])
    check_most_probable(expected - 3, expected, name)  # log-probabilities are logits less a constant
    check_most_probable(dict(enumerate((expected - 3).tolist())), expected, name)
    with pytest.raises(AssertionError, match=name):
        check_most_probable(expected + np.array([0, 0, 0.05, 0]), expected, name)


def test_the_models_own_pass_continues_as_the_engine_does():
    model = random_model(llama_shape(50, 16, 32, 2, 2, 1))
    token_ids = np.array([[3, 1], [4, 1]])
    np.testing.assert_array_equal(own_pass(model, token_ids, 6), generate(model, token_ids, 6))


def test_names_are_unique():
    names = [case.name for topic in program.TOPICS for case in topic.CASES]
    assert len(names) == len(set(names)) == len(CASES)
    assert all(
        aim <= floor if case.at_most else floor <= aim for case in CASES.values() for floor, aim in case.bounds.values()
    )
