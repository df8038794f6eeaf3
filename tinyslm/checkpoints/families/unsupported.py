"""Families that are refused by name, with the mechanism that this library does not have."""

FAMILIES_WITH = {  # {mechanism: the model_types that need it}
    "multi-head latent attention (MLA)": (
        *("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k25", "longcat_flash"),
        *("glm4_moe_lite", "glm_moe_dsa", "minicpm3", "mistral4", "youtu"),
    ),
    "compressed sparse attention": ("deepseek_v4",),
    "state-space layers (Mamba)": (
        *("mamba", "mamba2", "falcon_mamba"),
        *("bamba", "falcon_h1", "granitemoehybrid", "jamba", "nemotron_h", "zamba", "zamba2"),
    ),
    "layers of linear attention": (
        *("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"),
        *("kimi_linear", "minimax", "olmo_hybrid"),
    ),
    "recurrent layers": ("rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm", "recurrent_gemma"),
    "short convolutions": ("lfm2", "lfm2_moe"),
    "experts that every token uses": ("qwen2_moe", "ernie4_5_moe", "glm4_moe", "granitemoeshared", "hunyuan_v1_moe"),
    "attention sinks": ("gpt_oss",),
    "attention in chunks": ("llama4", "llama4_text"),
    "attention biases by distance (ALiBi)": ("bloom", "mpt"),
    "cross attention to images": ("mllama",),
    "per-layer embeddings": ("gemma3n", "gemma3n_text", "gemma4", "gemma4_text"),
    "clipped queries, keys and values": ("dbrx",),
    "routing with a sparse mixer": ("phimoe",),
    "differential attention": ("diffllama",),
    "norms before the output projections": ("bitnet",),
}
MISSING_MECHANISMS = {model_type: mechanism for mechanism, names in FAMILIES_WITH.items() for model_type in names}
