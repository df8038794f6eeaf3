"""The nonlinearities of the feed-forward layer, and the smooth clipping of scores and logits."""

import numpy as np
import scipy

from tinyslm.autodiff import differentiable


def _sigmoid(x):
    """1 / (1 + exp(-x)) as (1 + tanh(x / 2)) / 2: never overflows, and tanh is a fast vector instruction."""
    s = np.tanh(x * x.dtype.type(0.5))
    s *= 0.5
    s += 0.5
    return s


@differentiable
def silu(x):
    """x * sigmoid(x). Source: Elfwing, Uchibe & Doya 2018 (also called swish)."""
    s = _sigmoid(x)

    def vjp(dy):
        dx = 1 - s
        dx *= x
        dx += 1
        dx *= s  # slope: s (1 + x (1 - s))
        dx *= dy
        return (dx,)

    return x * s, vjp


@differentiable
def gelu(x):
    """x * Phi(x), Phi the normal distribution function. Source: Hendrycks & Gimpel 2016; the exact (erf) form."""
    cumulative = 0.5 * (1 + scipy.special.erf(x * x.dtype.type(np.sqrt(0.5))))

    def vjp(dy):
        density = np.exp(-0.5 * x * x) * x.dtype.type(1 / np.sqrt(2 * np.pi))
        return (dy * (cumulative + x * density),)

    return x * cumulative, vjp


@differentiable
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): the approximation of GPT-2, Gemma and T5 ("gelu_new")."""
    root = x.dtype.type(np.sqrt(2 / np.pi))
    t = np.tanh(root * (x + 0.044715 * x * x * x))

    def vjp(dy):
        inner_slope = root * (1 + 3 * 0.044715 * x * x)
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner_slope),)

    return 0.5 * x * (1 + t), vjp


@differentiable
def relu(x):
    """max(x, 0), with slope 0 at 0."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0),)


@differentiable
def tanh(x):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
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
def gated(gate, up, *, activation=silu):
    """activation(gate) * up: one half of the feed-forward layer decides how much of the other passes.

    gate, up: (..., F);  returns (..., F). Source: Shazeer 2020, eq. 5 (SwiGLU for silu, GEGLU for gelu).
    """
    activated, activation_vjp = activation.with_vjp(gate)

    def vjp(dy):
        (dgate,) = activation_vjp(dy * up)
        return dgate, dy * activated

    return activated * up, vjp


@differentiable
def softcap(x, *, cap):
    """cap * tanh(x / cap): nearly x where |x| << cap, never beyond cap. Source: Gemma 2 report 2024, section 2."""
    t = np.tanh(x / cap)
    return cap * t, lambda dy: (dy * (1 - t * t),)
