"""Steps that replace weight matrices by low-rank factors."""

from tinyslm.recipes.factorization.factorize import Factorize
from tinyslm.recipes.factorization.llrc import LearnRanks

__all__ = [
    "Factorize",
    "LearnRanks",
]
