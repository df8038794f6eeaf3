"""Plain definitions of operations: independent references for the tests of operations and models."""

import math

import numpy as np
from scipy import special

from tinyslm import ops

FORMULAS = {
    ops.silu: lambda x: x * special.expit(x),
    ops.gelu: lambda x: x * special.ndtr(x),
    ops.gelu_tanh: lambda x: x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
    ops.relu: lambda x: np.clip(x, 0, None),
}


def expected_frequencies(rope, length):
    """Radians per position of each pair, one pair at a time."""
    frequencies, theta = [], rope.theta
    if rope.scaling == "dynamic" and length > rope.original_length:
        growth = rope.factor * length / rope.original_length - (rope.factor - 1)
        theta = theta * growth ** (rope.dimension / (rope.dimension - 2))
    for i in range(rope.dimension // 2):
        frequency = theta ** (-2 * i / rope.dimension)
        if rope.scaling == "linear":
            frequency = frequency / rope.factor
        if rope.scaling == "llama3":
            wavelength, N = 2 * math.pi / frequency, rope.original_length
            low, high = rope.low_frequency_factor, rope.high_frequency_factor
            if wavelength > N / low:
                frequency = frequency / rope.factor
            elif wavelength >= N / high:
                smooth = (N / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / rope.factor + smooth * frequency
        if rope.scaling == "longrope":
            factors = rope.long_factors if length > rope.original_length else rope.short_factors
            frequency = frequency / factors[i]
        if rope.scaling == "yarn":
            first, last = (pair_that_rotates(times, rope) for times in (rope.beta_fast, rope.beta_slow))
            if rope.truncate:
                first, last = math.floor(first), math.ceil(last)
            first, last = max(first, 0), min(last, rope.dimension - 1)
            kept = 1 - min(max((i - first) / (last - first if last != first else 1e-3), 0), 1)
            frequency = kept * frequency + (1 - kept) * frequency / rope.factor
        frequencies.append(frequency)
    return frequencies


def pair_that_rotates(times, rope):
    """The index i, with a fraction, for which original_length * theta^(-2 i / R) is `times` full turns."""
    return rope.dimension / 2 * math.log(rope.original_length / (2 * math.pi * times), rope.theta)


def rotated(x, rope, positions):
    """Pair (i, i + R/2) of x as a complex number times attention_factor * exp(i * position * frequency)."""
    half, y = rope.dimension // 2, x.copy()
    frequencies = expected_frequencies(rope, positions.max() + 1)
    for i, frequency in enumerate(frequencies):
        pair = x[..., i] + 1j * x[..., i + half]  # (B, T, H)
        pair = pair * (rope.attention_factor * np.exp(1j * positions[..., None] * frequency))
        y[..., i], y[..., i + half] = pair.real, pair.imag
    return y


def exact_buckets(length, n, max_distance):
    """The lowest and the highest bucket, of n, that rounding may give a length: nearly always the same.

    exact + floor(ln(length / exact) / ln(max_distance / exact) * (n - exact)) without a logarithm: one more for each k
    with (length / exact)^(n - exact) >= (max_distance / exact)^k, in integers. Where both sides are equal to 2e-5, the
    last bits of a float32 may decide.
    """
    exact, rest = n // 2, n - n // 2
    if length < exact:
        return length, length

    def reached(tolerance):
        left, right = length**rest * (10**6 + tolerance), exact**rest * 10**6
        return exact + sum(left * exact**k >= right * max_distance**k for k in range(1, rest))

    return reached(-20), reached(20)
