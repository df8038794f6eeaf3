"""The golden checkpoints as data: the settings of each, and how older repositories write the same settings.

Of every entry, `model_type` and `settings` make the configuration; `task` is what the model does (causal_lm if absent)
and `dtype` what the file stores (float32 if absent). `legacy` are the keys of config_legacy.json that do not follow
from config.json, and `legacy_lacks` the keys that it leaves out. `deviations` are the standard deviations of the
matrices whose names contain a key, where the usual ones do not suit.
`renamed` are patterns in the names of tensors, and what the file has in their place. `own_head`: the head is not tied.
`left_out`: prefixes of the tensors that a text does not use.

The settings are far from the defaults, the sizes differ from each other, and the windows are shorter than a sequence,
so that a detail forgotten or taken for another shows in the numbers.
"""

FULL, SLIDING = "full_attention", "sliding_attention"


def rope(theta, rope_type="default", **others):
    """The settings of rotary positions as transformers writes them today."""
    return {"rope_theta": theta, "rope_type": rope_type, **others}


TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"vocab_size": 67, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
DECODER = {
    **TOKENS,
    **SIZES,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 3e-3,
}
LAYER_NORM_DECODER = {
    **{key: value for key, value in DECODER.items() if key not in ("num_key_value_heads", "rms_norm_eps")},
    "hidden_size": 32,
    "layer_norm_eps": 3e-3,
}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
BERT = {
    "model_type": "bert",
    "settings": SIZES
    | {
        "num_attention_heads": 4,
        "max_position_embeddings": 19,
        "type_vocab_size": 2,
        "layer_norm_eps": 3e-3,
        "pad_token_id": 0,
    },
    "legacy": {"position_embedding_type": "absolute", "gradient_checkpointing": False},
    "legacy_lacks": (
        "torch_dtype",
        "tie_word_embeddings",
        "is_decoder",
        "add_cross_attention",
        "bos_token_id",
        "eos_token_id",
    ),
}
ROBERTA = {
    "settings": SIZES
    | {
        "num_attention_heads": 4,
        "max_position_embeddings": 21,
        "type_vocab_size": 1,
        "layer_norm_eps": 3e-3,
        "hidden_act": "relu",  # the head has gelu
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "legacy": {"position_embedding_type": "absolute", "gradient_checkpointing": False},
    "legacy_lacks": ("torch_dtype", "tie_word_embeddings", "is_decoder", "add_cross_attention"),
}
MPNET = {
    "model_type": "mpnet",
    "settings": {key: value for key, value in ROBERTA["settings"].items() if key != "type_vocab_size"},
    "legacy_lacks": ("torch_dtype", "tie_word_embeddings", "relative_attention_num_buckets"),
    "deviations": {"relative_attention_bias": 1.0},
}
MODERNBERT = {
    "model_type": "modernbert",
    "settings": TOKENS
    | SIZES
    | {
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "norm_eps": 3e-3,
        "local_attention": 6,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_theta": 2e4, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"},
        },
    },
    "legacy": {"global_attn_every_n_layers": 2, "global_rope_theta": 2e4, "local_rope_theta": 50.0},
    "legacy_lacks": ("torch_dtype", "tie_word_embeddings", "rope_theta", "rope_scaling"),
}
BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True}
GPT2 = {
    "model_type": "gpt2",
    "settings": TOKENS
    | {
        "vocab_size": 67,
        "n_embd": 20,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 30,
        "layer_norm_epsilon": 3e-3,
    },
    "deviations": {"wte": 0.4},
    "legacy": {"n_ctx": 30},
    "legacy_lacks": ("torch_dtype", "tie_word_embeddings", "n_inner", "add_cross_attention", "scale_attn_weights"),
}

