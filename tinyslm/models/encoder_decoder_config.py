"""What an encoder-decoder looks like, in numbers and choices."""

from dataclasses import dataclass
from typing import ClassVar

from tinyslm.models.config_checks import check_activation, check_sizes, require


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """A T5 of either form. Names are those of Hugging Face where they exist. Letters: see tinyslm.

    Source: Raffel et al. 2020, section 2.1; for the gated layer Shazeer 2020, section 2. That version 1.1 has a head
    of its own and no `output_scale` is in its published code, not in a paper.
    """

    family: str  # which checkpoint layout it came from and is saved in, such as "t5"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int  # of the encoder
    num_decoder_layers: int
    num_attention_heads: int  # H
    head_dim: int  # D
    relative_attention_num_buckets: int
    relative_attention_max_distance: int  # tokens; all that is farther is in the last bucket
    norm_eps: float = 1e-6
    activation: str = "relu"
    gated: bool = False
    output_scale: float = 1.0  # of what the decoder leaves, before the head
    tie_word_embeddings: bool = True
    decoder_start_token_id: int = 0
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int = 0  # what a decoder reads where there is no label
    without_prefix: bool = False

    max_position_embeddings: ClassVar[None] = None  # distances are what it knows, and they have no end
    num_experts: ClassVar[int] = 0
    gamma_beta_names: ClassVar[bool] = False
    norm: ClassVar[str] = "rms"
    norm_offset: ClassVar[float] = 0.0
    attention_bias: ClassVar[bool] = False
    attention_output_bias: ClassVar[bool] = False
    feed_forward_bias: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0  # of scores: the queries of a new model are smaller instead

    def __post_init__(self):
        tokens = ("decoder_start_token_id", "pad_token_id")
        check_sizes(self, but=tokens)
        check_activation(self)
        buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        require(self, buckets >= 4, f"relative_attention_num_buckets is {buckets}, expected at least 4")
        require(
            self,
            farthest > buckets // 2,
            f"relative_attention_max_distance is {farthest}, expected more than the {buckets // 2} distances that have "
            "a bucket of their own",
        )
        for name in tokens:
            value = getattr(self, name)
            require(
                self,
                isinstance(value, int) and 0 <= value < self.vocab_size,
                f"{name} is {value!r}, expected a token of the vocabulary of {self.vocab_size}",
            )

    @property
    def num_key_value_heads(self) -> int:
        """Every query head has its own key/value head."""
        return self.num_attention_heads
