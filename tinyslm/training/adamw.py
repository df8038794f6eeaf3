"""AdamW: Adam with decoupled weight decay, and clipping of gradients by their global norm."""

import math

import numpy as np

from tinyslm.errors import ConfigError, NumericOverflow
from tinyslm.ops.argument_checks import require_floating
from tinyslm.parallel import map_shares
from tinyslm.tree import Array

BLOCK = 2**16  # numbers updated at a time: few enough for the cache of a core, enough to keep the threads busy


def adamw_update(
    parameter: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, Array, Array]:
    """One AdamW update of one array: the new parameter, first moment and second moment.

    The decay is not divided by the root of the second moment. It is multiplied by the whole learning rate, as in
    PyTorch (in the paper by the schedule's factor only). eps is outside the root.

    Parameters
    ----------
    parameter, gradient, first_moment, second_moment : ndarray, all of the same shape
        They are not changed. Both moments are 0 before the first step.
    step
        Number of this step, counted from 1, for the bias correction.

    Returns
    -------
    tuple of three ndarrays
        New arrays of the same shape and dtype.

    Raises
    ------
    DataError
        If an array is not float32 or float64, or a squared gradient is nan or overflows.
    ConfigError
        If `step` is less than 1.

    References
    ----------
    Kingma & Ba 2015, "Adam" (arXiv 1412.6980), algorithm 1; Loshchilov & Hutter 2019, "Decoupled Weight Decay
    Regularization" (arXiv 1711.05101), algorithm 2.

    Examples
    --------
    >>> zero = np.zeros(2)
    >>> adamw_update(np.ones(2), np.array([0.001, -10.0]), zero, zero, step=1, learning_rate=0.25)[0].round(3)
    array([0.75, 1.25])
    """
    require_floating(parameter=parameter, gradient=gradient, first_moment=first_moment, second_moment=second_moment)
    if step < 1:
        raise ConfigError(f"step is {step}, expected at least 1")
    m = beta1 * first_moment
    m += (1 - beta1) * gradient
    v = beta2 * second_moment
    v += (1 - beta2) * np.square(gradient)
    if not np.max(v, initial=0) < np.inf:
        raise NumericOverflow("the squared gradient is nan or overflows: clip gradients, or lower the learning rate")
    denominator = np.sqrt(v / (1 - beta2**step))
    denominator += eps
    updated = parameter * (1 - learning_rate * weight_decay)
    updated -= (learning_rate / (1 - beta1**step)) * m / denominator
    return updated, m, v


class AdamW:
    """AdamW for all parameters of a model: `adamw_update` in blocks and on several threads.

    Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2. eps is outside the root. The decay is
    multiplied by the whole learning rate and not divided by the root of the second moment.

    parameters: {path: array}, changed in place by `step`. Arrays with one axis (gains, biases) and arrays whose path
    names an embedding are not decayed.
    """

    def __init__(
        self,
        parameters: dict[str, Array],
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ):
        require_floating(**parameters)
        self.parameters = parameters
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.steps = 0
        self.first_moments = {path: np.zeros_like(array) for path, array in parameters.items()}
        self.second_moments = {path: np.zeros_like(array) for path, array in parameters.items()}

    def decays(self, path: str) -> bool:
        """Whether weight decay applies to a parameter."""
        return self.parameters[path].ndim > 1 and "embedding" not in path

    def step(self, gradients: dict[str, Array], learning_rate: float) -> None:
        """Update every parameter and its moments in place. gradients: {path: array}.

        The update is elementwise, so blocks of an array can be updated one after another and on several threads.
        Raises DataError as `adamw_update`, after some of the blocks have changed.
        """
        self.steps += 1
        settings = {"step": self.steps, "learning_rate": learning_rate}
        settings |= {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        blocks = [(path, rows) for path, parameter in self.parameters.items() for rows in row_blocks(parameter)]

        def update(share):
            for path, rows in blocks[share]:
                parameter, gradient = self.parameters[path][rows], gradients[path][rows]
                m, v = self.first_moments[path][rows], self.second_moments[path][rows]
                weight_decay = self.weight_decay if self.decays(path) else 0.0
                parameter[...], m[...], v[...] = adamw_update(
                    parameter, gradient, m, v, **settings, weight_decay=weight_decay
                )

        map_shares(update, len(blocks), work=sum(parameter.size for parameter in self.parameters.values()))


def row_blocks(array: Array) -> list:
    """Slices of the first axis that cut an array into blocks of about BLOCK numbers; `...` for a 0-d array."""
    if array.ndim == 0:
        return [...]
    rows = max(1, BLOCK * len(array) // max(1, array.size))
    return [slice(start, start + rows) for start in range(0, len(array), rows)]


def clip_by_global_norm(gradients: dict[str, Array], limit: float) -> float:
    """Scale all gradients in place so that their global norm is at most `limit`; returns the norm before.

    The norm is nan if a gradient is. A sum of squares that overflows float32 is computed again in float64.
    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    """
    require_floating(**gradients)
    norm = math.sqrt(sum(_squared_norm(g) for g in gradients.values()))
    if limit < norm < math.inf:
        for gradient in gradients.values():
            gradient *= limit / norm
    return norm


def _squared_norm(gradient):
    """Sum of the squares of all entries."""
    with np.errstate(over="ignore"):
        squared = float(np.vdot(gradient, gradient))
        return squared if math.isfinite(squared) else float(np.sum(np.square(gradient, dtype=np.float64)))
