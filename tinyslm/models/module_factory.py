"""Factory of the modules that decoder, encoder and encoder-decoder are built from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinyslm.modules import Attention, CrossAttention, Embedding, FeedForward, LayerNorm, Linear, RMSNorm


@dataclass(frozen=True)
class ModuleFactory:
    """Modules with the sizes and options of `config`; `make(shape, kind)` makes every array.

    kind is "embedding", "weight", "query" (weight of a query projection), "residual" (weight whose product is added to
    the residual stream), "gain" (of a norm) or "bias".
    """

    config: Any
    make: Callable

    def embedding(self, rows: int) -> Embedding:
        """An embedding table (rows, C)."""
        return Embedding(self.make((rows, self.config.hidden_size), "embedding"))

    def linear(self, outputs: int, inputs: int, bias: bool = False, kind: str = "weight") -> Linear:
        """A linear layer with weight (outputs, inputs)."""
        return Linear(self.make((outputs, inputs), kind), self.make((outputs,), "bias") if bias else None)

    def norm(self, size: int | None = None) -> Any:
        """The norm of this configuration, an RMSNorm or a LayerNorm, over `size` features, hidden_size by default."""
        config, size = self.config, size or self.config.hidden_size
        if config.norm == "layer":
            bias = self.make((size,), "bias") if config.norm_bias else None
            return LayerNorm(self.make((size,), "gain"), bias, config.norm_eps)
        return RMSNorm(self.make((size,), "gain"), config.norm_eps, config.norm_offset)

    def feed_forward(self, size: int | None = None) -> FeedForward:
        """A feed-forward layer, gated or not, with `size` neurons, intermediate_size by default."""
        config = self.config
        C, F, bias = config.hidden_size, size or config.intermediate_size, config.feed_forward_bias
        return FeedForward(
            up=self.linear(F, C, bias),
            down=self.linear(C, F, bias, "residual"),
            gate=self.linear(F, C, bias) if config.gated else None,
            activation=config.activation,
        )

    def attention(self, module: type = Attention, **settings) -> Attention | CrossAttention:
        """An attention layer with its four projections. settings: the other fields of the module."""
        config = self.config
        C, D = config.hidden_size, config.head_dim
        H, G = config.num_attention_heads, config.num_key_value_heads
        return module(
            query=self.linear(H * D, C, config.attention_bias, "query"),
            key=self.linear(G * D, C, config.attention_bias),
            value=self.linear(G * D, C, config.attention_bias),
            output=self.linear(C, H * D, config.attention_output_bias, "residual"),
            head_dim=D,
            scale=config.scale,
            **settings,
        )

    def head(self, bias: bool = False) -> Linear | None:
        """The output embedding (V, C), or None where it is tied to the input embedding."""
        config = self.config
        return None if config.tie_word_embeddings else self.linear(config.vocab_size, config.hidden_size, bias)
