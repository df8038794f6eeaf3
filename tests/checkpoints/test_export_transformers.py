"""Exported models load in transformers, with compressed-tensors, and compute the same; where these are installed."""

import numpy as np
import pytest

from tests.checkpoints.models import CHOICES, small_model
from tinyslm.checkpoints import load_model
from tinyslm.checkpoints.quantized.compressed_tensors_export import export_compressed_tensors
from tinyslm.checkpoints.transformers_export import export_transformers
from tinyslm.compression.quantization import StaticQuantizedLinear, linear_from_codes, quantize
from tinyslm.models import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from tinyslm.recipes import Factorize
from tinyslm.recipes.linear_layers import compressible_layers, replace_layers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("compressed_tensors")

TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]])
CLASSES = {
    DecoderConfig: transformers.AutoModelForCausalLM,
    EncoderConfig: transformers.AutoModelForMaskedLM,
    EncoderDecoderConfig: transformers.AutoModelForSeq2SeqLM,
}


def codes(bits, symmetric=True, group_size=None, **settings):
    """A function that quantizes a linear layer."""

    def make(path, layer):
        axis = None if group_size else 0
        weight = quantize(layer.weight, bits=bits, symmetric=symmetric, axis=axis, group_size=group_size)
        return linear_from_codes(weight, layer.bias, **settings)

    return make


def mixed(symmetric):
    """8 bits in the feed-forward layers, 4 in the others."""

    def make(path, layer):
        return codes(8)(path, layer) if "feed_forward" in path else codes(4, symmetric)(path, layer)

    return make


FORMS = {
    "4 bits": codes(4),
    "4 bits with zero points": codes(4, False),
    "3 bits in groups": codes(3, True, 2),
    "8 bits": codes(8),
    "mixed": mixed(True),
    "mixed with zero points": mixed(False),
    "static": lambda path, layer: StaticQuantizedLinear.from_linear(layer, -6.3, 7.1),
}
HAVE_EXPERTS = ("mixtral", "qwen3_moe")
CASES = [
    (family, form)
    for family in CHOICES
    for form in FORMS
    if family != "gpt2" and (family not in HAVE_EXPERTS or form not in ("4 bits with zero points", "static"))
]


def assert_same_there(path, model):
    """transformers loads every tensor, and computes the same logits as the model."""
    theirs, info = CLASSES[type(model.config)].from_pretrained(
        path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    ours, wanted = {}, {"input_ids": torch.tensor(TOKENS)}
    if isinstance(model.config, EncoderDecoderConfig):
        ours["decoder_token_ids"] = TOKENS[:, :6]
        wanted["decoder_input_ids"] = torch.tensor(TOKENS[:, :6])
    with torch.no_grad():
        logits = theirs(**wanted).logits.float().numpy()
    np.testing.assert_allclose(model(TOKENS, **ours), logits, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("family", "form"), CASES)
def test_quantized_layers(tmp_path, family, form):
    model = small_model(family, tie_word_embeddings=family != "phi")
    layers = {path: FORMS[form](path, layer) for path, layer in compressible_layers(model).items()}
    model = replace_layers(model, layers)
    export_compressed_tensors(tmp_path / "new", model)
    assert_same_there(tmp_path / "new", model)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_dynamic_inputs_differ_by_their_scale(tmp_path, family, monkeypatch):
    """The same with the scale of this library, max(abs(x)) / 127."""
    import compressed_tensors.quantization.utils.helpers as helpers

    theirs = helpers.calculate_qparams

    def ours(low, high, arguments, global_scale=None):
        scale, zero_point = theirs(low, high, arguments, global_scale)
        return (scale * (127.5 / 127) if arguments.dynamic else scale), zero_point

    monkeypatch.setattr(helpers, "calculate_qparams", ours)
    model = small_model(family)
    make = codes(8, dynamic_activations=True)
    model = replace_layers(model, {path: make(path, layer) for path, layer in compressible_layers(model).items()})
    export_compressed_tensors(tmp_path / "new", model)
    assert_same_there(tmp_path / "new", model)


@pytest.mark.parametrize("family", CHOICES)
def test_folded_layers(tmp_path, family):
    model = Factorize(0.5)(small_model(family, tie_word_embeddings=family != "phi"))
    export_transformers(tmp_path / "new", model)
    assert_same_there(tmp_path / "new", load_model(tmp_path / "new"))
