"""Structured pruning of mixtures: whole experts go, and the router no longer offers them.

A router has one row per expert; a token goes to the experts with the largest logits among those that are left.
"""

import numpy as np

from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.compression.pruning.selection import require_ascending
from tinyslm.errors import ConfigError, DataError


def expert_importance(experts, *, method="routing", mean_routing_weight=None):
    """How much each expert matters: (E,), larger is more important.

    experts: a list of E lists of the weight matrices of one expert. Methods:
    "routing": the mean over calibration tokens of the weight that the router gave it, 0 where it was not chosen, which
        is mean_routing_weight: (E,). Source: the soft counts of Muzio, Sun & He 2024 (SEER-MoE, arXiv 2404.05089).
    "magnitude": the L2 norm of all weights of the expert.
    """
    if method == "magnitude":
        return np.array([np.sqrt(sum(np.sum(np.square(weight)) for weight in weights)) for weights in experts])
    if method != "routing":
        raise ConfigError(f'method must be "routing" or "magnitude", found {method!r}')
    if mean_routing_weight is None:
        raise ConfigError('method "routing" needs mean_routing_weight: (E,), the mean weight of each expert')
    require_same_shape("mean_routing_weight", mean_routing_weight, (len(experts),))
    return mean_routing_weight


def slice_experts(router, experts, keep):
    """(router weight, experts) with the experts `keep` only.

    router: (E, C) weight;  experts: a list of E of anything;  keep: (k,) ascending indices;  returns (k, C), k experts.
    """
    if len(router) != len(experts):
        raise DataError(f"the router offers {len(router)} experts, but there are {len(experts)}")
    keep = require_ascending(keep, len(experts))
    return np.take(router, keep, axis=0), [experts[expert] for expert in keep]
