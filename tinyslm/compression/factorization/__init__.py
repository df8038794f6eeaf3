"""Low-rank factorization: a weight matrix as the product of two factors with fewer parameters.

On models: `tinyslm/recipes/factorization`. Lesson: `lessons/10_low_rank.py`.
"""

from tinyslm.compression.factorization.asvd import (
    activation_weighted_components,
    activation_weighted_svd,
)
from tinyslm.compression.factorization.components import Components
from tinyslm.compression.factorization.fwsvd import fisher_weighted_components, fisher_weighted_svd
from tinyslm.compression.factorization.llrc import (
    compression_loss,
    first_components,
    logistic_noise,
    masked_parameters,
    masks_within,
    rank_mask,
    total_variation_loss,
)
from tinyslm.compression.factorization.low_rank_linear import LowRankLinear, factorize_linear
from tinyslm.compression.factorization.masked_rank_linear import MaskedRankLinear
from tinyslm.compression.factorization.rank_allocation import (
    beyond_rank_one,
    greedy_ranks,
    rank_for_energy,
    ratios_by_loss,
)
from tinyslm.compression.factorization.svd import (
    break_even_rank,
    factorized_parameters,
    rank_for_ratio,
    svd_components,
    truncated_svd,
)
from tinyslm.compression.factorization.svd_llm import whitened_components, whitened_svd
from tinyslm.compression.factorization.weighted_svd import weighted_components, weighted_svd

__all__ = [
    "Components",
    "LowRankLinear",
    "MaskedRankLinear",
    "activation_weighted_components",
    "activation_weighted_svd",
    "beyond_rank_one",
    "break_even_rank",
    "compression_loss",
    "factorize_linear",
    "factorized_parameters",
    "first_components",
    "fisher_weighted_components",
    "fisher_weighted_svd",
    "greedy_ranks",
    "logistic_noise",
    "masked_parameters",
    "masks_within",
    "rank_for_energy",
    "rank_for_ratio",
    "rank_mask",
    "ratios_by_loss",
    "svd_components",
    "total_variation_loss",
    "truncated_svd",
    "weighted_components",
    "weighted_svd",
    "whitened_components",
    "whitened_svd",
]
