"""Cases of `tinyslm.compression.pruning`: functions, and layers called on inputs."""

import numpy as np

from tests.numeric_policy.case import KEPT, REFUSED, Case, call_of
from tinyslm.compression import pruning
from tinyslm.modules import Linear

COMPUTED = {"integers": np.float64, "special": REFUSED}
SELECTION = {"integers": KEPT}
OUT, IN = 5, 8
PLACES = np.packbits(np.tile(np.array([0, 0, 1, 1], np.uint8), 6))  # indices 0 and 3 of six groups, two bits each


def weight(rng):
    return {"weight": rng.standard_normal((OUT, IN))}


def hessian(rng, size=IN):
    x = rng.standard_normal((4 * size, size))
    return x.T @ x


def neurons(rng):
    F, C = 6, 4
    return {
        "up": rng.standard_normal((F, C)),
        "down": rng.standard_normal((C, F)),
        "gate": rng.standard_normal((F, C)),
    }


def attention_weights(rng):
    """Four query heads and two key/value heads of two dimensions."""
    C = 5
    return {
        "query": rng.standard_normal((8, C)),
        "key": rng.standard_normal((4, C)),
        "value": rng.standard_normal((4, C)),
        "output": rng.standard_normal((C, 8)),
        "head_dim": 2,
    }


def query_and_output(rng):
    arguments = attention_weights(rng)
    del arguments["key"], arguments["value"]
    return arguments


def coupled(rng, *names):
    return {name: [rng.standard_normal((3, 5)), rng.standard_normal((3, 7))] for name in names}


def experts(rng):
    return [[rng.standard_normal((5, 7)), rng.standard_normal((7, 5))] for _ in range(3)]


def linear(rng):
    return Linear(*weight(rng).values(), rng.standard_normal(OUT))


def sparse(rng):
    """A linear layer with the pattern 2:4."""
    dense = linear(rng)
    return dense.replace(weight=dense.weight * pruning.n_m_mask(np.abs(dense.weight), 2, 4))


def layer_case(make):
    """The call of a layer on random inputs."""

    def arguments(rng):
        return {"layer": make(rng), "x": rng.standard_normal((3, IN))}

    return Case(call_of(make), arguments)


