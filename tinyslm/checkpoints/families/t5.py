"""T5: an encoder-decoder. The original, and version 1.1 (and Flan-T5) with gated feed-forward layers and its own head.

Files of today say true for `tie_word_embeddings` even where the head is a tensor of its own, and what is scaled in
`scale_decoder_outputs`. Older ones say false where the head is its own, which also means that outputs are not scaled.
Some of them hold copies of the embedding, one for each stack.
"""

from tinyslm.checkpoints.families.config_reader import LARGEST, ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.families.llama import MOST_LAYERS
from tinyslm.models import EncoderDecoderConfig
from tinyslm.ops import ACTIVATIONS


def attention(ours, stored):
    """The norm before one attention, and its four projections."""
    module = f"{stored}.EncDecAttention" if ours.endswith("cross_attention") else f"{stored}.SelfAttention"
    return {
        f"{ours}_norm": f"{stored}.layer_norm",
        f"{ours}.query": f"{module}.q",
        f"{ours}.key": f"{module}.k",
        f"{ours}.value": f"{module}.v",
        f"{ours}.output": f"{module}.o",
    }


def feed_forward(ours, stored):
    """The norm before one gated feed-forward layer, and its three weights."""
    return {
        f"{ours}_norm": f"{stored}.layer_norm",
        f"{ours}.gate": f"{stored}.DenseReluDense.wi_0",
        f"{ours}.up": f"{stored}.DenseReluDense.wi_1",
        f"{ours}.down": f"{stored}.DenseReluDense.wo",
    }


def stack(name):
    """What both stacks have."""
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
DEFAULTS = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_decoder_layers": None,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of EncoderDecoderConfig."""
    layers, heads, width = keys.count("num_layers", MOST_LAYERS), keys.count("num_heads"), keys.count("d_model")
    if keys.get("num_decoder_layers") is None:
        keys = keys.having(num_decoder_layers=layers)
    activation, gated = FEED_FORWARDS[keys.choice("feed_forward_proj", FEED_FORWARDS)]
    for key, implied in {"dense_act_fn": activation, "is_gated_act": gated}.items():
        if keys.get(key) not in (None, implied):
            keys.refuse(key, f"{implied!r}, as feed_forward_proj says")
    is_scaled = "scale_decoder_outputs" if keys.get("scale_decoder_outputs") is not None else "tie_word_embeddings"
    pad = keys.token("pad_token_id") or 0
    start = keys.token("decoder_start_token_id")
    return {
        "vocab_size": keys.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": keys.count("d_ff"),
        "num_hidden_layers": layers,
        "num_decoder_layers": keys.count("num_decoder_layers", MOST_LAYERS),
        "num_attention_heads": heads,
        "head_dim": keys.count("d_kv", LARGEST // heads),
        "relative_attention_num_buckets": keys.count("relative_attention_num_buckets"),
        "relative_attention_max_distance": keys.count("relative_attention_max_distance"),
        "norm_eps": keys.number("layer_norm_epsilon", positive=False),
        "activation": activation,
        "gated": gated,
        "output_scale": width**-0.5 if keys.flag(is_scaled) else 1.0,
        "tie_word_embeddings": keys.flag("tie_word_embeddings"),
        "decoder_start_token_id": pad if start is None else start,
        "eos_token_id": keys.tokens("eos_token_id"),
        "pad_token_id": pad,
    }


def write(config: EncoderDecoderConfig) -> dict:
    """EncoderDecoderConfig -> config.json."""
    eos = config.eos_token_id
    activation = "gelu" if config.gated and config.activation == "gelu_new" else config.activation
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_attention_heads,
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": f"gated-{activation}" if config.gated else activation,
        "scale_decoder_outputs": config.output_scale != 1.0,
        "tie_word_embeddings": config.tie_word_embeddings,
        "decoder_start_token_id": config.decoder_start_token_id,
        "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
        "pad_token_id": config.pad_token_id,
        "is_encoder_decoder": True,
    }


FAMILY = Family(
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    defaults=DEFAULTS,
    tensors=OUTSIDE | ENCODER | DECODER,
    ungated=UNGATED,
    read=read,
    write=write,
    base="",
    config=EncoderDecoderConfig,
    copies={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    fixed={"is_encoder_decoder": True, "is_decoder": False},
)
