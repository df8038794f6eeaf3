"""Encoder hyperparameters (BERT, DistilBERT)."""

from dataclasses import dataclass, field
from typing import ClassVar

from tinyslm.models.config_checks import check_common
from tinyslm.models.source import Source


@dataclass(frozen=True)
class EncoderConfig:
    """Configuration of an encoder. Field names as in Hugging Face transformers. Letters: see `tinyslm`.

    Sources: Devlin et al. 2019 (BERT), section 3; Sanh et al. 2019 (DistilBERT), section 3, without token types and
    pooler.
    """

    family: str  # the checkpoint layout it is loaded from and saved in, such as "bert"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    head_dim: int  # D
    max_position_embeddings: int
    type_vocab_size: int | None = None  # number of token types (first and second sentence); None: no token types
    norm_eps: float = 1e-12
    activation: str = "gelu"
    masked_head: bool = True  # masked-LM head; without it the model returns hidden states
    pooler: bool = False  # linear layer and tanh on the first token's hidden state
    tie_word_embeddings: bool = True  # of the masked-LM head; always true without one
    pad_token_id: int | None = None
    without_prefix: bool = False  # the file's tensor names lack the family's prefix ("bert.")
    gamma_beta_names: bool = False  # norms are named gamma and beta in the file, as in the first BERT files
    source: Source | None = field(default=None, compare=False, repr=False)  # None: not loaded from a directory

    num_decoder_layers: ClassVar[int] = 0
    num_experts: ClassVar[int] = 0
    norm: ClassVar[str] = "layer"
    norm_offset: ClassVar[float] = 0.0
    gated: ClassVar[bool] = False
    attention_bias: ClassVar[bool] = True
    attention_output_bias: ClassVar[bool] = True
    feed_forward_bias: ClassVar[bool] = True

    def __post_init__(self):
        check_common(self)
        object.__setattr__(self, "tie_word_embeddings", self.tie_word_embeddings or not self.masked_head)

    @property
    def num_key_value_heads(self) -> int:
        """Every query head has its own key/value head."""
        return self.num_attention_heads

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5
