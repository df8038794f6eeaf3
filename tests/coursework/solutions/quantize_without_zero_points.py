"""Symmetric codes without zero points; empty arrays are not considered."""

import numpy as np

from tinyslm.compression.quantization import QuantizedArray, code_range


def affine_parameters(lowest, highest, *, bits=8, symmetric=True):
    lowest, highest = np.minimum(lowest, 0), np.maximum(highest, 0)
    low, high = code_range(bits, symmetric)
    kind = np.asarray(highest).dtype.type
    if symmetric:
        scale = np.maximum(-lowest, highest) / kind(high)
    else:
        scale = highest / kind(high - low) - lowest / kind(high - low)
    scale = np.where(np.maximum(-lowest, highest) == 0, kind(1), np.maximum(scale, np.finfo(kind).tiny))
    zero_point = np.zeros_like(scale) if symmetric else np.clip(np.round(low - lowest / scale), low, high)
    return scale, zero_point.astype(np.int32)


def encode(x, scale, zero_point, *, bits=8, symmetric=True):
    low, high = code_range(bits, symmetric)
    return np.clip(np.round(x / scale) + zero_point, low, high).astype(np.int8)


def quantize(x, *, bits=8, symmetric=True, axis=None, group_size=None):
    x = np.asarray(x)
    if group_size is not None:
        groups = x.reshape(*x.shape[:-1], -1, group_size)
        scale, zero_point = affine_parameters(groups.min(-1), groups.max(-1), bits=bits, symmetric=symmetric)
        codes = encode(groups, scale[..., None], zero_point[..., None], bits=bits, symmetric=symmetric).reshape(x.shape)
    else:
        axes = tuple(i for i in range(x.ndim) if axis is None or i != axis % x.ndim)
        ends = x.min(axes, keepdims=axis is not None), x.max(axes, keepdims=axis is not None)
        scale, zero_point = affine_parameters(*ends, bits=bits, symmetric=symmetric)
        codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    return QuantizedArray(codes, scale, None if symmetric else zero_point, bits, group_size)
