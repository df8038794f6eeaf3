"""New arrays for the moments; only the parameters change in place. Nothing but the names of the library's class."""

import numpy as np


class AdamW:
    def __init__(self, parameters, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
        self.parameters, self.steps, self.eps, self.weight_decay = parameters, 0, eps, weight_decay
        self.betas = beta1, beta2
        self.first_moments = {path: 0 * array for path, array in parameters.items()}
        self.second_moments = {path: 0 * array for path, array in parameters.items()}

    def step(self, gradients, learning_rate):
        self.steps += 1
        b1, b2 = self.betas
        for path, gradient in gradients.items():
            parameter = self.parameters[path]
            m = self.first_moments[path] = b1 * self.first_moments[path] + (1 - b1) * gradient
            v = self.second_moments[path] = b2 * self.second_moments[path] + (1 - b2) * gradient**2
            if parameter.ndim > 1 and "embedding" not in path:
                parameter -= (learning_rate * self.weight_decay * parameter).astype(parameter.dtype)
            root = np.sqrt(v / (1 - b2**self.steps)) + self.eps
            parameter -= (learning_rate * m / (1 - b1**self.steps) / root).astype(parameter.dtype)
