"""T5 1.0, T5 1.1 and Flan-T5: encoder-decoder; 1.1 has gated feed-forward layers and an untied head.

In current files `tie_word_embeddings` is true even if the head is a separate tensor, and `scale_decoder_outputs` is the
switch of the output scale. In older files `tie_word_embeddings` is false if the head is separate, and this also
switches the output scale off. Some older files hold copies of the embedding, one for each stack.
"""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderDecoderConfig
from tinyslm.models.config_checks import SIZE
from tinyslm.ops import ACTIVATIONS


def attention(ours, stored):
    """Tensor names of an attention layer: its pre-norm and four projections."""
    module = f"{stored}.EncDecAttention" if ours.endswith("cross_attention") else f"{stored}.SelfAttention"
    return {
        f"{ours}_norm": f"{stored}.layer_norm",
        f"{ours}.query": f"{module}.q",
        f"{ours}.key": f"{module}.k",
        f"{ours}.value": f"{module}.v",
        f"{ours}.output": f"{module}.o",
    }


def feed_forward(ours, stored):
    """Tensor names of a gated feed-forward layer: its pre-norm and three weights."""
    return {
        f"{ours}_norm": f"{stored}.layer_norm",
        f"{ours}.gate": f"{stored}.DenseReluDense.wi_0",
        f"{ours}.up": f"{stored}.DenseReluDense.wi_1",
        f"{ours}.down": f"{stored}.DenseReluDense.wo",
    }


def stack(name):
    """Tensor names of a stack outside its layers."""
    return {
        f"{name}.relative_positions": f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias",
        f"{name}.norm": f"{name}.final_layer_norm",
    }


OUTSIDE = {"embedding": "shared", "head": "lm_head"}
ENCODER = (
    stack("encoder")
    | attention("encoder.layers.{i}.attention", "encoder.block.{i}.layer.0")
    | feed_forward("encoder.layers.{i}.feed_forward", "encoder.block.{i}.layer.1")
)
DECODER = (
    stack("decoder")
    | attention("decoder.layers.{i}.attention", "decoder.block.{i}.layer.0")
    | attention("decoder.layers.{i}.cross_attention", "decoder.block.{i}.layer.1")
    | feed_forward("decoder.layers.{i}.feed_forward", "decoder.block.{i}.layer.2")
)
UNGATED = {
    "encoder.layers.{i}.feed_forward.up": "encoder.block.{i}.layer.1.DenseReluDense.wi",
    "decoder.layers.{i}.feed_forward.up": "decoder.block.{i}.layer.2.DenseReluDense.wi",
}
FEED_FORWARDS = {  # value of feed_forward_proj: (activation, gated)
    **{name: (name, False) for name in ACTIVATIONS},
    **{f"gated-{name}": (name, True) for name in ACTIVATIONS},
    "gated-gelu": ("gelu_new", True),
}
DEFAULTS = {"feed_forward_proj": "relu"}


def read_head_dim(keys: ConfigReader, key: str) -> int:
    """D. All heads together are at most as wide as the largest size."""
    return keys.count(key, SIZE.high // keys.count("num_heads"))


def read_decoder_layers(keys: ConfigReader, key: str) -> int:
    """The number of decoder layers, by default the number of encoder layers."""
    return keys.layers("num_layers" if keys.get(key) is None else key)


def read_pad_token(keys: ConfigReader, key: str) -> int:
    """The padding token, 0 by default."""
    return keys.token(key) or 0


def read_start_token(keys: ConfigReader, key: str) -> int:
    """The decoder's first token, the padding token by default."""
    start = keys.token(key)
    return read_pad_token(keys, "pad_token_id") if start is None else start


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 32128),
    "hidden_size": ("d_model", ConfigReader.count, 512),
    "head_dim": ("d_kv", read_head_dim, 64),
    "intermediate_size": ("d_ff", ConfigReader.count, 2048),
    "num_hidden_layers": ("num_layers", ConfigReader.layers, 6),
    "num_decoder_layers": ("num_decoder_layers", read_decoder_layers, None),
    "num_attention_heads": ("num_heads", ConfigReader.count, 8),
    "relative_attention_num_buckets": ("relative_attention_num_buckets", ConfigReader.count, 32),
    "relative_attention_max_distance": ("relative_attention_max_distance", ConfigReader.count, 128),
    "norm_eps": ("layer_norm_epsilon", ConfigReader.norm_eps, 1e-6),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, True),
    "decoder_start_token_id": ("decoder_start_token_id", read_start_token, None),
    "eos_token_id": ("eos_token_id", ConfigReader.tokens, 1),
    "pad_token_id": ("pad_token_id", read_pad_token, 0),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderDecoderConfig that are not in FIELDS."""
    activation, gated = FEED_FORWARDS[keys.choice("feed_forward_proj", FEED_FORWARDS)]
    for key, implied in {"dense_act_fn": activation, "is_gated_act": gated}.items():
        if keys.get(key) not in (None, implied):
            keys.refuse(key, f"{implied!r}, which follows from feed_forward_proj")
    scale_key = "scale_decoder_outputs" if keys.get("scale_decoder_outputs") is not None else "tie_word_embeddings"
    scale = keys.count("d_model") ** -0.5 if keys.flag(scale_key) else 1.0
    return {"activation": activation, "gated": gated, "output_scale": scale}


def write(config: EncoderDecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    activation = "gelu" if config.gated and config.activation == "gelu_new" else config.activation
    return {
        "feed_forward_proj": f"gated-{activation}" if config.gated else activation,
        "scale_decoder_outputs": config.output_scale != 1.0,
        "is_encoder_decoder": True,
    }


FAMILY = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    defaults=DEFAULTS,
    tensors=OUTSIDE | ENCODER | DECODER,
    fields=FIELDS,
    ungated=UNGATED,
    read=read,
    write=write,
    base="",
    config=EncoderDecoderConfig,
    copies={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    fixed={"is_encoder_decoder": True, "is_decoder": False},
)
