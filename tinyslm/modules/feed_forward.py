"""Feed-forward layer. In most models it has about two thirds of the parameters."""

from tinyslm import ops
from tinyslm.modules.forward_context import Context
from tinyslm.modules.linear import Linear
from tinyslm.tree import Array, Module


class FeedForward(Module):
    """Feed-forward layer, down(activation(gate(x)) * up(x)); without a gate, down(activation(up(x))).

    up, gate: (C -> F);  down: (F -> C). Neuron i is row i of gate and up together with column i of down.
    """

    up: Linear
    down: Linear
    gate: Linear | None = None
    activation: str = "silu"

    def __call__(self, x: Array, context: Context | None = None, name: str = "feed_forward") -> Array:
        """x: (..., C) -> (..., C). context: observes the intermediates, under the name of this layer in its block."""
        if context is not None:
            context.observe(f"{name}.input", x)
        activation = ops.ACTIVATIONS[self.activation]
        if self.gate is None:
            hidden = activation(self.up(x))  # (..., F)
        else:
            hidden = ops.gated(self.gate(x), self.up(x), activation=activation)  # (..., F)
        if context is not None:
            context.observe(f"{name}.neurons", hidden)
        return self.down(hidden)
