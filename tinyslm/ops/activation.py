"""Activation functions, the gated linear unit, and the soft cap of attention scores and logits."""

import numpy as np
import scipy

from tinyslm.autodiff import Operation, differentiable
from tinyslm.ops.argument_checks import FLOATING, require_floating, require_positive
from tinyslm.tree import Array


def _sigmoid(x):
    """Sigmoid 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2: this form cannot overflow and is faster."""
    s = np.tanh(x * x.dtype.type(0.5))
    s *= 0.5
    s += 0.5
    return s


@differentiable
def silu(x: Array, *, for_vjp: bool = True) -> Array:
    """Sigmoid linear unit, x * sigmoid(x), also called swish.

    Parameters
    ----------
    x : ndarray
        Any shape.
    for_vjp
        Keep the sigmoid for the vjp. False in calls without a traced value (`differentiable` sets it).

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    References
    ----------
    Elfwing, Uchibe & Doya 2018 (arXiv 1702.03118), section 2.

    Examples
    --------
    >>> silu(np.array([-2.0, 0.0, 2.0])).round(3)
    array([-0.238,  0.   ,  1.762])
    """
    if x.dtype not in FLOATING:
        require_floating(x=x)
    s = _sigmoid(x)
    y = np.multiply(x, s, out=None if for_vjp else s)

    def vjp(dy):
        dx = 1 - s
        dx *= y
        dx += s  # derivative: s + y (1 - s)
        dx *= dy
        return (dx,)

    return y, vjp


@differentiable
def gelu(x: Array) -> Array:
    """Gaussian error linear unit, x * Phi(x), with the exact normal distribution function Phi (erf).

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    References
    ----------
    Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2.

    Examples
    --------
    >>> gelu(np.array([-2.0, 0.0, 2.0])).round(4)
    array([-0.0455,  0.    ,  1.9545])
    """
    if x.dtype not in FLOATING:
        require_floating(x=x)
    cumulative = 0.5 * (1 + scipy.special.erf(x * x.dtype.type(np.sqrt(0.5))))

    def vjp(dy):
        density = np.exp(-0.5 * x * x) * x.dtype.type(1 / np.sqrt(2 * np.pi))
        return (dy * (cumulative + x * density),)

    return x * cumulative, vjp


@differentiable
def gelu_tanh(x: Array) -> Array:
    """Tanh approximation of GELU, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    GPT-2, Gemma and T5 use it. Hugging Face calls it "gelu_new" and "gelu_pytorch_tanh".

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    References
    ----------
    Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2.

    Examples
    --------
    >>> gelu_tanh(np.array([-2.0, 0.0, 2.0])).round(4)
    array([-0.0454,  0.    ,  1.9546])
    """
    if x.dtype not in FLOATING:
        require_floating(x=x)
    root = x.dtype.type(np.sqrt(2 / np.pi))
    t = np.tanh(root * (x + 0.044715 * x * x * x))

    def vjp(dy):
        inner_derivative = root * (1 + 3 * 0.044715 * x * x)
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner_derivative),)

    return 0.5 * x * (1 + t), vjp


@differentiable
def relu(x: Array) -> Array:
    """Rectified linear unit, max(x, 0), with derivative 0 at 0.

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    Examples
    --------
    >>> relu(np.array([-2.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    if x.dtype not in FLOATING:
        require_floating(x=x)
    return np.maximum(x, 0), lambda dy: (dy * (x > 0),)


@differentiable
def tanh(x: Array) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : ndarray
        Any shape.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    Examples
    --------
    >>> tanh(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """
    require_floating(x=x)
    y = np.tanh(x)
    return y, lambda dy: (dy * (1 - y * y),)


ACTIVATIONS = {
    "silu": silu,
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
}


@differentiable
def gated(gate: Array, up: Array, *, activation: Operation = silu, for_vjp: bool = True) -> Array:
    """Gated linear unit, activation(gate) * up: the gate scales the up projection elementwise.

    Parameters
    ----------
    gate, up : ndarray, shape (..., F)
        The two projections of the input.
    activation
        A differentiable function: `silu` gives SwiGLU, `gelu` gives GEGLU.
    for_vjp
        Keep the activated gate for the vjp. False in calls without a traced value (`differentiable` sets it).

    Returns
    -------
    ndarray, shape (..., F)

    References
    ----------
    Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202), eq. 5.

    Examples
    --------
    >>> gated(np.array([-1.0, 2.0]), np.array([10.0, 10.0]), activation=relu)
    array([ 0., 20.])
    """
    if up.dtype not in FLOATING:
        require_floating(up=up)
    if not for_vjp:
        hidden = activation(gate)  # a new array
        hidden *= up
        return hidden, None
    activated, activation_vjp = activation.with_vjp(gate)

    def vjp(dy):
        (dgate,) = activation_vjp(dy * up)
        return dgate, dy * activated

    return activated * up, vjp


@differentiable
def softcap(x: Array, *, cap: float) -> Array:
    """Soft cap, cap * tanh(x / cap): about x for |x| much smaller than `cap`; its absolute value is at most `cap`.

    Parameters
    ----------
    x : ndarray
        Scores or logits, any shape.
    cap
        Bound of the absolute value, above 0.

    Returns
    -------
    ndarray
        Shape and dtype of `x`.

    Raises
    ------
    ConfigError
        If `cap` is not positive and finite.

    References
    ----------
    Gemma 2 report 2024 (arXiv 2408.00118), section 2.

    Examples
    --------
    >>> softcap(np.array([0.1, 1.0, 100.0]), cap=5.0).round(3)
    array([0.1  , 0.987, 5.   ])
    """
    require_floating(x=x)
    require_positive("cap", cap)
    t = np.tanh(x / cap)
    return cap * t, lambda dy: (dy * (1 - t * t),)
