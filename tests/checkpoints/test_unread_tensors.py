"""Tensors of a file that the model does not have: heads of other tasks are left out, the rest is refused by name."""

import warnings

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_config, change_tensors, small_model
from tests.commands.files import assert_one_line, run
from tinyslm.checkpoints import load_model, outline_model, save_model
from tinyslm.checkpoints.unread_tensors import QUANTIZED
from tinyslm.errors import CheckpointError, CheckpointWarning

HEADS = {
    "score": ("llama", ["score.weight"]),
    "value head": ("gpt2", ["v_head.summary.weight", "v_head.summary.bias"]),
    "token classes": ("bert", ["classifier.weight", "classifier.bias"]),
    "sequence classes": ("distilbert", ["pre_classifier.weight", "pre_classifier.bias", "classifier.weight"]),
    "answers": ("bert", ["qa_outputs.weight"]),
}


@pytest.mark.parametrize("head", HEADS)
def test_the_head_of_another_task_is_left_out(tmp_path, head):
    """The model is that of the same file without the head."""
    family, names = HEADS[head]
    model = small_model(family, tie_word_embeddings=True)
    save_model(tmp_path / "model", model)
    change_tensors(tmp_path / "model", {name: np.ones(3, np.float32) for name in names})
    change_config(tmp_path / "model", architectures=["SomeForTask"])
    for read in (load_model, outline_model):
        with pytest.warns(CheckpointWarning, match="the head of 'SomeForTask' for another task is left out") as caught:
            found = read(tmp_path / "model")
        assert all(repr(name) in str(caught[0].message) for name in names) and len(caught) == 1
    with warnings.catch_warnings(action="ignore"):
        found = load_model(tmp_path / "model")
    assert_same_model(found, model)


def test_a_missing_output_layer_is_named_with_the_head_in_its_place(tmp_path):
    """A decoder that classifies has no output layer; without tied embeddings it cannot predict tokens."""
    save_model(tmp_path / "model", small_model("llama", tie_word_embeddings=False))
    change_tensors(tmp_path / "model", {"score.weight": np.ones(3, np.float32), "lm_head.weight": None})
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' .* is missing; the file holds .* \('score.weight'\)"):
        load_model(tmp_path / "model")


def test_files_without_a_head_give_no_warning(tmp_path, recwarn):
    save_model(tmp_path / "model", small_model("bert"))
    load_model(tmp_path / "model")
    assert not recwarn.list


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    save_model(tmp_path / "model", small_model("llama"))
    change_tensors(tmp_path / "model", {f"score.{number}": np.ones(3, np.float32) for number in range(9)})
    assert run("inspect", tmp_path / "model") == 0
    captured = capsys.readouterr()
    assert_one_line(captured, "the head of 'LlamaForCausalLM' for another task is left out: 'score.0', ", ", ...")
    assert "score.8" not in captured.err and captured.out


@pytest.mark.parametrize("pattern", QUANTIZED)
def test_parts_of_quantized_weights_are_named(tmp_path, pattern):
    save_model(tmp_path / "model", small_model("llama"))
    name = "model.layers.0.self_attn.q_proj.weight" + pattern.replace("*", "x" if pattern.endswith("*") else "")
    change_tensors(tmp_path / "model", {name: np.ones(3, np.float32), "model.layers.0.self_attn.q_proj.weight": None})
    with pytest.raises(
        CheckpointError, match=r"is a part of a weight quantized by .* no quantization_config for it; add"
    ) as caught:
        load_model(tmp_path / "model")
    assert name in str(caught.value)