CASES = {
    "magnitude_mask": Case(pruning.magnitude_mask, lambda rng: weight(rng) | {"sparsity": 0.5}, **COMPUTED),
    "global_magnitude_masks": Case(
        pruning.global_magnitude_masks,
        lambda rng: {"weights": {"a": rng.standard_normal((3, 5)), "b": rng.standard_normal(7)}, "sparsity": 0.5},
        **COMPUTED,
    ),
    "n_m_mask": Case(
        pruning.n_m_mask, lambda rng: {"scores": rng.standard_normal((OUT, IN)), "n": 2, "m": 4}, **COMPUTED
    ),
    "pack_n_m": Case(
        pruning.pack_n_m,
        lambda rng: weight(rng) | {"mask": np.tile([True, False, False, True], (OUT, 2)), "n": 2, "m": 4},
        integers=KEPT,
        special=REFUSED,
    ),
    "parse_pattern": Case(pruning.parse_pattern, lambda rng: {"pattern": "2:4"}),
    "wanda_scores": Case(pruning.wanda_scores, lambda rng: weight(rng) | {"feature_norms": rng.random(IN)}, **COMPUTED),
    "wanda_mask": Case(
        pruning.wanda_mask, lambda rng: weight(rng) | {"feature_norms": rng.random(IN), "sparsity": 0.5}, **COMPUTED
    ),
    "sparsegpt": Case(
        pruning.sparsegpt, lambda rng: weight(rng) | {"hessian": hessian(rng), "sparsity": 0.5}, **COMPUTED
    ),
    "obs_step": Case(
        pruning.obs_step,
        lambda rng: {
            "weights": rng.standard_normal(IN),
            "inverse_hessian": np.linalg.inv(hessian(rng)),
            "index": 3,
        },
        **COMPUTED,
    ),
    "downdate_inverse": Case(
        pruning.downdate_inverse,
        lambda rng: {"inverse_hessian": np.linalg.inv(hessian(rng)), "index": 3},
        **COMPUTED,
    ),
    "least_squares_refit": Case(
        pruning.least_squares_refit,
        lambda rng: weight(rng) | {"gram": hessian(rng), "mask": rng.random((OUT, IN)) < 0.6},
        **COMPUTED,
    ),
    "refit_down": Case(
        pruning.refit_down,
        lambda rng: {"down": rng.standard_normal((OUT, IN)), "gram": hessian(rng), "keep": np.array([0, 3, 4])},
        **COMPUTED,
    ),
    "allocate_sparsity": Case(
        pruning.allocate_sparsity,
        lambda rng: {
            "losses": {"a": {0.0: 0.0, 0.5: 1.0}, "b": {0.0: 0.0, 0.5: 0.5}},
            "sizes": {"a": 8, "b": 8},
            "sparsity": 0.25,
        },
    ),
    "cubic_sparsity": Case(pruning.cubic_sparsity, lambda rng: {"step": 3, "final": 0.5, "stop": 7}),
    "iterative_sparsity": Case(pruning.iterative_sparsity, lambda rng: {"round_number": 2, "final": 0.5, "rounds": 4}),
    "magnitude_importance": Case(pruning.magnitude_importance, lambda rng: coupled(rng, "weights"), **COMPUTED),
    "taylor_importance": Case(pruning.taylor_importance, lambda rng: coupled(rng, "weights", "gradients"), **COMPUTED),
    "taylor_importance, element": Case(
        pruning.taylor_importance,
        lambda rng: coupled(rng, "weights", "gradients") | {"method": "taylor_element"},
        **COMPUTED,
    ),
    "taylor_importance, second": Case(
        pruning.taylor_importance,
        lambda rng: coupled(rng, "weights", "gradients", "fishers") | {"method": "taylor_second"},
        **COMPUTED,
    ),
    "random_importance": Case(pruning.random_importance, lambda rng: {"count": 4, "seed": 1}, result=np.float64),
    "minitron_importance": Case(
        pruning.minitron_importance,
        lambda rng: {"documents": [rng.standard_normal((3, 5)), rng.standard_normal((4, 5))]},
        result=np.float64,
        **COMPUTED,
    ),
    "neuron_importance": Case(pruning.neuron_importance, neurons, **COMPUTED),
    "neuron_importance, range": Case(
        pruning.neuron_importance, lambda rng: neurons(rng) | {"method": "peak_to_peak"}, **COMPUTED
    ),
    "neuron_importance, activation": Case(
        pruning.neuron_importance,
        lambda rng: neurons(rng) | {"method": "activation", "mean_activation": rng.random(6)},
        **COMPUTED,
    ),
    "head_importance": Case(pruning.head_importance, query_and_output, **COMPUTED),
    "head_importance, minitron": Case(
        pruning.head_importance,
        lambda rng: query_and_output(rng) | {"method": "minitron", "mixed": [rng.standard_normal((3, 8))]},
        result=np.float64,
        **COMPUTED,
    ),
    "group_importance": Case(
        pruning.group_importance, lambda rng: {"importance": rng.random(6), "groups": 2}, **COMPUTED
    ),
    "most_important_heads": Case(
        pruning.most_important_heads, lambda rng: {"importance": rng.random(6), "groups": 2, "count": 1}, **COMPUTED
    ),
    "most_important": Case(pruning.most_important, lambda rng: {"importance": rng.random(6), "count": 3}, **COMPUTED),
    "expert_importance": Case(
        pruning.expert_importance,
        lambda rng: {"experts": experts(rng), "mean_routing_weight": rng.random(3)},
        **COMPUTED,
    ),
    "expert_importance, magnitude": Case(
        pruning.expert_importance, lambda rng: {"experts": experts(rng), "method": "magnitude"}, **COMPUTED
    ),
    "layer_importance": Case(
        pruning.layer_importance,
        lambda rng: {"states": list(rng.standard_normal((4, 3, 5)))},
        result=np.float64,
        **COMPUTED,
    ),
    "slice_channels": Case(
        pruning.slice_channels,
        lambda rng: {"array": rng.standard_normal((OUT, IN)), "axes": (1,), "keep": np.array([0, 3, 4])},
        **SELECTION,
    ),
    "slice_rms_norm": Case(
        pruning.slice_rms_norm,
        lambda rng: {"gain": rng.standard_normal(IN), "eps": 1e-6, "keep": np.array([0, 3, 4]), "offset": 1.0},
        view=lambda result: result[0],
        **COMPUTED,
    ),
    "slice_experts": Case(
        pruning.slice_experts,
        lambda rng: {"router": rng.standard_normal((3, 5)), "experts": ["a", "b", "c"], "keep": np.array([0, 2])},
        **SELECTION,
    ),
    "slice_neurons": Case(
        pruning.slice_neurons, lambda rng: neurons(rng) | {"keep": np.array([0, 3])}, integers=KEPT, special=REFUSED
    ),
    "slice_heads": Case(
        pruning.slice_heads,
        lambda rng: query_and_output(rng) | {"keep": np.array([0, 3]), "groups": 2},
        **SELECTION,
    ),
    "slice_groups": Case(
        pruning.slice_groups, lambda rng: attention_weights(rng) | {"keep": np.array([1])}, **SELECTION
    ),
    "masked_linear": Case(
        pruning.masked_linear,
        lambda rng: {
            "x": rng.standard_normal((3, IN)),
            "weight": rng.standard_normal((OUT, IN)),
            "mask": rng.random((OUT, IN)) < 0.5,
            "bias": rng.standard_normal(OUT),
        },
    ),
    "MaskedLinear": layer_case(lambda rng: pruning.MaskedLinear.from_linear(linear(rng), rng.random((OUT, IN)) < 0.5)),
    "CsrLinear": layer_case(lambda rng: pruning.CsrLinear.from_linear(sparse(rng))),
    "BitmapLinear": layer_case(lambda rng: pruning.BitmapLinear.from_linear(sparse(rng))),
    "NMLinear": layer_case(lambda rng: pruning.NMLinear.from_linear(sparse(rng), "2:4")),
    "PackedNM": Case(
        lambda values, places: pruning.PackedNM(values, places, 4).unpack(),
        lambda rng: {"values": rng.standard_normal((3, 2, 2)), "places": PLACES},
        **SELECTION,
    ),
}
