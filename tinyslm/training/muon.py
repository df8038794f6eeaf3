"""Muon (momentum orthogonalized by Newton-Schulz) for the matrices of the blocks; AdamW for all other parameters."""

import numpy as np

from tinyslm.errors import DataError, NumericOverflow
from tinyslm.ops.argument_checks import require_floating
from tinyslm.parallel import map_shares
from tinyslm.training.adamw import AdamW
from tinyslm.tree import Array

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of s, s^3 and s^5: they raise small singular values s fast, to about 1
ITERATIONS = 5
SCALE = 0.2  # root mean square of an update, divided by the learning rate: about that of AdamW


def orthogonalized(matrix: Array, iterations: int = ITERATIONS) -> Array:
    """The polar factor U V^T of a matrix U S V^T, approximately: every singular value becomes about 1.

    Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X. It needs only matrix products. Each step applies the
    polynomial a s + b s^3 + c s^5 to every singular value s and leaves U and V as they are.

    Parameters
    ----------
    matrix : ndarray, shape (..., m, n)
        A matrix, or several of one shape.
    iterations
        With 5, singular values of at least 0.2 % of the Frobenius norm end between 0.68 and 1.21.

    Returns
    -------
    ndarray, shape (..., m, n)
        dtype of `matrix`. A zero matrix stays zero.

    Raises
    ------
    DataError
        If the matrix is not float32 or float64, or has fewer than two axes.

    References
    ----------
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Bernstein & Newhouse 2024, "Old
    Optimizer, New Norm" (arXiv 2409.20325), appendix A.

    Examples
    --------
    >>> orthogonalized(np.diag([5.0, -0.5])).round(1)
    array([[ 0.7,  0. ],
           [ 0. , -0.7]])
    """
    require_floating(matrix=matrix)
    if matrix.ndim < 2:
        raise DataError(f"matrix has shape {matrix.shape}, expected (..., m, n)")
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.swapaxes(-1, -2) if is_tall else matrix  # at most as many rows as columns: the products are smaller
    largest = np.max(np.abs(x), axis=(-2, -1), keepdims=True, initial=0)  # (..., 1, 1)
    x = x / np.where(largest > 0, largest, 1)  # the squares of the norm neither overflow nor vanish
    x /= np.maximum(np.linalg.norm(x, axis=(-2, -1), keepdims=True), 1)  # singular values of at most 1
    for _ in range(iterations):
        xxt = x @ x.swapaxes(-1, -2)  # (..., m, m), m the shorter side
        polynomial = c * (xxt @ xxt)  # (..., m, m)
        polynomial += b * xxt
        x, previous = polynomial @ x, x  # (..., m, n)
        x += a * previous
    return x.swapaxes(-1, -2) if is_tall else x


def muon_update(
    parameter: Array,
    gradient: Array,
    momentum: Array,
    *,
    learning_rate: float,
    beta: float = 0.95,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    """One Muon update of one matrix: the new parameter and the new momentum.

    The momentum is Nesterov's: the gradient is added once more, ahead of the next step. The decay is multiplied by the
    whole learning rate, as in `adamw_update`.

    Parameters
    ----------
    parameter, gradient, momentum : ndarray, shape (..., m, n)
        They are not changed. The momentum is 0 before the first step.

    Returns
    -------
    tuple of two ndarrays
        New arrays of the same shape and dtype.

    Raises
    ------
    DataError
        If an array is not float32 or float64, the shapes differ, or the gradient is not finite.

    References
    ----------
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is Scalable
    for LLM Training" (arXiv 2502.16982), section 2.2, for the factor 0.2 sqrt(max(m, n)) and the decay.

    Examples
    --------
    >>> parameter, momentum = muon_update(np.eye(2), np.diag([8.0, 8.0]), np.zeros((2, 2)), learning_rate=0.1)
    >>> momentum
    array([[8., 0.],
           [0., 8.]])
    """
    require_floating(parameter=parameter, gradient=gradient, momentum=momentum)
    if not parameter.shape == gradient.shape == momentum.shape:
        shapes = f"{parameter.shape}, {gradient.shape} and {momentum.shape}"
        raise DataError(f"parameter, gradient and momentum have the shapes {shapes}, expected one shape")
    momentum = beta * momentum
    momentum += gradient
    direction = beta * momentum
    direction += gradient
    if not np.all(np.isfinite(direction)):
        raise NumericOverflow("the gradient is nan or overflows: clip gradients, or lower the learning rate")
    rate = learning_rate * SCALE * max(parameter.shape[-2:]) ** 0.5
    updated = parameter * (1 - learning_rate * weight_decay)
    updated -= rate * orthogonalized(direction)
    return updated, momentum


class Muon:
    """Muon for the matrices of a model, and AdamW for its embeddings, its head, and arrays with one axis.

    Source: Jordan et al. 2024; Liu et al. 2025 (arXiv 2502.16982), whose scale lets both share one learning rate.

    parameters: {path: array}, changed in place by `step`. Embeddings and arrays with one axis are not decayed.
    Removed weights of a `MaskedLinear` do not stay 0: the orthogonalized update of a masked gradient has no zeros.
    """

    def __init__(self, parameters: dict[str, Array], beta: float = 0.95, weight_decay: float = 0.1):
        require_floating(**parameters)
        self.parameters, self.beta, self.weight_decay = parameters, beta, weight_decay
        self.matrices = [path for path, array in parameters.items() if is_orthogonalized(path, array)]
        others = {path: array for path, array in parameters.items() if path not in self.matrices}
        self.adamw = AdamW(others, weight_decay=weight_decay)
        momenta = {path: np.zeros_like(parameters[path]) for path in self.matrices}
        self.first_moments = self.adamw.first_moments | momenta  # momenta are decayed sums, no averages
        self.second_moments = self.adamw.second_moments

    @property
    def steps(self) -> int:
        """Number of steps so far."""
        return self.adamw.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.adamw.steps = steps

    def step(self, gradients: dict[str, Array], learning_rate: float) -> None:
        """Update every parameter and its moments in place. gradients: {path: array}.

        Raises DataError as `muon_update` and `adamw_update`, after some of the arrays have changed.
        """
        self.adamw.step(gradients, learning_rate)
        settings = {"learning_rate": learning_rate, "beta": self.beta, "weight_decay": self.weight_decay}

        def update(share):
            for path in self.matrices[share]:
                parameter, momentum = self.parameters[path], self.first_moments[path]
                parameter[...], momentum[...] = muon_update(parameter, gradients[path], momentum, **settings)

        # every product reads a matrix once per row of its shorter side
        work = sum(self.parameters[path].size * min(self.parameters[path].shape[-2:]) for path in self.matrices)
        map_shares(update, len(self.matrices), work=work)


def is_orthogonalized(path: str, array: Array) -> bool:
    """Whether Muon updates a parameter: a matrix, or a stack of matrices, but no table of embeddings and no head."""
    is_table = "embedding" in path or path.endswith(".table")
    return array.ndim > 1 and not is_table and path.split(".")[0] != "head"