PHI = {
    "model_type": "phi",
    "settings": LAYER_NORM_DECODER | UNTIED | {"rope_parameters": rope(1e4, partial_rotary_factor=0.75)},
}
GPT_NEOX = {
    "model_type": "gpt_neox",
    "settings": LAYER_NORM_DECODER | UNTIED | {"rope_parameters": rope(2e4, partial_rotary_factor=0.5)},
    "legacy": {"rotary_pct": 0.5, "rotary_emb_base": 2e4},
    "legacy_lacks": ("partial_rotary_factor", "rope_theta", "rope_scaling"),
}
STABLELM = {
    "model_type": "stablelm",
    "settings": LAYER_NORM_DECODER
    | UNTIED
    | {"num_key_value_heads": 2, "use_qkv_bias": True, "rope_parameters": rope(1e4, partial_rotary_factor=0.5)},
}
T5 = {
    "vocab_size": 67,
    "d_model": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 3,
    "d_kv": 6,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "layer_norm_epsilon": 3e-3,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
GEMMA_DEVIATIONS = {"embed": 0.2}  # the embeddings of Gemma are scaled
T5_DEVIATIONS = {".q.": 0.1, "relative_attention_bias": 1.0}  # the scores of T5 are not scaled

YARN = {"factor": 4.0, "original_max_position_embeddings": 10, "beta_fast": 1.2, "beta_slow": 0.15}
LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
PHI3_LONGROPE = {"short_factor": [1.0, 1.1, 1.7], "long_factor": [1.2, 2.5, 9.0]}
PHI4_LONGROPE = {"short_factor": [1.0, 1.0, 1.0], "long_factor": [1.0, 1.8, 20.0]}


FAMILIES = {
    "bert": BERT | {"task": "masked_lm"},
    "bert_encoder": BERT | {"task": "encoder"},
    "bert_hub": BERT  # as bert-base-uncased is on the Hub: older names, and tensors that a masked model does not use
    | {
        "task": "masked_lm",
        "renamed": {r"LayerNorm\.weight$": "LayerNorm.gamma", r"LayerNorm\.bias$": "LayerNorm.beta"},
    },
    "distilbert": {
        "task": "masked_lm",
        "model_type": "distilbert",
        "settings": {
            "vocab_size": 67,
            "dim": 24,
            "hidden_dim": 40,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 19,
        },
        "legacy": {"tie_weights_": True},
        "legacy_lacks": ("torch_dtype", "tie_word_embeddings"),
    },
    "gemma": {
        "model_type": "gemma",
        "deviations": GEMMA_DEVIATIONS,
        "dtype": "bfloat16",
        "settings": DECODER
        | TIED
        | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "rope_parameters": rope(1e4)},
        "legacy": {"hidden_act": "gelu", "hidden_activation": None},  # which meant the approximation by tanh
    },
    "gemma2": {
        "model_type": "gemma2",
        "deviations": GEMMA_DEVIATIONS,
        "settings": DECODER
        | TIED
        | {
            "head_dim": 8,
            "query_pre_attn_scalar": 14,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
            "sliding_window": 5,
            "layer_types": [SLIDING, FULL],
            "rope_parameters": rope(1e4),
        },
        "legacy": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
    },
    "gemma3": {  # with a part for images
        "model_type": "gemma3",
        "deviations": GEMMA_DEVIATIONS,
        "left_out": ("vision_tower", "multi_modal_projector"),
        "settings": {
            "text_config": {
                "model_type": "gemma3_text",
                **DECODER,
                "num_attention_heads": 3,
                "num_key_value_heads": 1,
                "head_dim": 8,
                "query_pre_attn_scalar": 14,
                "sliding_window": 5,
                "layer_types": [SLIDING, FULL],
                "rope_parameters": {FULL: rope(1e6, "linear", factor=8.0), SLIDING: rope(1e4)},
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 4,
                "patch_size": 2,
            },
            "mm_tokens_per_image": 4,
        },
        "legacy": {"rope_local_base_freq": 1e4, "sliding_window_pattern": 2, "cache_implementation": "hybrid"},
        "legacy_lacks": ("_sliding_window_pattern", "tie_word_embeddings"),
    },
    "gemma3_text": {
        "model_type": "gemma3_text",
        "deviations": GEMMA_DEVIATIONS,
        "settings": DECODER
        | TIED
        | {
            "num_key_value_heads": 1,
            "head_dim": 8,
            "query_pre_attn_scalar": 14,
            "sliding_window": 5,
            "layer_types": [SLIDING, FULL],
            "rope_parameters": {FULL: rope(1e6, "linear", factor=4.0), SLIDING: rope(1e4)},
        },
        "legacy": {"rope_local_base_freq": 1e4, "sliding_window_pattern": 2, "cache_implementation": "hybrid"},
        "legacy_lacks": ("_sliding_window_pattern",),
    },
    "gpt2": GPT2,
    "gpt2_hub": GPT2  # as gpt2 is on the Hub: no prefix, and the causal mask as a tensor of every layer
    | {"renamed": {r"^transformer\.": ""}},
    "gpt_neox": GPT_NEOX,
    "gpt_neox_sequential": GPT_NEOX
    | {
        "settings": GPT_NEOX["settings"] | {"use_parallel_residual": False, "attention_bias": False},
        "legacy": GPT_NEOX["legacy"],
    },
    "granite": {
        "model_type": "granite",
        "settings": DECODER
        | TIED
        | {
            "embedding_multiplier": 1.7,
            "attention_multiplier": 0.3,
            "residual_multiplier": 0.6,
            "logits_scaling": 3.0,
            "rope_parameters": rope(1e4),
        },
    },
    "llama3": {  # the frequencies fall into all three bands: 1 is kept, 0.1 is between, the others are divided
        "model_type": "llama",
        "settings": DECODER
        | TIED
        | {
            "head_dim": 8,
            "max_position_embeddings": 1024,
            "rope_parameters": rope(1e4, "llama3", **LLAMA3_ROPE),
        },
    },
    "llama_dynamic": {  # its inputs are longer than the length in its config.json
        "model_type": "llama",
        "settings": DECODER
        | TIED
        | {"head_dim": 8, "max_position_embeddings": 12, "rope_parameters": rope(50.0, "dynamic", factor=3.0)},
        "legacy": {"rope_scaling": {"type": "dynamic", "factor": 3.0}},
    },
    "llama_yarn": {  # one pair is kept, one divided, two are between; without `truncate` the borders are no pairs
        "model_type": "llama",
        "settings": DECODER | TIED | {"head_dim": 8, "rope_parameters": rope(50.0, "yarn", truncate=False, **YARN)},
        "legacy": {"rope_scaling": {"type": "yarn", "truncate": False, **YARN}},
    },
    "ministral": {
        "model_type": "ministral",
        "settings": DECODER
        | UNTIED
        | {"head_dim": 8, "sliding_window": 5, "layer_types": [FULL, SLIDING], "rope_parameters": rope(1e8)},
        "legacy": {
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
            "layer_types": [FULL, SLIDING],
        },
    },
    "ministral3": {  # the queries grow at positions 10 and 20
        "model_type": "ministral3",
        "settings": DECODER
        | UNTIED
        | {
            "head_dim": 8,
            "sliding_window": 9,
            "rope_parameters": rope(50.0, "yarn", mscale=1.0, mscale_all_dim=0.4, llama_4_scaling_beta=0.4, **YARN),
        },
    },
    "mistral": {
        "model_type": "mistral",
        "settings": DECODER | UNTIED | {"head_dim": 8, "sliding_window": 5, "rope_parameters": rope(1e4)},
    },
    "mixtral": {
        "model_type": "mixtral",
        "shard_size": "45KB",  # makes two files
        "settings": DECODER
        | UNTIED
        | {
            "intermediate_size": 20,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": None,
            "rope_parameters": rope(1e6),
        },
        "legacy_lacks": ("head_dim",),
    },
    "modernbert": MODERNBERT
    | {
        "task": "masked_lm",
        "settings": MODERNBERT["settings"] | {"classifier_bias": True, "classifier_activation": "silu"},
    },
    "modernbert_encoder": MODERNBERT | {"task": "encoder", "settings": MODERNBERT["settings"] | BIASES},
    "mpnet": MPNET | {"task": "masked_lm"},
    "mpnet_encoder": MPNET | {"task": "encoder"},
    "olmo2": {"model_type": "olmo2", "settings": DECODER | UNTIED | {"rope_parameters": rope(5e5)}},
    "phi": PHI,
    "phi_norms": PHI | {"settings": PHI["settings"] | {"num_key_value_heads": 2, "qk_layernorm": True}},
    "phi3": {
        "model_type": "phi3",
        "settings": DECODER
        | UNTIED
        | {
            "num_key_value_heads": 4,
            "original_max_position_embeddings": 64,
            "sliding_window": 5,
            "rope_parameters": rope(1e4, partial_rotary_factor=1.0),
        },
        "legacy_lacks": ("partial_rotary_factor",),
    },
    "phi3_longrope": {
        "model_type": "phi3",
        "settings": DECODER
        | UNTIED
        | {
            "num_key_value_heads": 4,
            "max_position_embeddings": 40,
            "original_max_position_embeddings": 10,
            "sliding_window": 4096,
            "rope_parameters": rope(1e4, "longrope", partial_rotary_factor=1.0, **PHI3_LONGROPE),
        },
        "legacy": {"rope_scaling": {"type": "longrope", **PHI3_LONGROPE}},
        "legacy_lacks": ("partial_rotary_factor",),
    },
    "phi4_mini": {
        "model_type": "phi3",
        "settings": DECODER
        | TIED
        | {
            "hidden_size": 32,
            "max_position_embeddings": 80,
            "original_max_position_embeddings": 10,
            "sliding_window": 4096,
            "rope_parameters": rope(1e4, "longrope", partial_rotary_factor=0.75, **PHI4_LONGROPE),
        },
        "legacy": {"rope_scaling": {"type": "longrope", **PHI4_LONGROPE}},
    },
    "qwen2": {
        "model_type": "qwen2",
        "settings": DECODER
        | TIED
        | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "rope_parameters": rope(1e6)},
    },
    "qwen3": {
        "model_type": "qwen3",
        "settings": DECODER | TIED | {"head_dim": 8, "rope_parameters": rope(1e6)},
        "legacy": {"max_window_layers": 2},
    },
    "roberta": ROBERTA | {"model_type": "roberta", "task": "masked_lm"},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "settings": DECODER
        | UNTIED
        | {
            "head_dim": 8,
            "moe_intermediate_size": 20,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "rope_parameters": rope(1e6),
        },
        "legacy": {"num_experts": 5, "max_window_layers": 2},
        "legacy_lacks": ("num_local_experts",),
    },
    "smollm2": {
        "model_type": "llama",
        "dtype": "float16",
        "settings": DECODER
        | TIED
        | {"num_attention_heads": 3, "num_key_value_heads": 3, "rope_parameters": rope(1.3e5)},
        "legacy_lacks": ("head_dim",),
    },
    "smollm3": {
        "model_type": "smollm3",
        "settings": DECODER | TIED | {"no_rope_layer_interval": 2, "rope_parameters": rope(2e6)},
        "legacy_lacks": ("no_rope_layers",),
    },
    "stablelm": STABLELM,
    "stablelm_parallel": STABLELM
    | {"settings": STABLELM["settings"] | {"use_parallel_residual": True, "use_qkv_bias": False}},
    "t5": {
        "task": "seq2seq_lm",
        "model_type": "t5",
        "settings": T5 | {"d_ff": 40, "feed_forward_proj": "relu", "tie_word_embeddings": True},
        "legacy_lacks": ("tie_word_embeddings", "scale_decoder_outputs", "dense_act_fn", "is_gated_act"),
        "deviations": T5_DEVIATIONS | {"shared": 1.0},
    },
    "t5_gated": {
        "task": "seq2seq_lm",
        "model_type": "t5",
        "settings": T5 | {"d_ff": 28, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "own_head": True,
        "legacy": {"tie_word_embeddings": False},
        "legacy_lacks": ("scale_decoder_outputs", "dense_act_fn", "is_gated_act"),
        "deviations": T5_DEVIATIONS,
    },
    "xlm_roberta_encoder": ROBERTA
    | {"model_type": "xlm-roberta", "task": "encoder", "settings": ROBERTA["settings"] | {"type_vocab_size": 2}},
}
