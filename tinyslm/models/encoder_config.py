"""What an encoder looks like, in numbers and choices."""

from dataclasses import dataclass
from typing import ClassVar

from tinyslm.models.config_checks import check_activation, check_sizes, require


@dataclass(frozen=True)
class EncoderConfig:
    """A BERT or DistilBERT. Names are those of Hugging Face where they exist. Letters: see tinyslm.

    Source: Devlin et al. 2019, section 3; Sanh et al. 2019, section 3, for the one without token types and pooler.
    """

    family: str  # which checkpoint layout it came from and is saved in, such as "bert"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    head_dim: int  # D
    max_position_embeddings: int
    type_vocab_size: int | None = None  # kinds of tokens, such as those of a first and a second sentence; None: one
    norm_eps: float = 1e-12
    activation: str = "gelu"
    masked_head: bool = True  # predicts the tokens of the text; without it an encoder ends with its states
    pooler: bool = False  # makes one vector of a text from the state of its first token
    tie_word_embeddings: bool = True  # of the masked head; without one there is nothing to untie
    pad_token_id: int | None = None
    without_prefix: bool = False  # the checkpoint's tensor names lack the family's first part ("bert.")
    gamma_beta_names: bool = False  # they end as in the first files: gamma and beta of a norm

    num_decoder_layers: ClassVar[int] = 0
    num_experts: ClassVar[int] = 0
    norm: ClassVar[str] = "layer"
    norm_offset: ClassVar[float] = 0.0
    gated: ClassVar[bool] = False
    attention_bias: ClassVar[bool] = True
    attention_output_bias: ClassVar[bool] = True
    feed_forward_bias: ClassVar[bool] = True

    def __post_init__(self):
        check_sizes(self)
        check_activation(self)
        types = self.type_vocab_size
        require(
            self,
            types is None or (isinstance(types, int) and types > 0),
            f"type_vocab_size is {types!r}, expected a positive integer or None",
        )
        object.__setattr__(self, "tie_word_embeddings", self.tie_word_embeddings or not self.masked_head)

    @property
    def num_key_value_heads(self) -> int:
        """Every query head has its own key/value head."""
        return self.num_attention_heads

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.head_dim**-0.5
