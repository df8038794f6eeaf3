"""GPTQ: columns are rounded one after another, and the remaining columns compensate for each error.

Source: Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv
2210.17323). The loop is shared with SparseGPT: `tinyslm/compression/error_compensation.py`. Applied to models:
`tinyslm/recipes/quantization/gptq.py`. Lesson: `lessons/09_quantization.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, integer, matrix
from tinyslm.compression.error_compensation import compensate_columns, prepare_columns
from tinyslm.compression.quantization.affine import QuantizedArray, affine_parameters, code_range, require_groups
from tinyslm.errors import ConfigError


@checked(
    weight=matrix("out", "in"),
    hessian=array("in", "in"),
    block_size=integer(1, 2**31),
    mask=array("out", "in", boolean=True),
)
def gptq(
    weight: np.ndarray,
    hessian: np.ndarray,
    *,
    bits: int = 4,
    symmetric: bool = True,
    group_size: int | None = None,
    block_size: int = 128,
    damping: float = 0.01,
    act_order: bool = False,
    static_groups: bool = False,
    mask: np.ndarray | None = None,
) -> QuantizedArray:
    """Codes of a weight W whose dequantized form Q has a small output error tr((W - Q) H (W - Q)^T).

    A column is dead if its input is 0 for every token (H_jj = 0). Its weights are set to 0 before any range is taken.

    The authors' code differs in two ranges. Without groups it takes the range of a row before it sets the dead columns
    to 0. A group that begins within a block has the range of its columns without the updates for the errors of this
    block.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix of a linear layer, y = x W^T.
    hessian : ndarray, shape (in, in)
        H = X^T X of the inputs, or a multiple of it.
    bits : int
        Bits per code, 2 to 8.
    symmetric : bool
        Whether the zero points are 0, see `code_range`.
    group_size : int, optional
        One scale per `group_size` neighbouring columns, which must divide `in`. None: one scale per row.
    block_size : int
        Columns after a block are updated once per block. It changes the speed only.
    damping : float
        This fraction of the mean of H's diagonal is added to the diagonal.
    act_order : bool
        Round the columns with the largest diag H first. Groups must then be static.
    static_groups : bool
        Whether the range of a group is computed from its original weights (dead columns at 0). Otherwise it is computed
        from its columns just before the first of them is rounded, after the updates for all earlier errors. The range
        of a whole row (no groups) is always computed from the original weights (dead columns at 0).
    mask : ndarray of bool, shape (out, in), optional
        False where a weight was pruned. Its code is the zero point, so that it stays 0; the weights that are left
        compensate for it.

    Returns
    -------
    QuantizedArray
        scale in the dtype of `weight`, shape (out, 1) or (out, in / group_size).

    Raises
    ------
    ConfigError
        If a setting is out of range, or `act_order` is combined with groups that are not static.
    DataError
        If shapes do not match, entries are not finite, `group_size` does not divide `in`, or the damped hessian is not
        positive definite.

    References
    ----------
    Frantar et al. 2023 (arXiv 2210.17323), section 4 and algorithm 1. The authors' code: `gptq.py` of
    github.com/IST-DASLab/gptq.

    Examples
    --------
    >>> hessian = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> gptq(np.array([[0.7, 0.25]]), hessian).dequantize()
    array([[0.7, 0.2]])
    """
    inputs = weight.shape[1]
    size = inputs if group_size is None else group_size  # without groups a row is one group
    require_groups(size, weight.shape)
    ranges_move = group_size is not None and not static_groups
    if act_order and ranges_move:
        raise ConfigError(
            "act_order with group_size needs static_groups=True: the columns of a group are not consecutive"
        )
    if mask is not None:
        weight = np.where(mask, weight, weight.dtype.type(0))
    order = np.arange(inputs)
    if act_order:
        order = np.argsort(-np.diag(hessian), kind="stable")
        hessian = hessian[np.ix_(order, order)]
    moving, upper = prepare_columns(weight[:, order], hessian, damping)

    def range_of(columns):
        """Scale and zero point, (out,) in the dtype of the weight, for the range of some columns (out, n)."""
        lowest, highest = (extreme(columns, axis=1).astype(weight.dtype) for extreme in (np.min, np.max))
        scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
        return scale, zero_point.astype(weight.dtype)  # a small integer, exact

    place = np.argsort(order)  # (in,), of each column in the order of the loop
    parameters = [range_of(moving[:, place[start : start + size]]) for start in range(0, inputs, size)]
    codes = np.empty((inputs, len(weight)), np.int8)
    low_code, high_code = code_range(bits, symmetric)

    def round_column(j, current, following):
        column = order[j]
        group = column // size
        if ranges_move and column % size == 0:
            kept = True if mask is None else mask[:, column : column + size]
            parameters[group] = range_of(np.where(kept, following(size), weight.dtype.type(0)))
        scale, zero_point = parameters[group]  # (out,)
        rounded = np.clip(np.round(current / scale) + zero_point, low_code, high_code)  # (out,), whole numbers
        if mask is not None:
            rounded = np.where(mask[:, column], rounded, zero_point)
        codes[column] = rounded
        return scale * (rounded - zero_point)

    compensate_columns(moving, upper, round_column, block_size=block_size)
    scale, zero_point = (np.stack(parts, axis=1) for parts in zip(*parameters, strict=True))  # (out, groups)
    return QuantizedArray(np.ascontiguousarray(codes.T), scale, zero_point.astype(np.int32), bits, group_size)
