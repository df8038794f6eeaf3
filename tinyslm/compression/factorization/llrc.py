"""Learning which components of each layer to keep: masks with a gradient, and the losses that shape them (LLRC).

A layer is left (mask * (right x)), with one entry of the mask per component. Only the logits behind the masks learn.
Source of all: Sundrani, Tudisco & Minervini 2025, "Low-Rank Compression of Language Models via Differentiable Rank
Selection" (arXiv 2512.13733), and its published code.
"""

import math

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.factorization.rank_allocation import beyond_rank_one
from tinyslm.errors import ConfigError, DataError


def logistic_noise(rng, shape):
    """Samples of the standard logistic distribution, float64: log(u / (1 - u)) for a uniform u.

    It is the difference of two Gumbel samples, and with it a component is kept with probability sigmoid(logit): 1/2 at
    0, where the mask without noise decides, too. One Gumbel sample alone (as in the authors' code) keeps it with
    probability 1 - exp(-exp(logit)), 0.63 at 0, and then the masks in training hold more than those that are left
    without noise.
    """
    return scipy.special.logit(rng.uniform(np.finfo(np.float64).tiny, 1.0, shape))


@differentiable
def rank_mask(logits, noise, temperature):
    """1 where logits + noise > 0, 0 elsewhere, with the gradient of sigmoid((logits + noise) / temperature).

    logits, noise: (r,);  temperature: above 0;  returns (r,) of 0 and 1, dtype of logits. The gradient passes straight
    through the step (Bengio, Leonard & Courville 2013): dmask/dlogits = y (1 - y) / temperature, y the sigmoid. The
    noise receives none. Source: Jang et al. 2017 and Maddison et al. 2017 for the sigmoid of noisy logits.
    """
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature must be a positive number, found {temperature!r}")
    require_same_shape("noise", noise, logits.shape)
    noisy = (logits + noise).astype(logits.dtype, copy=False)  # (r,)

    def vjp(dmask):
        y = scipy.special.expit(noisy / logits.dtype.type(temperature))  # (r,)
        return dmask * y * (1 - y) / logits.dtype.type(temperature), None, None

    return (noisy > 0).astype(logits.dtype), vjp


@differentiable
def compression_loss(*logits):
    """The mean over layers of the mean logit of a layer: pushes all logits down alike, large layers and small ones.

    logits: one array (r,) per layer, r may differ;  returns a scalar, dtype of the logits. Of the logits, not of the
    masks: its gradient 1 / (layers * r) is constant, also where a mask no longer feels its logit.
    """
    if not logits:
        raise DataError("there are no logits: the mean over no layer is nothing")

    def vjp(dloss):
        return tuple(np.full_like(each, dloss / (len(logits) * each.size)) for each in logits)

    return sum(np.mean(each) for each in logits) / logits[0].dtype.type(len(logits)), vjp


@differentiable
def total_variation_loss(mask):
    """sum_i |mask_(i+1) - mask_i|: how often a mask changes along the singular values.

    mask: (r,);  returns a scalar. 0 exactly for a constant mask, 1 for a beginning or an end of the components; it
    favours keeping neighbours. Where neighbours are equal the gradient is 0 (a subgradient).
    """
    signs = np.sign(np.diff(mask))  # (r - 1,)

    def vjp(dloss):
        dmask = np.zeros_like(mask)  # (r,)
        dmask[1:] += signs * dloss
        dmask[:-1] -= signs * dloss
        return (dmask,)

    return np.sum(np.abs(np.diff(mask))), vjp


def masked_parameters(masks, shapes) -> int:
    """What layers with these masks take when the dropped components are gone: sum of min(k (m + n), mn).

    masks: {layer: (r,) of 0 and 1};  shapes: {layer: (m, n)}. A layer of which nothing is kept takes nothing.
    """
    ranks = {layer: np.count_nonzero(mask) for layer, mask in masks.items()}
    return sum(min(rank * sum(shapes[layer]), math.prod(shapes[layer])) for layer, rank in ranks.items())


def masks_within(logits, shapes, budget) -> dict:
    """{layer: boolean mask (r,)} of the components with the largest logits, as many as `budget` parameters allow.

    logits: {layer: (r,)};  shapes: {layer: (m, n)};  budget: parameters of all layers together. Without noise the masks
    are logits > 0; in training they meet the budget with noise and on average only. So the border is moved from 0 to
    where the masks fit: components come in the order of their logits, one that does not fit is left out. Every layer
    keeps at least its largest. A layer that has become dense (k (m + n) >= mn) keeps everything, at no cost.
    """
    left = beyond_rank_one(shapes, budget)
    masks = {layer: np.arange(len(each)) == np.argmax(each) for layer, each in logits.items()}
    order = sorted((-logit, layer, i) for layer, each in logits.items() for i, logit in enumerate(each.tolist()))
    kept = dict.fromkeys(masks, 1)
    for _, layer, i in order:
        (m, n), k = shapes[layer], kept[layer]
        price = min((k + 1) * (m + n), m * n) - min(k * (m + n), m * n)
        if not masks[layer][i] and price <= left:
            masks[layer][i] = True
            kept[layer] += 1
            left -= price
    dense = {layer for layer, (m, n) in shapes.items() if kept[layer] * (m + n) >= m * n}
    return {layer: np.ones_like(mask) if layer in dense else mask for layer, mask in masks.items()}


def first_components(mask):
    """A mask with as many components kept, but the first ones ("top-k" in place of "any-k"). mask: (r,) of 0 and 1."""
    return np.arange(len(mask)) < np.count_nonzero(mask)
