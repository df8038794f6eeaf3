"""AdamW: steps of similar size for every parameter, and weight decay apart from them."""

import math

import numpy as np

from tinyslm.parallel import map_shares

BLOCK = 2**16  # numbers moved at a time: what is computed for them stays in the cache, and threads seldom wait


class AdamW:
    """The running moments of each parameter, and the step they lead to.

    Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2: the decay is not divided by the second
    moment. It is multiplied by the whole learning rate, as in PyTorch (in the paper by the schedule's share only). eps
    stands outside the root.

    parameters: {path: array}, changed in place by `step`. Arrays with one axis (gains, biases) and those whose path
    names an embedding are not decayed.
    """

    def __init__(self, parameters, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
        self.parameters = parameters
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.steps = 0
        self.first_moments = {path: np.zeros_like(array) for path, array in parameters.items()}
        self.second_moments = {path: np.zeros_like(array) for path, array in parameters.items()}

    def decays(self, path) -> bool:
        """Whether weight decay applies to a parameter."""
        return self.parameters[path].ndim > 1 and "embedding" not in path

    def step(self, gradients, learning_rate):
        """Move every parameter against its gradient. gradients: {path: array}.

        Each number moves by itself, so blocks of them can be moved one after the other, and on several threads.
        """
        self.steps += 1
        correction1 = 1 - self.beta1**self.steps
        correction2 = 1 - self.beta2**self.steps
        blocks = [(path, rows) for path, parameter in self.parameters.items() for rows in row_blocks(parameter)]

        def move(share):
            for path, rows in blocks[share]:
                parameter, gradient = self.parameters[path][rows], gradients[path][rows]
                m, v = self.first_moments[path][rows], self.second_moments[path][rows]
                m *= self.beta1
                m += (1 - self.beta1) * gradient
                v *= self.beta2
                v += (1 - self.beta2) * np.square(gradient)
                if self.decays(path):
                    parameter *= 1 - learning_rate * self.weight_decay
                denominator = np.sqrt(v / correction2)
                denominator += self.eps
                parameter -= (learning_rate / correction1) * m / denominator

        map_shares(move, len(blocks), work=sum(parameter.size for parameter in self.parameters.values()))


def row_blocks(array) -> list:
    """Indices of the first axis that cut an array into parts of about BLOCK numbers; all of it where it has no axis."""
    if array.ndim == 0:
        return [...]
    rows = max(1, BLOCK * len(array) // max(1, array.size))
    return [slice(start, start + rows) for start in range(0, len(array), rows)]


def clip_by_global_norm(gradients, limit) -> float:
    """Scale all gradients in place so that their joint norm is at most `limit`; returns the norm before.

    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    """
    norm = float(np.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values())))
    if limit < norm < math.inf:
        for gradient in gradients.values():
            gradient *= limit / norm
    return norm
