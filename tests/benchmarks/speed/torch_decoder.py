"""The same decoder in PyTorch, with the weights of ours, as a peer for training. Imports nothing of tinyslm.

Scaled-dot-product attention and the RMS norm of PyTorch, AdamW in its fused form, eager or compiled.
"""

import numpy as np

from tests.process_memory import peak, resident

PACKAGES = ("torch",)


class TorchDecoder:
    """A Llama with parameters {path: tensor}. shape: its layers, head_dim, theta and norm_eps."""

    def __init__(self, weights, shape):
        import torch

        self.shape = shape
        self.weights = {path: torch.tensor(array, requires_grad=True) for path, array in weights.items()}

    def hidden_states(self, token_ids):
        """(B, T) -> (B, T, C), after the last norm."""
        import torch
        from torch.nn import functional

        (B, T), D = token_ids.shape, self.shape["head_dim"]
        cos, sin = self.rotation(T)
        x = functional.embedding(token_ids, self.weights["embedding.table"])

        def linear(x, path):
            return functional.linear(x, self.weights[f"{path}.weight"])

        def norm(x, path):
            return functional.rms_norm(x, x.shape[-1:], self.weights[f"{path}.weight"], self.shape["norm_eps"])

        def rotated(x):
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-second, first), dim=-1) * sin

        for layer in range(self.shape["layers"]):
            path = f"layers.{layer}"
            normed = norm(x, f"{path}.attention_norm")
            query, key, value = (
                linear(normed, f"{path}.attention.{name}").view(B, T, -1, D).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(
                rotated(query), rotated(key), value, is_causal=True, enable_gqa=True
            )
            x = x + linear(mixed.transpose(1, 2).reshape(B, T, -1), f"{path}.attention.output")
            normed = norm(x, f"{path}.feed_forward_norm")
            gate = functional.silu(linear(normed, f"{path}.feed_forward.gate"))
            x = x + linear(gate * linear(normed, f"{path}.feed_forward.up"), f"{path}.feed_forward.down")
        return norm(x, "norm")

    def rotation(self, T):
        """cos and sin of every position: (T, D)."""
        import torch

        D = self.shape["head_dim"]
        inverse = self.shape["theta"] ** -(torch.arange(0, D, 2) / D)
        angle = torch.outer(torch.arange(T), inverse).repeat(1, 2)
        return angle.cos(), angle.sin()

    def loss(self, token_ids):
        """Mean cross entropy of the next token."""
        from torch.nn import functional

        logits = functional.linear(self.hidden_states(token_ids)[:, :-1], self.weights["embedding.table"])
        return functional.cross_entropy(logits.flatten(0, 1), token_ids[:, 1:].flatten())


def training_step(path, shape, threads, token_ids, micro_batch_size=None, compiled=False):
    """A function that takes one step of AdamW on a batch, and returns the loss before it.

    path: of the weights, as `numpy.savez` writes them;  micro_batch_size: rows at a time, whose gradients are added;
    None: all at once, which is the fastest;  compiled: compile the loss and its gradient, before this returns.
    """
    import torch

    torch.set_num_threads(threads)
    decoder, token_ids = TorchDecoder(np.load(path), shape), torch.from_numpy(token_ids)
    weights, rows = decoder.weights, micro_batch_size or len(token_ids)
    decayed = [path for path, tensor in weights.items() if tensor.ndim > 1 and "embedding" not in path]
    groups = [
        {"params": [weights[path] for path in decayed], "weight_decay": 0.1},
        {"params": [tensor for path, tensor in weights.items() if path not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
    loss_of = torch.compile(decoder.loss) if compiled else decoder.loss
    if compiled:
        loss_of(token_ids[:rows]).backward()

    def step():
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(token_ids), rows):
            part = token_ids[start : start + rows]
            loss = loss_of(part) * (len(part) / len(token_ids))
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        return total

    return step


def training_memory(small, large, threads, token_ids, micro_batch_size):
    """A function that returns the peak memory of two training steps of the large model, in bytes above the one before.

    It may be called once. small, large: (path, shape).
    """

    def measure():
        training_step(*small, threads, token_ids[:1, :8])()  # loads libraries that are loaded in the first call
        before = resident()
        step = training_step(*large, threads, token_ids, micro_batch_size)
        step(), step()
        return peak() - before

    return measure
