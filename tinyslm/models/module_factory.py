"""Making the modules of a model: what decoder, encoder and encoder-decoder are put together from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinyslm.modules import Attention, CrossAttention, Embedding, FeedForward, LayerNorm, Linear, RMSNorm


@dataclass(frozen=True)
class ModuleFactory:
    """Modules of the sizes and choices in `config`, every array by `make(shape, kind)`.

    kind is "embedding", "weight", "query" (a weight that makes queries), "residual" (a weight whose product is added to
    the residual stream), "gain" (it multiplies) or "shift" (it is added).
    """

    config: Any
    make: Callable

    def embedding(self, rows) -> Embedding:
        """A table of one vector per row: tokens, positions."""
        return Embedding(self.make((rows, self.config.hidden_size), "embedding"))

    def linear(self, outputs, inputs, bias=False, kind="weight") -> Linear:
        """weight (outputs, inputs) and perhaps a bias."""
        return Linear(self.make((outputs, inputs), kind), self.make((outputs,), "shift") if bias else None)

    def norm(self, size=None) -> RMSNorm | LayerNorm:
        """The norm of this configuration over `size` features, hidden_size by default."""
        config, size = self.config, size or self.config.hidden_size
        if config.norm == "layer":
            return LayerNorm(self.make((size,), "gain"), self.make((size,), "shift"), config.norm_eps)
        return RMSNorm(self.make((size,), "gain"), config.norm_eps, config.norm_offset)

    def feed_forward(self) -> FeedForward:
        """Up, down and, in a gated layer, gate."""
        config = self.config
        C, F, bias = config.hidden_size, config.intermediate_size, config.feed_forward_bias
        return FeedForward(
            up=self.linear(F, C, bias),
            down=self.linear(C, F, bias, "residual"),
            gate=self.linear(F, C, bias) if config.gated else None,
            activation=config.activation,
        )

    def attention(self, module=Attention, **settings) -> Attention | CrossAttention:
        """The four projections; settings are the other fields of the module."""
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
