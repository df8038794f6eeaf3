"""Encoder hyperparameters. Families of encoders differ in these fields; they share all classes."""

from dataclasses import dataclass, field
from typing import ClassVar

from tinyslm.models.config_checks import SIZE, Range, check_common, check_rope, require, require_in_range
from tinyslm.models.source import Source
from tinyslm.ops import Rope


@dataclass(frozen=True)
class EncoderConfig:
    """Configuration of an encoder. Field names as in Hugging Face transformers. Letters: see `tinyslm`.

    `ropes` and `windows` hold one entry per layer, because the layers of a model can differ.

    Sources: Devlin et al. 2019 (BERT), section 3; Sanh et al. 2019 (DistilBERT), section 3, without token types and
    pooler; Liu et al. 2019 (RoBERTa); Song et al. 2020 (MPNet); Warner et al. 2024 (ModernBERT), section 2.
    """

    family: str  # the checkpoint layout it is loaded from and saved in, such as "bert"
    vocab_size: int  # V
    hidden_size: int  # C
    intermediate_size: int  # F
    num_hidden_layers: int
    num_attention_heads: int  # H
    head_dim: int  # D
    max_position_embeddings: int  # tokens of the longest sequence; in files of RoBERTa, `padding_idx` + 1 more
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
    learned_positions: bool = True  # position embeddings are added to the token embeddings
    padding_idx: int | None = None  # positions do not count this token, and begin at padding_idx + 1 (RoBERTa)
    relative_attention_num_buckets: int = 0  # of relative position biases (MPNet); 0: no such biases
    relative_attention_max_distance: int = 128  # in tokens; all larger distances share the last bucket
    ropes: tuple[Rope | None, ...] = ()  # per layer; None: no rotary positions
    windows: tuple[int | None, ...] = ()  # per layer, tokens on each side, the token itself included; None: all tokens
    pre_norm: bool = False  # pre-norm blocks, the first one without an attention norm, and a final norm (ModernBERT)
    norm_bias: bool = True
    gated: bool = False
    attention_bias: bool = True
    feed_forward_bias: bool = True
    transform_activation: str | None = None  # of the masked-LM head; None: `activation`
    transform_bias: bool = True  # of the linear layer in the masked-LM head
    decoder_bias: bool = True  # of the output layer

    num_decoder_layers: ClassVar[int] = 0
    num_experts: ClassVar[int] = 0
    norm: ClassVar[str] = "layer"
    norm_offset: ClassVar[float] = 0.0

    def __post_init__(self):
        check_common(self, not_sizes=("relative_attention_num_buckets",))
        object.__setattr__(self, "tie_word_embeddings", self.tie_word_embeddings or not self.masked_head)
        for name in ("ropes", "windows"):
            entries = getattr(self, name)
            if all(entry is None for entry in entries):  # also for another number of layers than before
                entries = (None,) * self.num_hidden_layers
            object.__setattr__(self, name, tuple(entries))
            require(
                self,
                len(entries) == self.num_hidden_layers,
                f"{name} has {len(entries)} entries for {self.num_hidden_layers} layers",
            )
        for window in self.windows:
            require(self, window is None or SIZE.holds(window), f"a window of {window!r} tokens, expected {SIZE}")
        for rope in {id(rope): rope for rope in self.ropes if rope is not None}.values():  # layers share their ropes
            check_rope(self, rope)
        if self.padding_idx is not None:
            require_in_range(self, "padding_idx", self.padding_idx, SIZE._replace(low=0))
        if self.relative_attention_num_buckets != 0:
            allowed = Range(4, 2 * self.relative_attention_max_distance, integer=True)  # 2 or more for each direction
            require_in_range(self, "relative_attention_num_buckets", self.relative_attention_num_buckets, allowed)

    @property
    def num_key_value_heads(self) -> int:
        """Every query head has its own key/value head."""
        return self.num_attention_heads

    @property
    def attention_output_bias(self) -> bool:
        """Whether the output projection of attention has a bias, like the other projections."""
        return self.attention_bias

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return self.head_dim**-0.5
