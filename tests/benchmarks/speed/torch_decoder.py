"""The same decoder in PyTorch, written as one writes it there, with our weights: a peer for training.

Eager mode, scaled-dot-product attention and the RMS norm of the library, AdamW in its fused form.
"""

import importlib.util
from contextlib import suppress

import numpy as np

from tinyslm.tree import named_arrays

INSTALLED = importlib.util.find_spec("torch") is not None
if INSTALLED:
    import torch
    from torch.nn import functional

    from tinyslm.parallel import default_threads

    torch.set_num_threads(default_threads())
    with suppress(RuntimeError):
        torch.set_num_interop_threads(1)


class TorchDecoder:
    """logits(token_ids) of a Llama, with parameters {our path: tensor}."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {path: torch.tensor(array, requires_grad=True) for path, array in named_arrays(model).items()}

    def logits(self, token_ids):
        """(B, T) -> (B, T, V)."""
        config, (B, T) = self.config, token_ids.shape
        D = config.head_dim
        cos, sin = self.rotation(T)
        x = functional.embedding(token_ids, self.weights["embedding.table"])

        def linear(x, path):
            return functional.linear(x, self.weights[f"{path}.weight"])

        def norm(x, path):
            return functional.rms_norm(x, x.shape[-1:], self.weights[f"{path}.weight"], config.norm_eps)

        def turned(x):
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-second, first), dim=-1) * sin

        for layer in range(config.num_hidden_layers):
            path = f"layers.{layer}"
            normed = norm(x, f"{path}.attention_norm")
            query, key, value = (
                linear(normed, f"{path}.attention.{name}").view(B, T, -1, D).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(
                turned(query), turned(key), value, is_causal=True, enable_gqa=True
            )
            x = x + linear(mixed.transpose(1, 2).reshape(B, T, -1), f"{path}.attention.output")
            normed = norm(x, f"{path}.feed_forward_norm")
            gate = functional.silu(linear(normed, f"{path}.feed_forward.gate"))
            x = x + linear(gate * linear(normed, f"{path}.feed_forward.up"), f"{path}.feed_forward.down")
        return functional.linear(norm(x, "norm"), self.weights["embedding.table"])

    def rotation(self, T):
        """cos and sin of every position: (T, D)."""
        (rope, *_), D = self.config.ropes, self.config.head_dim
        inverse = rope.theta ** -(torch.arange(0, D, 2) / D)
        angle = torch.outer(torch.arange(T), inverse).repeat(1, 2)
        return angle.cos(), angle.sin()

    def loss(self, token_ids):
        """Mean cross entropy of the next token."""
        logits = self.logits(token_ids)[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), token_ids[:, 1:].flatten())


def training_step(model, token_ids):
    """A function that takes one step of AdamW on a batch, and returns the loss before it."""
    decoder, token_ids = TorchDecoder(model), torch.from_numpy(np.asarray(token_ids))
    optimizer = torch.optim.AdamW(decoder.weights.values(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = decoder.loss(token_ids)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
