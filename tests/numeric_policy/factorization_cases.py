"""Cases of `tinyslm.compression.factorization`: functions, and layers called on inputs."""

import numpy as np

from tests.numeric_policy.case import KEPT, REFUSED, Case, call_of
from tinyslm.compression import factorization
from tinyslm.modules import Linear

OUT, IN, RANK = 5, 8, 3
COMPUTED = {"integers": np.float64, "special": REFUSED}
SHAPES = {"a": (4, 6), "b": (6, 8)}


def product(factors):
    """left right: the factors themselves are unique up to signs only."""
    return factors[0].astype(np.float64) @ factors[1]


def weight(rng):
    return {"weight": rng.standard_normal((OUT, IN))}


def gram(rng):
    x = rng.standard_normal((4 * IN, IN))
    return x.T @ x


def factors(function, arguments):
    return Case(function, lambda rng: weight(rng) | arguments(rng) | {"rank": RANK}, view=product, **COMPUTED)


def components(function, arguments):
    def view(found):
        return found.left @ found.right, found.singular_values

    make = arguments
    return Case(function, lambda rng: weight(rng) | make(rng), view=view, result=np.float64, **COMPUTED)


def importances(rng):
    return {"inputs": rng.random(IN), "outputs": rng.random(OUT)}


def singular_values(rng):
    return {name: np.sort(rng.random(min(shape)))[::-1].copy() for name, shape in SHAPES.items()}


def linear(rng):
    return Linear(*weight(rng).values(), rng.standard_normal(OUT))


def layer_case(make):
    """The call of a layer on random inputs."""

    def arguments(rng):
        return {"layer": make(rng), "x": rng.standard_normal((2, IN))}

    return Case(call_of(make), arguments)


def masked_rank(rng):
    left, right, values = factorization.svd_components(**weight(rng))
    noise = rng.standard_normal(len(values))
    return factorization.MaskedRankLinear(
        rng.standard_normal(len(values)), left, right, noise, 0.5, rng.standard_normal(OUT)
    )


def losses():
    return {"a": {0.5: 2.1, 1.0: 2.0}, "b": {0.5: 2.9, 1.0: 2.0}}


CASES = {
    "truncated_svd": factors(factorization.truncated_svd, lambda rng: {}),
    "weighted_svd": factors(factorization.weighted_svd, importances),
    "fisher_weighted_svd": factors(factorization.fisher_weighted_svd, lambda rng: {"fisher": rng.random((OUT, IN))}),
    "activation_weighted_svd": factors(
        factorization.activation_weighted_svd, lambda rng: {"mean_magnitudes": rng.random(IN)}
    ),
    "whitened_svd": factors(factorization.whitened_svd, lambda rng: {"gram": gram(rng)}),
    "svd_components": components(factorization.svd_components, lambda rng: {}),
    "weighted_components": components(factorization.weighted_components, importances),
    "fisher_weighted_components": components(
        factorization.fisher_weighted_components, lambda rng: {"fisher": rng.random((OUT, IN))}
    ),
    "activation_weighted_components": components(
        factorization.activation_weighted_components, lambda rng: {"mean_magnitudes": rng.random(IN)}
    ),
    "whitened_components": components(factorization.whitened_components, lambda rng: {"gram": gram(rng)}),
    "Components": Case(
        lambda left, right, values: factorization.Components(left, right, values).first(RANK, np.float64),
        lambda rng: {
            "left": rng.standard_normal((OUT, 4)),
            "right": rng.standard_normal((4, IN)),
            "values": np.arange(4.0)[::-1].copy(),
        },
        integers=KEPT,
        result=np.float64,
    ),
    "rank_for_ratio": Case(factorization.rank_for_ratio, lambda rng: {"shape": (OUT, IN), "ratio": 0.5}),
    "break_even_rank": Case(factorization.break_even_rank, lambda rng: {"shape": (OUT, IN)}),
    "factorized_parameters": Case(factorization.factorized_parameters, lambda rng: {"shape": (OUT, IN), "rank": 2}),
    "factorize_linear": Case(
        lambda linear, rank: factorization.factorize_linear(linear, rank).dense_weight(),
        lambda rng: {"linear": linear(rng), "rank": 2},
        integers=np.float64,
    ),
    "rank_for_energy": Case(
        factorization.rank_for_energy,
        lambda rng: {"singular_values": np.sort(rng.random(7))[::-1].copy(), "energy": 0.8},
        **COMPUTED,
    ),
    "greedy_ranks": Case(
        factorization.greedy_ranks,
        lambda rng: {"singular_values": singular_values(rng), "shapes": SHAPES, "budget": 60},
        **COMPUTED,
    ),
    "beyond_rank_one": Case(factorization.beyond_rank_one, lambda rng: {"shapes": SHAPES, "budget": 60}),
    "ratios_by_loss": Case(
        factorization.ratios_by_loss,
        lambda rng: {"losses": losses(), "parameters": {"a": {0.5: 8, 1.0: 16}, "b": {0.5: 8, 1.0: 16}}, "budget": 24},
    ),
    "logistic_noise": Case(
        lambda seed, shape: factorization.logistic_noise(np.random.default_rng(seed), shape),
        lambda rng: {"seed": 3, "shape": (4,)},
        result=np.float64,
    ),
    "rank_mask": Case(
        factorization.rank_mask,
        lambda rng: {"logits": rng.standard_normal(7), "noise": rng.standard_normal(7), "temperature": 0.5},
        **COMPUTED,
    ),
    "compression_loss": Case(
        lambda logits: factorization.compression_loss(*logits),
        lambda rng: {"logits": [rng.standard_normal(7), rng.standard_normal(5)]},
        **COMPUTED,
    ),
    "total_variation_loss": Case(
        factorization.total_variation_loss, lambda rng: {"mask": rng.standard_normal(7)}, **COMPUTED
    ),
    "masked_parameters": Case(
        factorization.masked_parameters,
        lambda rng: {"masks": {"a": np.array([1.0, 0, 1, 0]), "b": np.ones(6)}, "shapes": SHAPES},
        **COMPUTED,
    ),
    "masks_within": Case(
        factorization.masks_within,
        lambda rng: {
            "logits": {"a": rng.standard_normal(4), "b": rng.standard_normal(6)},
            "shapes": SHAPES,
            "budget": 60,
        },
        **COMPUTED,
    ),
    "first_components": Case(
        factorization.first_components, lambda rng: {"mask": np.array([1.0, 0, 1, 0])}, **COMPUTED
    ),
    "LowRankLinear": layer_case(
        lambda rng: factorization.LowRankLinear(
            rng.standard_normal((OUT, RANK)), rng.standard_normal((RANK, IN)), rng.standard_normal(OUT)
        )
    ),
    "MaskedRankLinear": layer_case(masked_rank),
}
