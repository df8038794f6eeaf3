"""Steps that replace weight matrices by low-rank factors. Mathematics: `tinyslm/compression/factorization`."""

from tinyslm.recipes.factorization.factorize import Factorize
from tinyslm.recipes.factorization.llrc import LearnRanks

__all__ = ["Factorize", "LearnRanks"]
