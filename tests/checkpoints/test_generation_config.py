"""generation_config.json: the values that transformers takes from it, and one line for a wrong value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.checkpoints.generation_config import DEFAULTS, GenerationConfig, read_generation_config
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.generation.sampling import check_draw, check_sampling


def read(directory, values):
    text = values if isinstance(values, str) else json.dumps(values)
    (directory / "generation_config.json").write_text(text)
    return read_generation_config(directory)


def test_without_the_file_it_is_greedy(tmp_path):
    assert read_generation_config(tmp_path) == GenerationConfig((), 0.0, None, None, None, None)


@pytest.mark.parametrize(
    ("value", "ends"), [(2, (2,)), (0, (0,)), ([2, 269], (2, 269)), ([5], (5,)), (None, ()), ([], ()), (-1, ())]
)
def test_end_tokens(tmp_path, value, ends):
    assert read(tmp_path, {"eos_token_id": value}) == GenerationConfig(ends)
    assert read(tmp_path, {"bos_token_id": 1}) == GenerationConfig()


def test_the_settings_of_sampling_count_if_it_samples(tmp_path):
    values = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.05}
    assert read(tmp_path, values | {"do_sample": True}) == GenerationConfig((), 0.6, 20, 0.9, 0.05)
    for others in ({}, {"do_sample": False}, {"do_sample": None}):
        assert read(tmp_path, values | others) == GenerationConfig()


def test_the_repetition_penalty_counts_in_any_case(tmp_path):
    assert read(tmp_path, {"repetition_penalty": 1.1}) == GenerationConfig(repetition_penalty=1.1)
    found = read(tmp_path, {"repetition_penalty": 1.1, "do_sample": True})
    assert found == GenerationConfig((), 1.0, 50, repetition_penalty=1.1)


@pytest.mark.parametrize("missing", [{}, dict.fromkeys(("temperature", "top_k", "top_p", "min_p"))])
def test_the_defaults_of_transformers(tmp_path, missing):
    assert read(tmp_path, {"do_sample": True} | missing) == GenerationConfig((), 1.0, 50)


def test_values_that_keep_every_token(tmp_path):
    values = {"do_sample": True, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1.0}
    assert read(tmp_path, values) == GenerationConfig((), 1.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eos_token_id", "2"),
        ("eos_token_id", -2),
        ("eos_token_id", 1.5),
        ("eos_token_id", True),
        ("eos_token_id", {"a": 1}),
        ("do_sample", 1),
        ("do_sample", "true"),
        ("temperature", -0.1),
        ("temperature", "0.6"),
        ("temperature", float("nan")),
        ("temperature", [0.6]),
        ("top_k", 1.5),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("repetition_penalty", "1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {key} is ") as error:
        read(tmp_path, {"do_sample": True} | {key: value})
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_a_token_of_a_list_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id: 1 is 'x', expected a token id"):
        read(tmp_path, {"eos_token_id": [2, "x"]})


@pytest.mark.parametrize("text", ["", "[]", "{", "nonsense", '"do_sample"', "[" * 100_000])
def test_a_file_that_is_not_an_object(tmp_path, text):
    with pytest.raises(CheckpointError, match=r"generation_config\.json: (is not JSON|holds a)"):
        read(tmp_path, text)


def test_a_directory_of_that_name(tmp_path):
    (tmp_path / "generation_config.json").mkdir()
    with pytest.raises(Error, match=r"generation_config\.json: is a directory"):
        read_generation_config(tmp_path)


numbers = st.one_of(st.integers(-2, 2), st.integers(), st.floats())
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["eos_token_id", *DEFAULTS]), json_values))
def test_any_values_are_valid_settings_or_one_error(tmp_path_factory, values):
    directory = tmp_path_factory.mktemp("any")
    try:
        config = read(directory, {"do_sample": True} | values)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    check_sampling(config.temperature, config.top_k, config.top_p)
    check_draw(None, config.min_p, config.repetition_penalty)
    assert all(type(token) is int and token >= 0 for token in config.end_tokens)
