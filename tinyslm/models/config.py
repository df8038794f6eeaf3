"""What a decoder looks like, in numbers and choices. Families differ in these fields, not in their classes."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tinyslm.models import config_checks
from tinyslm.models.config_checks import check_activation, check_sizes
from tinyslm.ops import Rope


@dataclass(frozen=True)
class DecoderConfig:
    """Every decoder of the catalogue is one of these. Names are those of Hugging Face where they exist.

    Per-layer fields (`ropes`, `windows`) hold one entry per layer, so that layers may differ. Letters: see tinyslm.
    """

    family: str  # which checkpoint layout it came from and is saved in, such as "llama"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    num_key_value_heads: int  # G
    head_dim: int  # D
    max_position_embeddings: int
    ropes: tuple[Rope | None, ...] = ()  # per layer; None: the layer does not know positions
    windows: tuple[int | None, ...] = ()  # per layer; None: sees everything before it
    learned_positions: bool = False  # a table of positions added to the embedding (GPT-2)
    norm: str = "rms"  # or "layer"
    norm_eps: float = 1e-6
    norm_offset: float = 0.0  # 1 where the stored gain is w - 1 (Gemma)
    query_key_norm: bool = False  # RMS norm of each query and key head
    sublayer_output_norm: bool = False  # also normalize what attention and feed-forward add (Gemma 2 and 3)
    activation: str = "silu"
    gated: bool = True
    attention_bias: bool = False  # on query, key and value
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    attention_scale: float | None = None  # None: 1 / sqrt(D)
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    tie_word_embeddings: bool = True
    num_experts: int = 0  # E; 0: one feed-forward layer per block
    experts_per_token: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    without_prefix: bool = False  # the checkpoint's tensor names lack the family's first part ("transformer." of GPT-2)

    num_decoder_layers: ClassVar[int] = 0  # beside those that are counted above
    gamma_beta_names: ClassVar[bool] = False

    def __post_init__(self):
        require = partial(config_checks.require, self)
        check_sizes(self, but=("num_experts", "experts_per_token"))
        check_activation(self)
        require(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"num_attention_heads {self.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {self.num_key_value_heads}",
        )
        require(self.norm in ("rms", "layer"), f"norm is {self.norm!r}, expected 'rms' or 'layer'")
        require(self.norm == "rms" or not self.norm_offset, "norm_offset belongs to norm 'rms'")
        for name in ("ropes", "windows"):
            entries = getattr(self, name) or (None,) * self.num_hidden_layers
            object.__setattr__(self, name, tuple(entries))
            require(
                len(entries) == self.num_hidden_layers,
                f"{name} has {len(entries)} entries for {self.num_hidden_layers} layers",
            )
        for window in self.windows:
            require(window is None or window > 0, f"a window of {window} tokens, expected at least 1, or None")
        for rope in filter(None, self.ropes):
            pairs = rope.dimension // 2
            require(
                rope.dimension == 2 * pairs and 1 <= pairs <= self.head_dim // 2,
                f"rope turns {rope.dimension} dimensions, expected an even number up to head_dim {self.head_dim}",
            )
            for factors in (rope.short_factors, rope.long_factors):
                require(
                    rope.scaling != "longrope" or len(factors) == pairs,
                    f"longrope has {len(factors)} factors for {rope.dimension} turning dimensions, expected half that",
                )
        require(
            min(1, self.num_experts) <= self.experts_per_token <= self.num_experts,
            f"experts_per_token {self.experts_per_token} with num_experts {self.num_experts}",
        )

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale
