"""Encoders on disk: with and without each of their optional parts, under every name that files have had for them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_config, change_tensors
from tests.strategies import generic_model
from tinyslm.checkpoints import checkpoint_tensors, load_model, read_safetensors, save_model
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.models import EncoderConfig
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.modules import Linear
from tinyslm.tree import map_modules, named_arrays

BERT = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
DISTILBERT = {"vocab_size": 50, "dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 3}
ROBERTA = BERT | {"type_vocab_size": 1, "max_position_embeddings": 15}  # 13 positions
MODERNBERT = BERT | {"num_hidden_layers": 3, "local_attention": 4, "global_attn_every_n_layers": 2}
SMALL = {
    "bert": BERT,
    "distilbert": DISTILBERT,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), ROBERTA),
    "modernbert": MODERNBERT,
}
CLASSES = {  # the beginning of the classes in transformers
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "mpnet": "MPNet",
    "modernbert": "ModernBert",
}
TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])
COPY = "cls.predictions.decoder"


def read(family, **values):
    return FAMILIES[family].read_config({"max_position_embeddings": 13} | SMALL[family] | values, "config.json")


def small_encoder(family, seed=0, **changes):
    """An encoder in generic position."""
    return generic_model(replace(read(family), **changes), seed, np.float32)


PARTS = [
    ("bert", {}),
    ("bert", {"tie_word_embeddings": False}),
    ("bert", {"pooler": True}),
    ("bert", {"masked_head": False}),
    ("bert", {"masked_head": False, "tie_word_embeddings": False}),
    ("bert", {"masked_head": False, "pooler": True}),
    ("bert", {"masked_head": False, "pooler": True, "without_prefix": True}),
    ("bert", {"masked_head": False, "without_prefix": True}),
    ("bert", {"pooler": True, "without_prefix": True}),
    ("distilbert", {}),
    ("distilbert", {"tie_word_embeddings": False}),
    ("distilbert", {"masked_head": False}),
    ("distilbert", {"masked_head": False, "without_prefix": True}),
    ("roberta", {"pooler": True}),
    ("roberta", {"tie_word_embeddings": False}),
    ("xlm-roberta", {"masked_head": False, "pooler": True, "without_prefix": True}),
    ("camembert", {}),
    ("mpnet", {}),
    ("mpnet", {"tie_word_embeddings": False}),
    ("mpnet", {"masked_head": False, "pooler": True, "without_prefix": True}),
    ("modernbert", {}),
    (
        "modernbert",
        {"tie_word_embeddings": False, "norm_bias": True, "attention_bias": True, "feed_forward_bias": True},
    ),
    ("modernbert", {"decoder_bias": False, "transform_bias": True, "transform_activation": "silu"}),
    ("modernbert", {"tie_word_embeddings": False, "decoder_bias": False}),
    ("modernbert", {"masked_head": False, "without_prefix": True}),
]


@pytest.mark.parametrize(("family", "changes"), PARTS)
def test_round_trip(tmp_path, family, changes):
    model = small_encoder(family, **changes)
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    assert all(array.base is None for array in named_arrays(again).values())
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    stored, expected = read_safetensors(tmp_path / "saved" / "model.safetensors"), checkpoint_tensors(model)
    copies = {copy: name for copy, name in FAMILIES[family].written_copies.items() if name in expected}
    assert stored.keys() == expected.keys() | copies.keys()
    assert bool(copies) == (family in ("roberta", "mpnet") and not model.config.tie_word_embeddings)
    for copy, name in copies.items():  # transformers expects both
        np.testing.assert_array_equal(stored[copy].read(), expected[name])
    values = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert values["architectures"] == [f"{CLASSES[family]}{'ForMaskedLM' if model.config.masked_head else 'Model'}"]


@pytest.mark.parametrize(("family", "changes"), PARTS)
def test_round_trip_of_compressed_models(tmp_path, family, changes):
    def how(path, linear):
        if path.endswith(("up", "query", "transform", "head")):
            return QuantizedLinear.from_linear(linear)
        return MaskedLinear.from_linear(linear, linear.weight > 0) if path.endswith(("down", "pooler")) else linear

    model = map_modules(how, small_encoder(family, **changes), Linear)
    model = model.replace(embedding=QuantizedEmbedding.from_embedding(model.embedding))
    save_model(tmp_path / "saved", model)
    again = load_model(tmp_path / "saved")
    assert_same_model(again, model)
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))


@pytest.mark.parametrize(
    ("family", "part"),
    [("bert", {"masked_head"}), ("bert", {"pooler"}), ("distilbert", {"masked_head"}), ("bert", {"without_prefix"})],
)
def test_the_tensors_decide_which_parts_there_are(tmp_path, family, part):
    """Whatever architecture config.json names, and without any key for the parts."""
    model = small_encoder(family, **dict.fromkeys(part, True))
    save_model(tmp_path / "saved", model)
    change_config(tmp_path / "saved", architectures=["BertForSomethingElse"])
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_the_names_of_the_first_files(tmp_path):
    """gamma and beta, copies of what is tied, positions, and the head for the next sentence, which is not read."""
    model = small_encoder("bert", pooler=True)
    save_model(tmp_path / "saved", model)
    tensors = checkpoint_tensors(model)
    changes = dict.fromkeys(name for name in tensors if "LayerNorm" in name)
    for name in list(changes):
        changes[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = (
            tensors[name]
        )
    changes |= {"cls.seq_relationship.weight": np.ones((2, 24)), "cls.seq_relationship.bias": np.ones(2)}
    changes |= {"bert.embeddings.position_ids": np.arange(13)[None], f"{COPY}.weight": model.embedding.table}
    change_tensors(tmp_path / "saved", changes | {f"{COPY}.bias": model.masked_lm_head.bias})
    found = load_model(tmp_path / "saved")
    assert_same_model(found, model.replace(config=replace(model.config, gamma_beta_names=True)))
    endings = [name.rpartition(".")[2] for name in checkpoint_tensors(found) if "LayerNorm" in name]
    assert endings and set(endings) == {"gamma", "beta"}
    save_model(tmp_path / "again", found)
    assert_same_model(load_model(tmp_path / "again"), found)


def test_the_bias_of_an_untied_head_may_be_stored_as_that_of_a_tied_one(tmp_path):
    model = small_encoder("bert", 1, tie_word_embeddings=False)
    save_model(tmp_path / "saved", model)
    change_tensors(tmp_path / "saved", {f"{COPY}.bias": None, "cls.predictions.bias": model.head.bias})
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_a_head_that_is_no_copy_is_untied(tmp_path):
    """As transformers has it: the bias beside an untied head is not used. Half of a head is refused."""
    tied = small_encoder("bert")
    other = small_encoder("bert", 1, tie_word_embeddings=False).head
    save_model(tmp_path / "saved", tied)
    change_tensors(tmp_path / "saved", {f"{COPY}.weight": other.weight, f"{COPY}.bias": other.bias})
    untied = load_model(tmp_path / "saved")
    assert not untied.config.tie_word_embeddings and untied.masked_lm_head.bias is None
    np.testing.assert_array_equal(untied.head.weight, other.weight)
    np.testing.assert_array_equal(untied.head.bias, other.bias)
    assert COPY + ".bias" in checkpoint_tensors(untied)
    change_tensors(tmp_path / "saved", {f"{COPY}.weight": None})
    with pytest.raises(CheckpointError, match=rf"tensor '{COPY}.bias' differs from 'cls.predictions.bias'"):
        load_model(tmp_path / "saved")


def test_the_bias_of_a_tied_head_may_be_under_the_name_of_its_copy(tmp_path):
    model = small_encoder("bert")
    save_model(tmp_path / "saved", model)
    change_tensors(tmp_path / "saved", {"cls.predictions.bias": None, f"{COPY}.bias": model.masked_lm_head.bias})
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_the_names_of_published_roberta_files(tmp_path):
    """A masked model with a pooler, positions as a tensor, and copies of what is tied."""
    model = small_encoder("roberta", pooler=True)
    save_model(tmp_path / "saved", model)
    changes = {
        "roberta.embeddings.position_ids": np.arange(15)[None],
        "lm_head.decoder.bias": model.masked_lm_head.bias,
    }
    change_tensors(tmp_path / "saved", changes | {"lm_head.decoder.weight": model.embedding.table})
    assert_same_model(load_model(tmp_path / "saved"), model)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_the_names_of_sentence_encoders(tmp_path, family):
    """Without the prefix of the family, and with positions as a tensor."""
    model = small_encoder(family, masked_head=False, pooler=True, without_prefix=True)
    save_model(tmp_path / "saved", model)
    assert "embeddings.word_embeddings.weight" in checkpoint_tensors(model)
    change_tensors(tmp_path / "saved", {"embeddings.position_ids": np.arange(15)[None]})
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_the_bias_beside_an_untied_head_of_roberta_is_not_read(tmp_path):
    model = small_encoder("roberta", 1, tie_word_embeddings=False)
    save_model(tmp_path / "saved", model)
    change_tensors(tmp_path / "saved", {"lm_head.bias": np.ones(50)})
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_a_modernbert_under_the_head_of_another_task(tmp_path):
    """Such a head has a part of the masked-LM head. A file without its own is an encoder."""
    model = small_encoder("modernbert", masked_head=False)
    save_model(tmp_path / "saved", model)
    head = {"head.dense.weight": np.ones((24, 24)), "head.norm.weight": np.ones(24)}
    change_tensors(tmp_path / "saved", head | {"classifier.weight": np.ones((2, 24)), "classifier.bias": np.ones(2)})
    change_config(tmp_path / "saved", architectures=["ModernBertForSequenceClassification"])
    message = r"the head of 'ModernBertForSequenceClassification' for another task is left out: .*'head.dense.weight'"
    with pytest.warns(CheckpointWarning, match=message):
        assert_same_model(load_model(tmp_path / "saved"), model)
    change_tensors(tmp_path / "saved", {"classifier.weight": None, "classifier.bias": None})
    with pytest.raises(CheckpointError, match=r"tensor 'decoder.bias' of shape \(50,\) is missing"):
        load_model(tmp_path / "saved")


def test_roberta_under_the_head_of_another_task(tmp_path):
    model = small_encoder("roberta", masked_head=False)
    save_model(tmp_path / "saved", model)
    change_tensors(
        tmp_path / "saved", {f"classifier.{name}.weight": np.ones((24, 24)) for name in ("dense", "out_proj")}
    )
    with pytest.warns(CheckpointWarning, match="'classifier.dense.weight', 'classifier.out_proj.weight'"):
        assert_same_model(load_model(tmp_path / "saved"), model)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"classifiers.weight": np.ones((2, 24))}, "unknown tensor 'classifiers.weight'"),
        ("distilbert", {"bert.classifier.weight": np.ones((2, 24))}, "unknown tensor 'bert.classifier.weight'"),
        ("bert", {"cls.predictions.bias": None}, r"tensor 'cls.predictions.bias' of shape \(50,\) is missing"),
        ("bert", {"cls.predictions.transform.dense.bias": None}, "transform.dense.bias' of shape .* is missing"),
        ("bert", {"bert.pooler.dense.weight": np.ones((24, 24))}, "tensor 'bert.pooler.dense.bias' .* is missing"),
        ("bert", {"bert.embeddings.LayerNorm.bias": None}, "tensor 'bert.embeddings.LayerNorm.bias' .* is missing"),
        ("distilbert", {"vocab_projector.bias": None}, "tensor 'vocab_projector.bias' .* is missing"),
        ("distilbert", {"distilbert.embeddings.position_embeddings.weight": np.ones((9, 24))}, "shape is"),
        ("roberta", {"roberta.embeddings.position_embeddings.weight": np.ones((13, 24))}, r"expected \(15, 24\)"),
        (
            "mpnet",
            {"mpnet.encoder.relative_attention_bias.weight": None},
            r"bias.weight' of shape \(32, 3\) is missing",
        ),
        ("modernbert", {"model.layers.0.attn_norm.weight": np.ones(24)}, "unknown tensor 'model.layers.0.attn_norm"),
        ("modernbert", {"model.layers.1.attn_norm.weight": None}, "'model.layers.1.attn_norm.weight' .* is missing"),
        ("modernbert", {"head.other.weight": np.ones(24)}, "unknown tensor 'head.other.weight'"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, family, changes, message):
    save_model(tmp_path / "saved", small_encoder(family))
    change_tensors(tmp_path / "saved", changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "saved")


def test_missing_keys_mean_the_defaults_of_the_class():
    bert = FAMILIES["bert"].read_config({}, "config.json")
    assert (bert.vocab_size, bert.hidden_size, bert.head_dim, bert.type_vocab_size) == (30522, 768, 64, 2)
    assert (bert.num_hidden_layers, bert.norm_eps, bert.activation) == (12, 1e-12, "gelu")
    distilbert = FAMILIES["distilbert"].read_config({"layer_norm_eps": 0.1}, "config.json")
    assert (distilbert.num_hidden_layers, distilbert.type_vocab_size, distilbert.norm_eps) == (6, None, 1e-12)
    for name, vocab_size in {"roberta": 50265, "xlm-roberta": 30522, "camembert": 30522, "mpnet": 30527}.items():
        config = FAMILIES[name].read_config({}, "config.json")
        assert (config.vocab_size, config.norm_eps, config.activation) == (vocab_size, 1e-12, "gelu")
        assert (config.max_position_embeddings, config.padding_idx, config.pad_token_id) == (510, 1, 1)
        assert config.type_vocab_size == (None if name == "mpnet" else 2)
        assert config.relative_attention_num_buckets == (32 if name == "mpnet" else 0)
    modernbert = FAMILIES["modernbert"].read_config({}, "config.json")
    assert modernbert == replace(CATALOGUE["modernbert-base"], pad_token_id=50283)


def test_the_padding_token_of_mpnet_is_1_and_of_roberta_its_own():
    assert read("mpnet", pad_token_id=0).padding_idx == read("mpnet", pad_token_id=None).padding_idx == 1
    roberta = read("roberta", pad_token_id=4)
    assert (roberta.padding_idx, roberta.max_position_embeddings) == (4, 10)
    assert FAMILIES["roberta"].write_config(roberta)["max_position_embeddings"] == 15


def test_windows_and_ropes_of_modernbert():
    """Half of local_attention on each side, rounded down; layer_types has priority over the interval."""
    for local, window in ((1, 1), (2, 2), (5, 3), (6, 4)):
        config = read("modernbert", local_attention=local)
        assert config.windows == (None, window, None)
        assert FAMILIES["modernbert"].read_config(FAMILIES["modernbert"].write_config(config), "again") == config
    kinds = ["sliding_attention"] * 2 + ["full_attention"]
    assert read("modernbert", layer_types=kinds).windows == (3, 3, None)
    assert [rope.theta for rope in read("modernbert").ropes] == [160_000, 1e4, 160_000]
    old = read("modernbert", global_rope_theta=7.0, local_rope_theta=5)
    current = {"full_attention": {"rope_type": "default", "rope_theta": 7}, "sliding_attention": {"rope_theta": 5.0}}
    assert old == read("modernbert", rope_parameters=current)
    assert [rope.theta for rope in old.ropes] == [7, 5, 7]
    scaled = read("modernbert", rope_scaling={"type": "linear", "factor": 2.0})
    assert {(rope.scaling, rope.factor) for rope in scaled.ropes} == {("linear", 2.0)}
    alone = read("modernbert", global_attn_every_n_layers=1)
    assert alone.windows == (None, None, None)
    assert FAMILIES["modernbert"].read_config(FAMILIES["modernbert"].write_config(alone), "again") == alone


LIES = {
    "heads": ("bert", {"num_attention_heads": 5}, "hidden_size is 24, expected a multiple of num_attention_heads"),
    "heads of distilbert": ("distilbert", {"n_heads": 5}, "dim is 24, expected a multiple of n_heads, which is 5"),
    "relative positions": ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relat"),
    "decoder": ("bert", {"is_decoder": True}, "is_decoder is True, expected False"),
    "cross attention": ("bert", {"add_cross_attention": True}, "add_cross_attention is True, expected False"),
    "types": ("bert", {"type_vocab_size": 0}, "type_vocab_size is 0, expected an integer from 1"),
    "eps": ("bert", {"layer_norm_eps": -1}, "layer_norm_eps is -1"),
    "activation": ("bert", {"hidden_act": "mish"}, "hidden_act is 'mish', expected one of silu, gelu"),
    "activation of distilbert": ("distilbert", {"activation": 3}, "activation is 3, expected one of silu, gelu"),
    "padding": ("roberta", {"pad_token_id": None}, "pad_token_id is None, expected a token id"),
    "negative padding": ("xlm-roberta", {"pad_token_id": -1}, "pad_token_id is -1, expected a token id"),
    "positions": ("mpnet", {"max_position_embeddings": 2}, "max_position_embeddings is 2, expected more than 2"),
    "decoder of camembert": ("camembert", {"is_decoder": True}, "is_decoder is True, expected False"),
    "buckets": ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets is 16, expected 32"),
    "window": ("modernbert", {"local_attention": 0}, "local_attention is 0, expected an integer from 1"),
    "interval": ("modernbert", {"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0"),
    "kinds": ("modernbert", {"layer_types": ["full_attention"]}, "layer_types is .* for each of 3 layers"),
    "theta": ("modernbert", {"local_rope_theta": None}, "rope_theta is None"),
    "layers": ("distilbert", {"n_layers": 10**6}, "n_layers is 1000000, expected an integer from 1 to 10000"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_by_name(lie):
    family, values, message = LIES[lie]
    with pytest.raises(ConfigError, match=message) as caught:
        read(family, **values)
    assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("distilbert", {"type_vocab_size": 2}, "type_vocab_size is 2, but a distilbert checkpoint can only hold None"),
        ("distilbert", {"norm_eps": 1e-5}, "norm_eps is 1e-05"),
        ("bert", {"type_vocab_size": None}, "type_vocab_size is None, expected an integer"),
        ("bert", {"padding_idx": 1}, "padding_idx is 1, but a bert checkpoint can only hold None"),
        ("roberta", {"padding_idx": None}, "can only hold"),
        ("mpnet", {"relative_attention_num_buckets": 8}, "relative_attention_num_buckets is 8, expected 32"),
        ("modernbert", {"pre_norm": False}, "pre_norm is False, but a modernbert checkpoint can only hold True"),
        ("modernbert", {"windows": (None, 3, 4)}, "ropes is .*, but a modernbert checkpoint can only hold"),
    ],
)
def test_what_a_family_cannot_say_is_refused_when_writing(tmp_path, family, changes, message):
    with pytest.raises(ConfigError, match=message):
        save_model(tmp_path / "saved", small_encoder(family, **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_pooler_has_no_place_in_a_distilbert(tmp_path):
    model = generic_model(EncoderConfig("distilbert", 50, 24, 40, 2, 3, 8, 13, pooler=True), 0, np.float32)
    with pytest.raises(CheckpointError, match=r"a distilbert checkpoint has no tensor for pooler\.weight"):
        save_model(tmp_path / "saved", model)
