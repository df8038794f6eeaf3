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
    query_key_norm: bool = False  # RMS norm of each query and key head
    sublayer_output_norm: bool = False  # post-norms on the sublayer outputs (Gemma 2 and 3)
    activation: str = "silu"
    gated: bool = True
    attention_bias: bool = False  # of the query, key and value projections
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    attention_scale: float | None = None  # factor of the scores; None: 1 / sqrt(D)
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    tie_word_embeddings: bool = True
    num_experts: int = 0  # E; 0: no mixture of experts
    experts_per_token: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    without_prefix: bool = False  # the file's tensor names lack the family's prefix ("transformer." of GPT-2)
    source: Source | None = field(default=None, compare=False, repr=False)  # None: not loaded from a directory

    num_decoder_layers: ClassVar[int] = 0  # only encoder-decoders have a second stack
    gamma_beta_names: ClassVar[bool] = False

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
        for name in ("ropes", "windows"):
            entries = getattr(self, name) or (None,) * self.num_hidden_layers
            object.__setattr__(self, name, tuple(entries))
            check(
                len(entries) == self.num_hidden_layers,
                f"{name} has {len(entries)} entries for {self.num_hidden_layers} layers",
            )
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

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale
