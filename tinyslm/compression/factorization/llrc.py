"""Differentiable rank selection (LLRC): trainable masks over the components of each layer, and their losses.

A layer computes left (mask * (right x)), with one mask entry per component. Only the logits of the masks are trained.
Sundrani, Tudisco & Minervini 2025, "Low-Rank Compression of Language Models via Differentiable Rank Selection" (arXiv
2512.13733), and its published code.
On models: `tinyslm/recipes/factorization/llrc.py`. Lesson: `lessons/10_low_rank.py`.
"""

import math
from typing import Any

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import array, checked, finite_real, positive, require_finite
from tinyslm.compression.factorization.rank_allocation import beyond_rank_one
from tinyslm.errors import DataError


def logistic_noise(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Samples of the standard logistic distribution, log(u / (1 - u)) for uniform u.

    Logistic noise is the difference of two Gumbel samples. With it a component is kept with probability sigmoid(logit),
    which is 1/2 at logit 0, the threshold without noise. The authors' code adds one Gumbel sample: the probability is
    then 1 - exp(-exp(logit)), 0.63 at logit 0, so that masks keep more components in training than without noise.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : int or tuple of ints

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> logistic_noise(np.random.default_rng(0), 2).round(2)
    array([ 0.56, -1.  ])
    """
    return scipy.special.logit(rng.uniform(np.finfo(np.float64).tiny, 1.0, shape))


@differentiable
@checked(logits=array("r"), noise=array("r"), temperature=positive)
def rank_mask(logits: np.ndarray, noise: np.ndarray, temperature: float) -> np.ndarray:
    """Mask over components: 1 where logits + noise > 0, else 0, with a straight-through gradient.

    The vjp uses the gradient of y = sigmoid((logits + noise) / temperature): dmask/dlogits = y (1 - y) / temperature.
    The noise has no gradient.

    Parameters
    ----------
    logits, noise : ndarray, shape (r,)
    temperature : float
        Above 0.

    Returns
    -------
    ndarray, shape (r,)
        Zeros and ones, dtype of `logits`.

    Raises
    ------
    ConfigError
        If temperature is not positive and finite.
    DataError
        If shapes do not match, or values are not finite.

    References
    ----------
    Straight-through gradient: Bengio, Leonard & Courville 2013. Sigmoid of noisy logits: Jang et al. 2017 and Maddison
    et al. 2017.

    Examples
    --------
    >>> rank_mask(np.array([2.0, -1.0, 0.5]), np.zeros(3), 1.0)
    array([1., 0., 1.])
    """
    noisy = (logits + noise).astype(logits.dtype, copy=False)  # (r,)

    def vjp(dmask):
        y = scipy.special.expit(noisy / logits.dtype.type(temperature))  # (r,)
        return dmask * y * (1 - y) / logits.dtype.type(temperature), None, None

    return (noisy > 0).astype(logits.dtype), vjp


def logits_of_layers(name, logits, sizes):
    """Argument check for `checked`: finite logits of at least one layer, each with at least one entry."""
    if not logits:
        raise DataError("there are no logits: pass the logits of at least one layer")
    return tuple(finite_real(name, each) for each in logits)


@differentiable
@checked(logits=logits_of_layers)
def compression_loss(*logits: np.ndarray) -> float:
    """Mean over layers of the layer's mean logit: lowers all logits of all layers equally.

    It is a function of the logits, not of the masks. So its gradient 1 / (layers * r) is constant and does not vanish
    where the gradient of a mask does.

    Parameters
    ----------
    *logits : ndarray, shape (r,)
        One array per layer; r may differ.

    Returns
    -------
    float
        dtype of the logits.

    Raises
    ------
    DataError
        Without any logits, or if they are not finite.

    Examples
    --------
    >>> float(compression_loss(np.array([1.0, 3.0]), np.array([4.0])))
    3.0
    """

    def vjp(dloss):
        return tuple(np.full_like(each, dloss / (len(logits) * each.size)) for each in logits)

    return sum(np.mean(each) for each in logits) / logits[0].dtype.type(len(logits)), vjp


@differentiable
@checked(mask=array("r"))
def total_variation_loss(mask: np.ndarray) -> float:
    """Total variation of a mask, sum_i |mask_(i+1) - mask_i|: favours masks that keep neighbouring components.

    Where neighbours are equal the gradient is 0 (a subgradient).

    Parameters
    ----------
    mask : ndarray, shape (r,)
        One entry per component, by descending singular value.

    Returns
    -------
    float
        0 for a constant mask, 1 for a mask of the first k components.

    Raises
    ------
    DataError
        If `mask` is not a finite vector.

    Examples
    --------
    >>> float(total_variation_loss(np.array([1.0, 0.0, 1.0])))
    2.0
    """
    signs = np.sign(np.diff(mask))  # (r - 1,)

    def vjp(dloss):
        dmask = np.zeros_like(mask)  # (r,)
        dmask[1:] += signs * dloss
        dmask[:-1] -= signs * dloss
        return (dmask,)

    return np.sum(np.abs(np.diff(mask))), vjp


def masked_parameters(masks: dict, shapes: dict) -> int:
    """Number of parameters of the layers without the dropped components: sum of min(k (m + n), mn).

    Parameters
    ----------
    masks : dict of {layer: ndarray (r,)}
        Zeros and ones. A layer without any kept component has no parameters.
    shapes : dict of {layer: (m, n)}

    Returns
    -------
    int

    Raises
    ------
    DataError
        If a mask is not finite, or `shapes` has other layers.

    Examples
    --------
    >>> int(masked_parameters({"query": np.array([1, 0, 1, 0, 0, 0])}, {"query": (6, 6)}))
    24
    """
    _require_layers("masks", masks, shapes)
    ranks = {layer: np.count_nonzero(mask) for layer, mask in masks.items()}
    return sum(min(rank * sum(shapes[layer]), math.prod(shapes[layer])) for layer, rank in ranks.items())


def masks_within(logits: dict, shapes: dict, budget: float) -> dict[str, np.ndarray]:
    """Masks of the components with the largest logits that a budget of parameters allows.

    In training the masks logits + noise > 0 meet the budget only on average. So components are taken here in
    descending order of their logits, over all layers; a component that exceeds the budget is skipped. Every layer keeps
    at least its component with the largest logit. A layer with k (m + n) >= mn becomes dense and keeps all components,
    at no further cost.

    Parameters
    ----------
    logits : dict of {layer: ndarray (r,)}
    shapes : dict of {layer: (m, n)}
    budget : float
        Parameters of all layers together.

    Returns
    -------
    dict of {layer: ndarray of bool (r,)}

    Raises
    ------
    ConfigError
        If rank 1 in every layer exceeds the budget.
    DataError
        If a logit is not finite, a layer has none, or `shapes` has other layers.

    Examples
    --------
    >>> masks_within({"query": np.array([3.0, -1.0, 2.0, 1.0, 0.0, -2.0])}, {"query": (6, 6)}, 24)
    {'query': array([ True, False,  True, False, False, False])}
    """
    _require_layers("logits", logits, shapes)
    logits = {layer: finite_real(f"logits of {layer}", each) for layer, each in logits.items()}
    left = beyond_rank_one(shapes, budget)
    masks = {layer: np.arange(len(each)) == np.argmax(each) for layer, each in logits.items()}
    order = sorted((-logit, layer, i) for layer, each in logits.items() for i, logit in enumerate(each.tolist()))
    kept = dict.fromkeys(masks, 1)
    for _, layer, i in order:
        (m, n), k = shapes[layer], kept[layer]
        cost = min((k + 1) * (m + n), m * n) - min(k * (m + n), m * n)
        if not masks[layer][i] and cost <= left:
            masks[layer][i] = True
            kept[layer] += 1
            left -= cost
    dense = {layer for layer, (m, n) in shapes.items() if kept[layer] * (m + n) >= m * n}
    return {layer: np.ones_like(mask) if layer in dense else mask for layer, mask in masks.items()}


def _require_layers(name, arrays, shapes):
    """Raise DataError unless both have the same layers, and the arrays are finite."""
    if set(arrays) != set(shapes):
        raise DataError(f"{name} and shapes must have the same layers, found {sorted(arrays)} and {sorted(shapes)}")
    for layer, each in arrays.items():
        require_finite(f"{name} of {layer}", each)


@checked(mask=array("r"))
def first_components(mask: np.ndarray) -> np.ndarray:
    """Mask of the first components, with the same number of ones: top-k in place of any-k selection.

    Parameters
    ----------
    mask : ndarray, shape (r,)
        Zeros and ones.

    Returns
    -------
    ndarray of bool, shape (r,)

    Raises
    ------
    DataError
        If `mask` is not a finite vector.

    Examples
    --------
    >>> first_components(np.array([0, 1, 0, 1]))
    array([ True,  True, False, False])
    """
    return np.arange(len(mask)) < np.count_nonzero(mask)
