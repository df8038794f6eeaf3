"""The transform in BERT's masked-LM head."""

from tinyslm import ops
from tinyslm.modules.linear import Linear
from tinyslm.modules.normalization import LayerNorm
from tinyslm.tree import Array, Module


class MaskedLMHead(Module):
    """Transform norm(activation(transform(x))) of the final hidden states before the output head.

    transform: (C -> C);  bias: (V,), the bias of a head that is tied to the embedding table, otherwise None.
    Source: Devlin et al. 2019 (in their code, not in the paper).
    """

    transform: Linear
    norm: LayerNorm
    bias: Array | None = None
    activation: str = "gelu"

    def __call__(self, x: Array) -> Array:
        """x: (..., C) -> (..., C)."""
        return self.norm(ops.ACTIVATIONS[self.activation](self.transform(x)))
