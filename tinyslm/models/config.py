"""Decoder hyperparameters. Families of decoders differ in these fields; they share all classes."""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from tinyslm.models.config_checks import EXPERT_COUNT, SIZE, check_common, check_rope, require
from tinyslm.models.source import Source
from tinyslm.ops import Rope


@dataclass(frozen=True)
class DecoderConfig:
    """Configuration of a decoder. Field names as in Hugging Face transformers. Letters: see `tinyslm`.

    `ropes` and `windows` hold one entry per layer, because the layers of a model can differ.
    """

    family: str  # the checkpoint layout it is loaded from and saved in, such as "llama"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    num_key_value_heads: int  # G
    head_dim: int  # D
    max_position_embeddings: int
    ropes: tuple[Rope | None, ...] = ()  # per layer; None: no rotary positions (NoPE)
    windows: tuple[int | None, ...] = ()  # sliding window per layer, in tokens; None: full attention
    learned_positions: bool = False  # position embeddings are added to the token embeddings (GPT-2)
    norm: str = "rms"  # or "layer"
    norm_eps: float = 1e-6
    norm_offset: float = 0.0  # 1 where the stored gain is w - 1 (Gemma)
    query_key_norm: bool = False  # norm of each query and key head
    joint_query_key_norm: bool = False  # instead one norm over all query heads, and one over all key heads (OLMo 2)
    pre_norm: bool = True  # norms on the sublayer inputs (not in OLMo 2)
    sublayer_output_norm: bool = False  # post-norms on the sublayer outputs (Gemma 2 and 3, OLMo 2)
    parallel_blocks: bool = False  # attention and feed-forward layer read the same hidden state (GPT-NeoX, Phi)
    shared_norm: bool = False  # of parallel blocks: attention and feed-forward layer share one norm (Phi)
    residual_multiplier: float = 1.0  # factor of the sublayer outputs (Granite)
    activation: str = "silu"
    gated: bool = True
    attention_bias: bool = False  # of the query, key and value projections
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    attention_scale: float | None = None  # factor of the scores; None: 1 / sqrt(D)
    attention_softcap: float | None = None
    logits_scaling: float = 1.0  # divisor of the logits (Granite)
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    tie_word_embeddings: bool = True
    head_bias: bool = False  # of the output layer, which is then not tied (Phi)
    num_experts: int = 0  # E; 0: no mixture of experts
    experts_per_token: int = 0
    expert_intermediate_size: int | None = None  # F of the experts; None: intermediate_size
    normalized_routing: bool = True  # the weights of a token's experts sum to 1
    dense_layers: tuple[bool, ...] = ()  # per layer; True: no mixture in a model with experts. Default: all False
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    without_prefix: bool = False  # the file's tensor names lack the family's prefix ("transformer." of GPT-2)
    source: Source | None = field(default=None, compare=False, repr=False)  # None: not loaded from a directory

    num_decoder_layers: ClassVar[int] = 0  # only encoder-decoders have a second stack
    gamma_beta_names: ClassVar[bool] = False
    norm_bias: ClassVar[bool] = True  # of layer norms

    def __post_init__(self):
        check_common(self, not_sizes=("num_experts", "experts_per_token"))
        check = partial(require, self)
        check(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"num_attention_heads {self.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {self.num_key_value_heads}",
        )
        check(self.norm in ("rms", "layer"), f"norm is {self.norm!r}, expected 'rms' or 'layer'")
        check(self.norm == "rms" or not self.norm_offset, "norm_offset is only for norm 'rms'")
        check(self.query_key_norm or not self.joint_query_key_norm, "joint_query_key_norm needs query_key_norm")
        check(self.parallel_blocks or not self.shared_norm, "shared_norm is only for parallel_blocks")
        check(self.pre_norm or self.sublayer_output_norm, "without pre_norm, sublayer_output_norm is needed")
        check(
            not (self.parallel_blocks and (self.sublayer_output_norm or self.residual_multiplier != 1.0)),
            "parallel_blocks have neither sublayer_output_norm nor residual_multiplier",
        )
        check(not (self.head_bias and self.tie_word_embeddings), "head_bias needs an untied head")
        for name in ("ropes", "windows"):
            entries = getattr(self, name) or (None,) * self.num_hidden_layers
            object.__setattr__(self, name, tuple(entries))
            check(
                len(entries) == self.num_hidden_layers,
                f"{name} has {len(entries)} entries for {self.num_hidden_layers} layers",
            )
        has_any = any(self.dense_layers)  # otherwise they can be those of another number of layers
        dense_layers = tuple(self.dense_layers) if has_any else (False,) * self.num_hidden_layers
        object.__setattr__(self, "dense_layers", dense_layers)
        dense = len(dense_layers)
        check(dense == self.num_hidden_layers, f"dense_layers has {dense} entries for {self.num_hidden_layers} layers")
        check(self.num_experts > 0 or not any(self.dense_layers), "dense_layers is only for models with experts")
        for window in self.windows:
            check(window is None or SIZE.holds(window), f"a window of {window!r} tokens, expected {SIZE}, or None")
        for rope in {id(rope): rope for rope in self.ropes if rope is not None}.values():  # layers share their ropes
            check_rope(self, rope)
        check(
            self.num_experts == 0 or EXPERT_COUNT.holds(self.num_experts),
            f"num_experts is {self.num_experts!r}, expected {EXPERT_COUNT}, or 0",
        )
        check(
            min(1, self.num_experts) <= self.experts_per_token <= self.num_experts,
            f"experts_per_token {self.experts_per_token} with num_experts {self.num_experts}, expected 1 to "
            "num_experts (0 without experts)",
        )

    def has_experts(self, layer: int) -> bool:
        """Whether a layer has a mixture of experts."""
        return self.num_experts > 0 and not self.dense_layers[layer]

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale
