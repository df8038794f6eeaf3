"""Encoder-decoder hyperparameters (T5)."""

from dataclasses import dataclass, field
from typing import ClassVar

from tinyslm.models.config_checks import check_common, require
from tinyslm.models.source import Source


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Configuration of T5 1.0 or 1.1. Field names as in Hugging Face transformers. Letters: see `tinyslm`.

    Sources: Raffel et al. 2020, section 2.1; Shazeer 2020, section 2, for the gated feed-forward layer. No paper
    describes the untied head and the missing `output_scale` of version 1.1: they are in the published code.
    """

    family: str  # the checkpoint layout it is loaded from and saved in, such as "t5"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int  # layers of the encoder
    num_decoder_layers: int  # layers of the decoder
    num_attention_heads: int  # H
    head_dim: int  # D
    relative_attention_num_buckets: int
    relative_attention_max_distance: int  # in tokens; all larger distances share the last bucket
    norm_eps: float = 1e-6
    activation: str = "relu"
    gated: bool = False
    output_scale: float = 1.0  # factor of the decoder's final hidden states, before the head
    tie_word_embeddings: bool = True
    decoder_start_token_id: int = 0
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int = 0  # the decoder's input where a label is ignored
    without_prefix: bool = False
    source: Source | None = field(default=None, compare=False, repr=False)  # None: not loaded from a directory

    max_position_embeddings: ClassVar[None] = None  # relative positions have no largest length
    num_experts: ClassVar[int] = 0
    gamma_beta_names: ClassVar[bool] = False
    norm: ClassVar[str] = "rms"
    norm_offset: ClassVar[float] = 0.0
    attention_bias: ClassVar[bool] = False
    attention_output_bias: ClassVar[bool] = False
    feed_forward_bias: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0  # T5 does not scale scores; its query weights start smaller instead

    def __post_init__(self):
        tokens = ("decoder_start_token_id", "pad_token_id")
        check_common(self, not_sizes=tokens)
        buckets, max_distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        require(self, buckets >= 4, f"relative_attention_num_buckets is {buckets}, expected at least 4")
        require(
            self,
            max_distance > buckets // 2,
            f"relative_attention_max_distance is {max_distance}, expected more than the {buckets // 2} distances "
            "with a bucket of their own",
        )
        for name in tokens:
            value = getattr(self, name)
            require(
                self,
                isinstance(value, int) and 0 <= value < self.vocab_size,
                f"{name} is {value!r}, expected a token id below vocab_size {self.vocab_size}",
            )

    @property
    def num_key_value_heads(self) -> int:
        """Every query head has its own key/value head."""
        return self.num_attention_heads
