"""GPTQ: columns are rounded one after another, and those not yet rounded make up for the error."""

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_matrix, require_same_shape
from tinyslm.compression.error_compensation import compensate_columns, prepare_columns
from tinyslm.compression.quantization.affine import QuantizedArray, affine_parameters, encode
from tinyslm.errors import ConfigError


def gptq(
    weight,
    hessian,
    *,
    bits=4,
    symmetric=True,
    group_size=None,
    block_size=128,
    damping=0.01,
    act_order=False,
    static_groups=False,
):
    """Codes of a weight that keep the layer's outputs, not its weights, near: small tr((W - Q) H (W - Q)^T).

    weight: (out, in);  hessian: (in, in) X^T X of the inputs, in any unit, and `damping` as in `prepare_columns`;
    returns a `QuantizedArray` in the dtype of the weight, one scale per row, or per `group_size` neighbouring columns.
    The range of a group is that of its columns when the first of them is rounded, moved by all errors before; that of
    a whole row, or of any group with static_groups, is the range of the original weights.
    act_order: columns with the largest diag H are rounded first; groups must then be static. block_size: of the loop,
    rounded to whole groups; it changes the speed only.
    Source: Frantar et al. 2023 (GPTQ), section 4 and algorithm 1.
    """
    require_matrix("weight", weight)
    inputs = weight.shape[1]
    size = inputs if group_size is None else group_size  # without groups a row is one
    require_integer("group_size", size, 1, inputs)
    if inputs % size:
        raise ConfigError(f"group_size must divide the {inputs} columns of the weight, found {size}")
    require_same_shape("hessian", hessian, (inputs, inputs))
    require_integer("block_size", block_size, 1, 2**31)
    ranges_move = group_size is not None and not static_groups
    if act_order and ranges_move:
        raise ConfigError("act_order leaves no group together: with group_size it needs static_groups=True")
    if ranges_move:  # a group must lie within a block, where its columns have been moved already
        block_size = max(block_size // size, 1) * size
    order = np.argsort(-np.diag(hessian), kind="stable") if act_order else np.arange(inputs)
    moving, upper = prepare_columns(weight[:, order], hessian[np.ix_(order, order)], damping)
    rounding = {"bits": bits, "symmetric": symmetric}

    def range_of(columns):
        """Scale and zero point, (out, 1), that cover some columns (out, n)."""
        lowest, highest = (extreme(columns, axis=1, keepdims=True).astype(weight.dtype) for extreme in (np.min, np.max))
        return affine_parameters(lowest, highest, **rounding)

    original = moving[:, np.argsort(order)]  # (out, in), with dead columns at 0
    parameters = [range_of(original[:, start : start + size]) for start in range(0, inputs, size)]
    codes = np.empty(weight.shape, np.int8)

    def round_column(j, rest):
        column = order[j]
        group = column // size
        if ranges_move and column % size == 0:
            parameters[group] = range_of(rest[:, :size])
        scale, zero_point = parameters[group]
        codes[:, column] = encode(rest[:, :1], scale, zero_point, **rounding)[:, 0]
        return (scale[:, 0] * (codes[:, column] - zero_point[:, 0])).astype(np.float64)

    compensate_columns(moving, upper, round_column, block_size=block_size)
    scale, zero_point = (np.concatenate(parts, axis=1) for parts in zip(*parameters, strict=True))  # (out, groups)
    return QuantizedArray(codes, scale, zero_point, bits, group_size)
