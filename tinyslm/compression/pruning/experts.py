"""Structured pruning of mixtures of experts: importance of whole experts, and routers and lists without some of them.

A router has one row per expert; each token uses the experts with the largest logits among the kept experts.
Step: `SliceExperts` in `tinyslm/recipes/pruning/experts.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, finite_real, one_of
from tinyslm.compression.pruning.slicing import require_ascending
from tinyslm.errors import ConfigError, DataError


def weights_of_experts(name, experts, sizes):
    """Argument check for `checked`: a list with one list of finite weight matrices per expert, at least one expert."""
    if not experts:
        raise DataError(f"{name} must hold at least one expert")
    sizes["E"] = len(experts)
    return [[finite_real(f"{name}[{e}]", weight) for weight in weights] for e, weights in enumerate(experts)]


@checked(experts=weights_of_experts, mean_routing_weight=array("E"), method=one_of("routing", "magnitude"))
def expert_importance(
    experts: list[list[np.ndarray]], *, method: str = "routing", mean_routing_weight: np.ndarray | None = None
) -> np.ndarray:
    """Importance of each expert of a mixture; larger is more important.

    Methods:

    - "routing": mean weight that the router assigns to the expert, 0 for a token that does not use it.
    - "magnitude": L2 norm of all weights of the expert. Sums of squares are computed in float64.

    Parameters
    ----------
    experts : list of list of ndarray
        For each of E experts, its weight matrices.
    method : {"routing", "magnitude"}
        The formula.
    mean_routing_weight : ndarray, shape (E,), optional
        For "routing": the mean over the calibration tokens.

    Returns
    -------
    ndarray, shape (E,)
        Importance of each expert, dtype of the weights of the experts or of `mean_routing_weight`.

    Raises
    ------
    DataError
        If `mean_routing_weight` does not have one entry per expert, values are not finite, or there is no expert.
    ConfigError
        If the method is unknown, or needs `mean_routing_weight`.

    References
    ----------
    "routing": the soft counts of Muzio, Sun & He 2024 (SEER-MoE, arXiv 2404.05089).

    Examples
    --------
    >>> expert_importance([[np.array([[3.0, 4.0]])], [np.array([[1.0, 0.0]])]], method="magnitude")
    array([5., 1.])
    """
    if method == "magnitude":
        squares = [sum(np.sum(np.square(weight, dtype=np.float64)) for weight in weights) for weights in experts]
        dtypes = {weight.dtype for weights in experts for weight in weights}
        return np.sqrt(squares).astype(np.result_type(*dtypes or [np.float64]))
    if mean_routing_weight is None:
        raise ConfigError('method "routing" needs mean_routing_weight: (E,), the mean weight of each expert')
    return mean_routing_weight.copy()


def slice_experts(router: np.ndarray, experts: list, keep: np.ndarray) -> tuple[np.ndarray, list]:
    """The router weight and the list of experts with the experts `keep` only.

    Parameters
    ----------
    router : ndarray, shape (E, C)
        Weight of the router.
    experts : list
        E experts of any type.
    keep : ndarray of int, shape (k,)
        Ascending indices of the experts to keep.

    Returns
    -------
    tuple
        (router weight (k, C), list of k experts).

    Raises
    ------
    DataError
        If the router does not have one row per expert, or `keep` is not ascending.

    Examples
    --------
    >>> slice_experts(np.array([[1.0], [2.0], [3.0]]), ["a", "b", "c"], np.array([0, 2]))
    (array([[1.],
           [3.]]), ['a', 'c'])
    """
    if len(router) != len(experts):
        raise DataError(f"the router has {len(router)} rows, but there are {len(experts)} experts")
    keep = require_ascending(keep, len(experts))
    return np.take(router, keep, axis=0), [experts[expert] for expert in keep]
