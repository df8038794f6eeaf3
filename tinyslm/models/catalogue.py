"""Configurations of published models, for counting and drawing them without their weights.

One row per model; one function per family for the fields that all its models share. Special tokens are left out,
except the padding token of RoBERTa, which its positions do not count. All longrope factors are 1 here: the published
factors were found by a search and do not change any size.
Sources: the config.json that was published with each model.
"""

from dataclasses import replace
from itertools import cycle, islice

from tinyslm.models.config import DecoderConfig
from tinyslm.models.encoder_config import EncoderConfig
from tinyslm.models.encoder_decoder_config import EncoderDecoderConfig
from tinyslm.ops import Rope
from tinyslm.ops.rotary import longrope_attention_factor

LLAMA_3_2 = {
    "theta": 5e5,
    "scaling": "llama3",
    "factor": 32.0,
    "low_frequency_factor": 1.0,
    "high_frequency_factor": 4.0,
    "original_length": 8192,
}
ROBERTA = {"pad_token_id": 1, "padding_idx": 1, "norm_eps": 1e-5, "transform_activation": "gelu"}
ORIGINAL = 4096  # context length of Phi-3 and Phi-4-mini in training, before longrope


def decoder(family, *sizes, ropes=(None,), windows=(None,), **choices) -> DecoderConfig:
    """A decoder's configuration. sizes: V, C, F, layers, H, G, D, context;  choices: other fields of DecoderConfig.

    ropes, windows: patterns over the layers, repeated to the last layer. A rope is given by its settings, None for a
    layer without rotary positions. All dimensions of a head are rotated unless `dimension` is given.
    """
    config = DecoderConfig(family, *sizes, **choices)
    layers, whole_head = config.num_hidden_layers, {"dimension": config.head_dim}
    ropes = [None if settings is None else Rope(**whole_head | settings) for settings in ropes]
    ropes, windows = (tuple(islice(cycle(pattern), layers)) for pattern in (ropes, windows))
    return replace(config, ropes=ropes, windows=windows)


def gpt2(*sizes):
    """GPT-2: learned position embeddings, layer norms, biases in all linear layers, ungated feed-forward layers."""
    biases = dict.fromkeys(("attention_bias", "attention_output_bias", "feed_forward_bias"), True)
    choices = {"learned_positions": True, "norm": "layer", "norm_eps": 1e-5, "activation": "gelu_new", "gated": False}
    return decoder("gpt2", *sizes, **choices, **biases)


def llama(*sizes, **rope):
    """Llama: rotary positions, pre-norm RMS norms, gated (SwiGLU) feed-forward layers, no biases."""
    return decoder("llama", *sizes, ropes=(rope,), norm_eps=1e-5)


def mistral(*sizes, theta, family="mistral", **choices):
    """Llama with an untied head and, in version 0.1, sliding-window attention."""
    return decoder(family, *sizes, ropes=({"theta": theta},), norm_eps=1e-5, tie_word_embeddings=False, **choices)


def ministral(*sizes):
    """Mistral with full attention in every fourth layer and sliding-window attention in the others."""
    return mistral(*sizes, theta=1e8, family="ministral", windows=(None, 32768, 32768, 32768))


def ministral3(*sizes):
    """Llama with yarn for contexts over 16,384 tokens, and queries that grow with their position."""
    rope = {"theta": 1e6, "scaling": "yarn", "factor": 16.0, "original_length": 16384, "query_scale_beta": 0.1}
    return decoder("ministral3", *sizes, ropes=(rope,), norm_eps=1e-5)


def mixtral(*sizes):
    """Mistral with a mixture of experts: 8 experts per feed-forward layer; each token uses 2 of them."""
    return mistral(*sizes, theta=1e6, family="mixtral", num_experts=8, experts_per_token=2)


def phi4(*sizes, **choices):
    """Phi-3 with a tied head and partial rotary embeddings (75 % of the dimensions of a head)."""
    return phi3(*sizes, dimension=96, tied=True, **choices)


