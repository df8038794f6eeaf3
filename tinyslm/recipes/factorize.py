"""Low-rank factorization applied to a model: two thin matrices in place of each weight."""

from dataclasses import dataclass
from functools import partial

from tinyslm.compression.factorization import factorize_linear, fisher_weighted_svd, rank_for_ratio, truncated_svd
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.recipes.statistics import fisher_information
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class Factorize:
    """Factorize every linear layer inside the blocks to the fraction `ratio` of its parameters.

    weighting: "none" for the plain SVD, "fisher" to spend the error where the loss feels it least.
    A layer that two factors would not make smaller stays dense.
    """

    ratio: float
    weighting: str = "none"

    def __call__(self, model, calibration, progress=None):
        if self.weighting not in ("none", "fisher"):
            raise ConfigError(f"weighting is {self.weighting!r}, expected 'none' or 'fisher'")
        require_dense(model)
        fisher = fisher_information(model, calibration.sample()) if self.weighting == "fisher" else {}

        def factorize(path, linear):
            if not is_compressible(path):
                return linear
            decompose = truncated_svd
            if fisher:
                information = fisher[f"{path}.weight"]
                decompose = partial(_weighted, information)
            return factorize_linear(linear, rank_for_ratio(linear.weight.shape, self.ratio), decompose)

        return map_modules(factorize, model, Linear)


def _weighted(fisher, weight, rank):
    return fisher_weighted_svd(weight, fisher, rank)
