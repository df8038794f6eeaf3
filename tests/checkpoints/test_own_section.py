"""Models that the files of their family cannot hold: they are saved with a section of config.json of our own."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_config, small_model
from tests.checkpoints.sliced_models import (
    LOADED_AS_MISTRAL,
    NOT_LOADED,
    WITHOUT_HEAD_DIM,
    is_loaded,
    sliced_cases,
    sliced_model,
)
from tests.recipes.families import calibrated, outputs
from tinyslm.checkpoints import check_savable, load_model, outline_model, save_model
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.models import random_model
from tinyslm.recipes import Quantize, compress
from tinyslm.tree import map_arrays

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3]])


def save(path, model):
    """Save a model; returns the warnings of its form."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_model(path, model)
    return [str(each.message) for each in caught if each.category is CheckpointWarning]


def section(path):
    return json.loads((path / "config.json").read_text()).get("tinyslm")


@pytest.mark.parametrize(("family", "recipe"), sliced_cases())
def test_every_sliced_model_comes_back_bit_for_bit(tmp_path, family, recipe):
    model = sliced_model(family, recipe)
    messages = save(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    assert outline_model(tmp_path / "saved").config == model.config
    for found, wanted in zip(*(outputs(each, calibrated(model)) for each in (again, model)), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert section(tmp_path / "saved") == ({"head_dim": model.config.head_dim} if family in WITHOUT_HEAD_DIM else None)
    assert len(messages) == (0 if is_loaded(family, recipe) else 1)
    assert save(tmp_path / "again", again) == [message.replace("saved:", "again:") for message in messages]
    assert_same_model(load_model(tmp_path / "again"), model)


def test_the_families_are_those_without_a_key_for_the_head_size():
    assert {name for name, family in FAMILIES.items() if "head_dim" not in family.fields} == set(WITHOUT_HEAD_DIM)


@pytest.mark.parametrize("family", NOT_LOADED)
def test_a_model_that_transformers_loads_has_no_warning_and_no_section(tmp_path, family):
    model = small_model(family)
    assert save(tmp_path / "saved", model) == [] and section(tmp_path / "saved") is None


@pytest.mark.parametrize(
    ("family", "recipe", "message"),
    [
        ("llama", "uneven channels", "hidden_size 14 must be a multiple of num_attention_heads 4 there"),
        ("gpt2", "groups", "heads of a gpt2 model have the size 24 / 2 there, but 8 here"),
        ("phi", "groups", "norms of query and key heads have the size 24 // 2 there, but 6 here"),
        ("phi3", "groups", "6 longrope factors are expected there, for heads of the size 40 // 2, but here are 3"),
    ],
)
def test_the_warning_says_why(tmp_path, family, recipe, message):
    (found,) = save(tmp_path / "saved", sliced_model(family, recipe))
    assert found == f"{tmp_path / 'saved'}: transformers does not load this model, tinyslm does: {message}"


@pytest.mark.parametrize("family", LOADED_AS_MISTRAL)
def test_the_warning_names_a_family_that_is_loaded(tmp_path, family):
    recipe, values = LOADED_AS_MISTRAL[family]
    model = sliced_model(family, recipe, **values)
    (message,) = save(tmp_path / "saved", model)
    assert message.endswith("; it does if `family` of the configuration is 'mistral'")
    other = model.replace(config=replace(model.config, family="mistral"))
    assert save(tmp_path / "other", other) == []
    assert_same_model(load_model(tmp_path / "other"), other)
    np.testing.assert_array_equal(other(TOKENS), model(TOKENS))


def test_phi_and_phi3_without_these_parts_are_loaded(tmp_path):
    """Their other tensors follow the key head_dim."""
    config = sliced_model("phi", "groups").config
    assert not FAMILIES["phi"].refusal(replace(config, query_key_norm=False))
    config = sliced_model("phi3", "groups").config
    rope = replace(config.ropes[0], scaling="default", short_factors=(), long_factors=())
    assert not FAMILIES["phi3"].refusal(replace(config, ropes=(rope,) * 2))


def test_a_sliced_model_can_be_quantized_too(tmp_path):
    model, _ = compress(sliced_model("gpt2", "groups"), Quantize())
    assert len(save(tmp_path / "saved", model)) == 1
    assert list(section(tmp_path / "saved")) == ["head_dim", "replaced"]
    assert_same_model(load_model(tmp_path / "saved"), model)


@pytest.mark.parametrize(
    ("family", "values", "error", "message"),
    [
        ("gpt2", {"head_dim": 8, "color": 1}, ConfigError, "tinyslm has the key 'color', expected only head_dim and"),
        ("gpt2", {"head_dim": 0}, ConfigError, "tinyslm: head_dim is 0, expected an integer from 1"),
        ("gpt2", {"head_dim": None}, ConfigError, "tinyslm: head_dim is None, expected an integer from 1"),
        ("gpt2", {"head_dim": "8"}, ConfigError, "tinyslm: head_dim is '8', expected an integer from 1"),
        ("gpt2", {"head_dim": 2**30}, ConfigError, "head_dim is 1073741824, expected at most"),
        ("gpt2", {"head_dim": 9}, CheckpointError, r"c_attn.weight': shape is \(24, 48\), expected \(24, 54\)"),
        ("gpt2", {}, CheckpointError, r"c_attn.weight': shape is \(24, 48\), expected \(24, 72\)"),
        ("modernbert", {"head_dim": 7}, ConfigError, "head_dim is 7, expected an even number of rotary dimensions"),
        ("llama", {"head_dim": 6}, ConfigError, "tinyslm has head_dim, but in this family it is the key head_dim"),
        ("t5", {"head_dim": 10}, ConfigError, "tinyslm has head_dim, but in this family it is the key d_kv"),
    ],
)
def test_a_section_that_lies(tmp_path, family, values, error, message):
    save(tmp_path / "saved", sliced_model(family, "groups"))
    change_config(tmp_path / "saved", tinyslm=values)
    with pytest.raises(error, match=re.escape(str(tmp_path / "saved")) + f".*{message}"):
        load_model(tmp_path / "saved")


def test_what_cannot_be_saved_is_refused_without_a_file(tmp_path):
    model = sliced_model("gpt2", "groups")
    check_savable(model)
    broken = map_arrays(lambda path, array: array[:-1] if path == "embedding.table" else array, model)
    for function in (check_savable, lambda each: save_model(tmp_path / "saved", each)):
        with pytest.raises(CheckpointError, match=r"embedding.table is \(49, 24\), but .* requires \(50, 24\)"):
            function(broken)
        with pytest.raises(ConfigError, match="norm is 'rms', but a gpt2 checkpoint can only hold 'layer'"):
            function(model.replace(config=replace(model.config, norm="rms")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "changes", "message", "others"),
    [
        ("mistral", {"windows": (4, None)}, "windows is .4, None., but a mistral", ["ministral", "smollm3"]),
        ("mistral", {"attention_bias": True}, "attention_bias is True, but a mistral", ["qwen2"]),
        ("mistral", {"query_key_norm": True}, "query_key_norm is True, but a mistral", ["qwen3"]),
        ("llama", {"attention_scale": 0.3}, "attention_scale is 0.3, but a llama", ["granite"]),
        ("llama", {"logit_softcap": 3.0}, "logit_softcap is 3.0, but a llama", []),
    ],
)
def test_the_refusal_names_the_families_that_hold_the_model(tmp_path, family, changes, message, others):
    config = replace(small_model(family).config, **changes)
    model = random_model(config)
    advice = (
        f"; set family={' or '.join(map(repr, others))} in the configuration" if others else "; no other family can"
    )
    with pytest.raises(ConfigError, match=message + " checkpoint can only hold .*" + re.escape(advice) + "$"):
        save_model(tmp_path / "saved", model)
    for other in others:
        renamed = model.replace(config=replace(config, family=other))
        assert save(tmp_path / other, renamed) == []
        again = load_model(tmp_path / other)
        assert_same_model(again, renamed)
        np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