def phi3(*sizes, window, tied=False, **rope):
    """Llama with an untied head; longrope scaling for contexts over 4,096 tokens."""
    *_, D, context = sizes
    rope = {"theta": 1e4, "dimension": D} | rope
    if context > ORIGINAL:
        factors = (1.0,) * (rope["dimension"] // 2)
        rope |= {"scaling": "longrope", "original_length": ORIGINAL, "short_factors": factors, "long_factors": factors}
        rope["attention_factor"] = longrope_attention_factor(context / ORIGINAL, ORIGINAL)
    return decoder("phi3", *sizes, ropes=(rope,), windows=(window,), norm_eps=1e-5, tie_word_embeddings=tied)


def gemma(*sizes, family="gemma", ropes=({"theta": 1e4},), **choices):
    """Llama with GeGLU, large heads, norm gains stored as w - 1, and embeddings scaled by sqrt(C)."""
    _, C, *_ = sizes
    common = {"norm_offset": 1.0, "embedding_scale": C**0.5, "activation": "gelu_pytorch_tanh"}
    return decoder(family, *sizes, ropes=ropes, **common | choices)


def gemma2(*sizes):
    """Gemma with post-norms, soft-capped attention scores and logits, and a sliding window in every second layer."""
    caps = {"attention_softcap": 50.0, "logit_softcap": 30.0}
    return gemma(
        *sizes, family="gemma2", windows=(4096, None), sublayer_output_norm=True, attention_scale=256**-0.5, **caps
    )


def gemma3(*sizes):
    """Gemma 2 with query and key norms instead of soft-capping. Five sliding-window layers (rotary base 1e4) alternate
    with one layer of full attention (rotary base 1e6)."""
    return gemma(
        *sizes,
        family="gemma3_text",
        ropes=({"theta": 1e4},) * 5 + ({"theta": 1e6},),
        windows=(512,) * 5 + (None,),
        sublayer_output_norm=True,
        query_key_norm=True,
        attention_scale=256**-0.5,
    )


def qwen2(*sizes):
    """Llama with biases of the query, key and value projections."""
    return decoder("qwen2", *sizes, ropes=({"theta": 1e6},), attention_bias=True)


def qwen3(*sizes, family="qwen3", **choices):
    """Llama with an RMS norm on each query and key head (QK norm)."""
    return decoder(family, *sizes, ropes=({"theta": 1e6},), query_key_norm=True, **choices)


def qwen3_moe(*sizes):
    """Qwen3 with an untied head and a mixture of experts: 128 experts of 768 neurons; each token uses 8 of them.

    F is the size of the feed-forward layers without experts, which the published models do not have.
    """
    experts = {"num_experts": 128, "experts_per_token": 8, "expert_intermediate_size": 768}
    return qwen3(*sizes, family="qwen3_moe", tie_word_embeddings=False, **experts)


def olmo2(*sizes):
    """Llama with norms of the sublayer outputs only, and RMS norms over all query heads and over all key heads."""
    norms = {"pre_norm": False, "sublayer_output_norm": True, "query_key_norm": True, "joint_query_key_norm": True}
    return decoder("olmo2", *sizes, ropes=({"theta": 5e5},), tie_word_embeddings=False, **norms)


def granite(*sizes):
    """Llama with factors of embeddings, attention scores and sublayer outputs, and a divisor of the logits."""
    factors = {"embedding_scale": 12.0, "attention_scale": 1 / 64, "residual_multiplier": 0.22, "logits_scaling": 8.0}
    return decoder("granite", *sizes, ropes=({"theta": 5e6},), norm_eps=1e-5, **factors)


def stablelm(*sizes):
    """Llama with layer norms, biases of queries, keys and values, and rotation of 25 % of the dimensions of a head."""
    *_, D, _ = sizes
    choices = {"norm": "layer", "norm_eps": 1e-5, "attention_bias": True, "tie_word_embeddings": False}
    return decoder("stablelm", *sizes, ropes=({"theta": 1e4, "dimension": D // 4},), **choices)


def parallel(family, *sizes, dimension, **choices):
    """A model with parallel blocks, layer norms, ungated feed-forward layers and biases. dimension: of the rotation."""
    common = {"parallel_blocks": True, "norm": "layer", "norm_eps": 1e-5, "gated": False, "tie_word_embeddings": False}
    biases = dict.fromkeys(("attention_bias", "attention_output_bias", "feed_forward_bias"), True)
    return decoder(family, *sizes, ropes=({"theta": 1e4, "dimension": dimension},), **common, **biases, **choices)


def gpt_neox(*sizes):
    """GPT-NeoX and Pythia: parallel blocks; rotation of 25 % of the dimensions of a head."""
    *_, D, _ = sizes
    return parallel("gpt_neox", *sizes, dimension=D // 4, activation="gelu")


def phi(*sizes, dimension):
    """Phi-1 and Phi-2: parallel blocks with one norm; a bias of the output layer."""
    choices = {"shared_norm": True, "head_bias": True, "activation": "gelu_new"}
    return parallel("phi", *sizes, dimension=dimension, **choices)


def smollm3(*sizes):
    """Llama without rotary positions in every fourth layer (NoPE)."""
    return decoder("smollm3", *sizes, ropes=({"theta": 5e6},) * 3 + (None,))


def bert(*sizes):
    """BERT: a post-norm encoder with token types. sizes: V, C, F, layers, H, D, context."""
    return EncoderConfig("bert", *sizes, type_vocab_size=2)


def distilbert(*sizes):
    """DistilBERT: BERT without token types, with half of its layers. sizes: as bert."""
    return EncoderConfig("distilbert", *sizes)


def roberta(*sizes, family="roberta"):
    """BERT with one token type, and positions that count only tokens that are not padding. sizes: as bert."""
    return EncoderConfig(family, *sizes, type_vocab_size=1, **ROBERTA)


def mpnet(*sizes):
    """RoBERTa without token types, with relative position biases that all layers share. sizes: as bert."""
    return EncoderConfig("mpnet", *sizes, relative_attention_num_buckets=32, **ROBERTA)


def modernbert(*sizes):
    """ModernBERT: a pre-norm encoder with rotary positions, GeGLU and almost no biases. sizes: as bert.

    Every third layer has full attention (rotary base 160,000). The others attend to 64 tokens on each side (1e4).
    """
    biases = dict.fromkeys(("norm_bias", "attention_bias", "feed_forward_bias", "transform_bias"), False)
    choices = {"learned_positions": False, "pre_norm": True, "gated": True, "transform_activation": "gelu"}
    config = EncoderConfig("modernbert", *sizes, norm_eps=1e-5, **biases, **choices)
    full, local = (Rope(theta=theta, dimension=config.head_dim) for theta in (160_000.0, 1e4))
    layers = range(config.num_hidden_layers)
    return replace(
        config,
        ropes=tuple(local if layer % 3 else full for layer in layers),
        windows=tuple(65 if layer % 3 else None for layer in layers),
    )


def t5(*sizes):
    """T5 1.0: relative position buckets, ReLU, decoder outputs scaled by 1 / sqrt(C) before the tied head.

    sizes: V, C, F, layers of the encoder and of the decoder, H, D, number of buckets, distance where the last one
    begins.
    """
    return EncoderDecoderConfig("t5", *sizes, output_scale=sizes[1] ** -0.5)


def flan_t5(*sizes):
    """T5 1.1 and Flan-T5: GeGLU feed-forward layers and an untied head. sizes: as t5."""
    return EncoderDecoderConfig("t5", *sizes, gated=True, activation="gelu_new", tie_word_embeddings=False)


# fmt: off
CATALOGUE = {
    # decoders                        V      C      F  layers  H   G    D  context
    "gpt2":            gpt2(      50257,   768,  3072,  12,   12, 12,  64,   1024),
    "pythia-160m":     gpt_neox(  50304,   768,  3072,  12,   12, 12,  64,   2048),
    "llama-3.2-1b":    llama(    128256,  2048,  8192,  16,   32,  8,  64, 131072, **LLAMA_3_2),
    "llama-3.2-3b":    llama(    128256,  3072,  8192,  28,   24,  8, 128, 131072, **LLAMA_3_2),
    "smollm2-135m":    llama(     49152,   576,  1536,  30,    9,  3,  64,   8192, theta=1e5),
    "smollm2-360m":    llama(     49152,   960,  2560,  32,   15,  5,  64,   8192, theta=1e5),
    "smollm2-1.7b":    llama(     49152,  2048,  8192,  24,   32, 32,  64,   8192, theta=1.3e5),
    "smollm3-3b":      smollm3(  128256,  2048, 11008,  36,   16,  4, 128,  65536),
    "qwen2.5-0.5b":    qwen2(    151936,   896,  4864,  24,   14,  2,  64,  32768),
    "qwen2.5-1.5b":    qwen2(    151936,  1536,  8960,  28,   12,  2, 128,  32768),
    "qwen3-0.6b":      qwen3(    151936,  1024,  3072,  28,   16,  8, 128,  40960),
    "qwen3-30b-a3b":   qwen3_moe(151936,  2048,  6144,  48,   32,  4, 128,  40960),
    "olmo-2-1b":       olmo2(    100352,  2048,  8192,  16,   16, 16, 128,   4096),
    "granite-3.1-2b":  granite(   49155,  2048,  8192,  40,   32,  8,  64, 131072),
    "stablelm-2-1.6b": stablelm( 100352,  2048,  5632,  24,   32, 32,  64,   4096),
    "phi-2":           phi(       51200,  2560, 10240,  32,   32, 32,  80,   2048, dimension=32),
    "phi-3-mini-4k":   phi3(      32064,  3072,  8192,  32,   32, 32,  96,   4096, window=2047),
    "phi-3-mini-128k": phi3(      32064,  3072,  8192,  32,   32, 32,  96, 131072, window=262144),
    "phi-4-mini":      phi4(     200064,  3072,  8192,  32,   24,  8, 128, 131072, window=262144),
    "gemma-2b":        gemma(    256000,  2048, 16384,  18,    8,  1, 256,   8192),
    "gemma-7b":        gemma(    256000,  3072, 24576,  28,   16, 16, 256,   8192),
    "gemma-2-2b":      gemma2(   256000,  2304,  9216,  26,    8,  4, 256,   8192),
    "gemma-3-1b":      gemma3(   262144,  1152,  6912,  26,    4,  1, 256,  32768),
    "mistral-7b-v0.1": mistral(   32000,  4096, 14336,  32,   32,  8, 128,  32768, theta=1e4, windows=(4096,)),
    "mistral-7b-v0.3": mistral(   32768,  4096, 14336,  32,   32,  8, 128,  32768, theta=1e6),
    "ministral-8b":    ministral(131072,  4096, 12288,  36,   32,  8, 128,  32768),
    "ministral-3-3b": ministral3(131072,  3072,  9216,  26,   32,  8, 128, 262144),
    "mixtral-8x7b":    mixtral(   32000,  4096, 14336,  32,   32,  8, 128,  32768),
    # encoders                        V      C      F  layers  H    D  context
    "bert-base":       bert(      30522,   768,  3072,  12,   12,  64,    512),
    "distilbert":      distilbert(30522,   768,  3072,   6,   12,  64,    512),
    "roberta-base":    roberta(   50265,   768,  3072,  12,   12,  64,    512),
    "xlm-roberta-base": roberta( 250002,   768,  3072,  12,   12,  64,    512, family="xlm-roberta"),
    "mpnet-base":      mpnet(     30527,   768,  3072,  12,   12,  64,    512),
    "modernbert-base": modernbert(50368,   768,  1152,  22,   12,  64,   8192),
    # encoder-decoders                V      C      F  layers  H    D  buckets, max distance
    "t5-small":        t5(        32128,   512,  2048, 6, 6,   8,  64,     32, 128),
    "flan-t5-small":   flan_t5(   32128,   512,  1024, 8, 8,   6,  64,     32, 128),
}
# fmt: on
