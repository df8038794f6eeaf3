"""What a masked language model puts between its last layer and the head."""

from tinyslm import ops
from tinyslm.modules.linear import Linear
from tinyslm.modules.normalization import LayerNorm
from tinyslm.tree import Array, Module


class MaskedLMHead(Module):
    """norm(activation(transform(x))): from the state of a position to the vector that tokens are compared with.

    transform: (C -> C);  bias: (V,), what the embedding's table lacks where it serves as the head, else None.
    Source: Devlin et al. 2019 (in their code, not in the paper).
    """

    transform: Linear
    norm: LayerNorm
    bias: Array | None = None
    activation: str = "gelu"

    def __call__(self, x):
        """x: (..., C) -> (..., C)."""
        return self.norm(ops.ACTIVATIONS[self.activation](self.transform(x)))
