"""Factorization: a weight matrix as the product of two thin ones, with fewer parameters and fewer multiplications."""

from tinyslm.compression.factorization.fisher import fisher_weighted_svd
from tinyslm.compression.factorization.low_rank_linear import LowRankLinear, factorize_linear
from tinyslm.compression.factorization.svd import (
    break_even_rank,
    factorized_parameters,
    rank_for_ratio,
    truncated_svd,
)

__all__ = [
    "LowRankLinear",
    "break_even_rank",
    "factorize_linear",
    "factorized_parameters",
    "fisher_weighted_svd",
    "rank_for_ratio",
    "truncated_svd",
]
