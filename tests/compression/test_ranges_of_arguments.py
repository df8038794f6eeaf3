"""Both ends of the range of every number that pruning and factorization take, and single bad entries among good ones.

Each table has calls that are accepted next to those that are refused, so a check that is too strict is found as well.
"""

import numpy as np
import pytest

from tinyslm.compression.error_compensation import compensate_columns, damped_hessian, prepare_columns
from tinyslm.compression.factorization import (
    LowRankLinear,
    activation_weighted_components,
    activation_weighted_svd,
    beyond_rank_one,
    break_even_rank,
    compression_loss,
    factorized_parameters,
    first_components,
    fisher_weighted_components,
    fisher_weighted_svd,
    greedy_ranks,
    masked_parameters,
    masks_within,
    rank_for_energy,
    rank_for_ratio,
    rank_mask,
    ratios_by_loss,
    svd_components,
    total_variation_loss,
    truncated_svd,
    weighted_components,
    weighted_svd,
    whitened_components,
    whitened_svd,
)
from tinyslm.compression.pruning import (
    MaskedLinear,
    NMLinear,
    allocate_sparsity,
    cubic_sparsity,
    downdate_inverse,
    expert_importance,
    global_magnitude_masks,
    head_importance,
    iterative_sparsity,
    layer_importance,
    least_squares_refit,
    magnitude_importance,
    magnitude_mask,
    minitron_importance,
    most_important,
    n_m_mask,
    neuron_importance,
    obs_step,
    pack_n_m,
    parse_pattern,
    refit_down,
    slice_channels,
    slice_experts,
    slice_groups,
    slice_heads,
    slice_neurons,
    slice_rms_norm,
    sparsegpt,
    taylor_importance,
    wanda_mask,
    wanda_scores,
)
from tinyslm.compression.pruning.heads import group_importance, most_important_heads
from tinyslm.compression.pruning.importance import random_importance
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear

rng = np.random.default_rng(0)
WEIGHT, GRAM, NORMS = rng.standard_normal((4, 6)), np.diag([5.0, 4, 3, 2, 2, 1]), np.arange(1.0, 7)
QUERY, KEY, OUTPUT = rng.standard_normal((12, 5)), rng.standard_normal((6, 5)), rng.standard_normal((5, 12))  # D = 2
MASK = np.tile([True, False, True], (4, 2))
SPECTRA, SHAPES = {"a": np.array([3.0, 2, 1, 1])}, {"a": (4, 6)}
LOSSES, SIZES = {"a": {0.0: 0.0, 0.5: 1.0}, "b": {0.5: 0.3, 1.0: 2.0}}, {"a": 10, "b": 10}

NUMBERS = {  # name: (function of the number, accepted numbers, refused numbers)
    "n_m_mask m": (lambda m: n_m_mask(np.ones((1, 2**15)), 1, m), (1, 2, 2**15), (0, -1, 2**15 + 1, 1.0, True)),
    "n_m_mask n": (lambda n: n_m_mask(WEIGHT, n, 3), (0, 1, 3), (-1, 4, 1.0)),
    "pattern": (parse_pattern, ("1:2", "2:3", "12:32"), ("0:2", "2:2", "3:2", "1:", ":2", "1", "1;2", "-1:2", "1:2.0")),
    "rounds": (lambda rounds: iterative_sparsity(0, 0.5, rounds), (1, 10**6), (0, 10**6 + 1, 1.0)),
    "round": (lambda number: iterative_sparsity(number, 0.5, 3), (0, 3), (-1, 4, 1.0)),
    "final": (lambda final: iterative_sparsity(1, final, 2), (0, 1), (-1e-9, 1 + 1e-9, np.nan)),
    "cubic final": (lambda final: cubic_sparsity(0, final), (0, 1), (-1e-9, 1 + 1e-9, np.nan)),
    "cubic initial": (lambda initial: cubic_sparsity(0, 0.5, initial=initial), (0, 1), (-1e-9, 1 + 1e-9)),
    "cubic stop": (lambda stop: cubic_sparsity(0, 0.5, start=3, stop=stop), (4,), (3, 2)),
    "cubic step": (lambda step: cubic_sparsity(step, 0.5), (-5, 0, 9), (np.inf, np.nan)),
    "sparsity": (lambda sparsity: magnitude_mask(WEIGHT, sparsity), (0, 1), (-1e-9, 1 + 1e-9)),
    "global sparsity": (lambda sparsity: global_magnitude_masks([WEIGHT], sparsity), (0, 1), (-1e-9, 1 + 1e-9)),
    "wanda sparsity": (lambda sparsity: wanda_mask(WEIGHT, NORMS, sparsity), (0, 1), (-1e-9, 1 + 1e-9)),
    "sparsegpt sparsity": (lambda sparsity: sparsegpt(WEIGHT, GRAM, sparsity), (0, 1), (-1e-9, 1 + 1e-9)),
    "sparsegpt block": (lambda size: sparsegpt(WEIGHT, GRAM, 0.5, block_size=size), (1, 2**31), (0, 2**31 + 1, 2.0)),
    "sparsegpt damping": (lambda damping: sparsegpt(WEIGHT, GRAM, 0.5, damping=damping), (0, 9), (-1e-9, np.inf)),
    "allocation": (lambda sparsity: allocate_sparsity(LOSSES, SIZES, sparsity), (0, 0.75), (-1e-9, 0.76, 1 + 1e-9)),
    "count": (lambda count: most_important(NORMS, count), (1, 6), (0, 7, 1.0)),
    "random count": (lambda count: random_importance(count, 0), (1, 100), (0, 2**31 + 1, 1.0)),
    "index": (lambda index: obs_step(WEIGHT[0], GRAM, index), (0, 5), (-1, 6, 1.0)),
    "downdate index": (lambda index: downdate_inverse(GRAM, index), (0, 5), (-1, 6, 1.0)),
    "groups": (lambda groups: group_importance(NORMS, groups), (1, 2, 6), (0, 7, 2.0)),
    "heads of a group": (lambda count: most_important_heads(NORMS, 2, count), (1, 3), (0, 4)),
    "head_dim": (lambda head_dim: head_importance(QUERY, OUTPUT, head_dim=head_dim), (1, 2, 12), (0, 13, 2.0)),
    "slice head_dim": (lambda D: slice_heads(QUERY, OUTPUT, [0], groups=1, head_dim=D), (1, 12), (0, 2**31 + 1, 2.0)),
    "slice groups": (
        lambda groups: slice_heads(QUERY, OUTPUT, np.arange(12), groups=groups, head_dim=1),
        (1, 12),
        (0, 2**31 + 1, 2.0),
    ),
    "group head_dim": (
        lambda head_dim: slice_groups(QUERY, KEY, KEY, OUTPUT, [0], head_dim=head_dim),
        (1, 6),
        (0, 2**31 + 1, 2.0),
    ),
    "eps": (lambda eps: slice_rms_norm(NORMS, eps, [0]), (0, 1e-6), (-1e-9, np.inf)),
    "rank": (lambda rank: truncated_svd(WEIGHT, rank), (1, 4), (0, 5, 1.0)),
    "rank of a shape": (lambda rank: factorized_parameters((4, 6), rank), (1, 4), (0, 5, 1.0)),
    "rank of a tall shape": (lambda rank: factorized_parameters((6, 4), rank), (1, 4), (0, 5)),
    "side": (lambda side: break_even_rank((side, 3)), (1, 2**63), (0, 2**63 + 1, 2.0)),
    "axes": (lambda shape: break_even_rank(shape), ((2, 3), [2, 3]), ((2,), (2, 3, 4), ())),
    "ratio": (lambda ratio: rank_for_ratio((4, 6), ratio), (1e-9, 1), (0, 1 + 1e-9, -0.5)),
    "energy": (lambda energy: rank_for_energy(NORMS[::-1], energy), (1e-9, 1), (0, 1 + 1e-9, -0.5, np.nan)),
    "budget": (lambda budget: greedy_ranks(SPECTRA, SHAPES, budget), (10, 10.5, 99), (9, 9.99, np.nan)),
    "budget of masks": (lambda budget: masks_within(SPECTRA, SHAPES, budget), (10, 99), (9, 9.99)),
    "budget of a rank": (lambda budget: beyond_rank_one(SHAPES, budget), (10, 99), (9, 9.99)),
    "alpha": (lambda alpha: activation_weighted_svd(WEIGHT, NORMS, 1, alpha=alpha), (0, 1, 3), (-1e-9, np.inf)),
    "temperature": (lambda t: rank_mask(NORMS, NORMS, t), (1e-9, 1e9), (0, -1, np.inf, np.nan)),
    "importance": (lambda method: magnitude_or(method), ("magnitude", "routing"), ("", "Magnitude")),
    "m of a layer": (
        lambda m: NMLinear.array_forms((4, 6), {"m": m}, {"values": np.ones((4, 6 // m, 1))}),
        (2, 3, 6),
        (1, 4, 5, 7, 12),
    ),
}


def magnitude_or(method):
    return expert_importance([[WEIGHT], [WEIGHT]], method=method, mean_routing_weight=np.ones(2))


@pytest.mark.parametrize("name", NUMBERS)
def test_both_ends_of_a_range(name):
    call, accepted, refused = NUMBERS[name]
    for value in accepted:
        call(value)
    for value in refused:
        with pytest.raises(ConfigError):
            call(value)


def with_entry(array, index, value):
    """A copy of the array with one other entry."""
    copy = np.array(array, np.result_type(array, type(value)))
    copy[index] = value
    return copy


def one_bad(good, index=-1, bad=np.nan):
    """(good, bad) for a test: the second has one other entry."""
    return good, with_entry(good, index, bad)


STATES = [rng.standard_normal((3, 4)) for _ in range(3)]
ARRAYS = {  # name: (function of the argument, an accepted argument, refused arguments)
    "magnitude": (lambda x: magnitude_mask(x, 0.5), *one_bad(WEIGHT)),
    "global": (lambda x: global_magnitude_masks([WEIGHT, x], 0.5), *one_bad(WEIGHT)),
    "norms": (lambda x: wanda_mask(WEIGHT, x, 0.5), *one_bad(NORMS, 2, -1.0), np.ones(4), np.ones((6, 1))),
    "zero norms": (lambda x: wanda_mask(WEIGHT, x, 0.5), *one_bad(NORMS * 0, 2, np.inf)),
    "hessian": (lambda x: prepare_columns(WEIGHT, x), *one_bad(GRAM, (1, 1), -1e-9), np.eye(4), GRAM[:5]),
    "hessian of zeros": (
        damped_hessian,
        np.diag([0.0, 1.0]),
        np.diag([0.0, -1.0]),
        np.array([[1.0, 0.5], [0.4, 1.0]]),
        np.diag([0.0, np.nan]),
        np.ones((2, 3)),
    ),
    "refit gram": (lambda x: least_squares_refit(WEIGHT, x, MASK), *one_bad(GRAM), np.eye(4), GRAM[:5]),
    "refit mask": (lambda x: least_squares_refit(WEIGHT, GRAM, x), MASK, MASK.astype(int), MASK[:3], MASK.T),
    "refit weight": (lambda x: least_squares_refit(x, GRAM, MASK), *one_bad(WEIGHT), WEIGHT[0]),
    "down gram": (lambda x: refit_down(WEIGHT, x, [0, 2]), *one_bad(GRAM), np.eye(4), GRAM[:5]),
    "down": (lambda x: refit_down(x, GRAM, [0, 2]), *one_bad(WEIGHT), WEIGHT[0], WEIGHT[:, :5]),
    "down keep": (lambda x: refit_down(WEIGHT, GRAM, x), [0, 5], [], [0, 6], [-1, 2], [2, 2], [0.0]),
    "obs weights": (lambda x: obs_step(x, GRAM, 0), *one_bad(NORMS), np.ones(5), np.ones((2, 6))),
    "obs inverse": (lambda x: obs_step(NORMS, x, 0), *one_bad(GRAM), with_entry(GRAM, (0, 0), 0.0), -GRAM, GRAM[:5]),
    "inverse": (lambda x: downdate_inverse(x, 1), *one_bad(GRAM), with_entry(GRAM, (1, 1), -1.0), GRAM[:5]),
    "importance": (lambda x: most_important(x, 2), *one_bad(NORMS), np.ones((2, 3))),
    "head weights": (lambda x: head_importance(x, OUTPUT, head_dim=2), *one_bad(QUERY), QUERY[:11], QUERY[:10]),
    "mixed": (
        lambda x: head_importance(QUERY, OUTPUT, head_dim=2, method="minitron", mixed=x),
        [QUERY.T, QUERY.T[:3]],
        [QUERY.T, QUERY.T[:, :11]],
        [QUERY.T[:, :11], QUERY.T],
        [QUERY.T, np.ones(12)],
        [],
    ),
    "head importance": (lambda x: group_importance(x, 2), *one_bad(NORMS), np.ones(5)),
    "heads": (
        lambda x: slice_heads(QUERY, OUTPUT, x, groups=3, head_dim=2),
        [0, 2, 4],
        [0, 2, 6],
        [-1, 2, 4],
        [2, 2, 4],
        [],
    ),
    "query": (lambda x: slice_heads(x, OUTPUT, [0, 2, 4], groups=3, head_dim=2), QUERY, QUERY[:11], QUERY[:8]),
    "key/value heads": (lambda x: slice_groups(QUERY, KEY, KEY, OUTPUT, x, head_dim=2), [0, 2], [0, 3], [1, 0], []),
    "neurons": (lambda x: slice_neurons(WEIGHT, WEIGHT.T, None, x), [0, 3], [0, 4], [-1, 3], [3, 3], [0.0], []),
    "up": (lambda x: slice_neurons(x, WEIGHT.T, WEIGHT, [0]), *one_bad(WEIGHT), WEIGHT[:3], WEIGHT[0]),
    "gate": (lambda x: slice_neurons(WEIGHT, WEIGHT.T, x, [0]), *one_bad(WEIGHT), WEIGHT[:3], WEIGHT[:, :5]),
    "down of neurons": (lambda x: slice_neurons(WEIGHT, x, None, [0]), *one_bad(WEIGHT.T), WEIGHT),
    "neuron weights": (lambda x: neuron_importance(x, WEIGHT.T), *one_bad(WEIGHT), WEIGHT[:3], WEIGHT[0]),
    "mean activation": (
        lambda x: neuron_importance(WEIGHT, WEIGHT.T, method="activation", mean_activation=x),
        *one_bad(np.ones(4)),
        np.ones(6),
    ),
    "gain": (lambda x: slice_rms_norm(x, 1e-6, [0]), *one_bad(NORMS), np.ones((2, 3))),
    "channels": (lambda x: slice_channels(WEIGHT, (0, 1), x), [0, 3], [0, 4], [3, 0], []),
    "experts": (lambda x: slice_experts(WEIGHT, list("abcd"), x), [0, 3], [0, 4], [3, 0], []),
    "names of experts": (lambda x: slice_experts(WEIGHT, x, [0]), list("abcd"), list("abc"), list("abcde")),
    "expert weights": (
        lambda x: expert_importance(x, method="magnitude"),
        [[WEIGHT], [WEIGHT]],
        [[WEIGHT, WEIGHT], [WEIGHT, with_entry(WEIGHT, 0, np.inf)]],
        [],
    ),
    "routing": (
        lambda x: expert_importance([[WEIGHT], [WEIGHT]], mean_routing_weight=x),
        *one_bad(np.ones(2)),
        np.ones(3),
    ),
    "units": (
        magnitude_importance,
        [WEIGHT, WEIGHT[:, 0]],
        [WEIGHT, WEIGHT[:3]],
        [WEIGHT, np.float64(1)],
        [np.float64(1)],
        [WEIGHT, with_entry(WEIGHT, 0, np.nan)],
        [],
    ),
    "gradients": (
        lambda x: taylor_importance([WEIGHT, WEIGHT], x),
        [WEIGHT, WEIGHT],
        [WEIGHT, WEIGHT[:, :5]],
        [WEIGHT],
        [WEIGHT, with_entry(WEIGHT, 0, np.nan)],
    ),
    "fishers": (
        lambda x: taylor_importance([WEIGHT], [WEIGHT], x, method="taylor_second"),
        [WEIGHT],
        [WEIGHT.T],
        [WEIGHT, WEIGHT],
    ),
    "documents": (
        minitron_importance,
        [STATES[0], STATES[1][:2]],
        [STATES[0], np.ones(4)],
        [STATES[0], np.ones((2, 5))],
        [STATES[0], with_entry(STATES[1], 0, np.nan)],
        [np.ones((3, 0))],
        [],
    ),
    "states": (
        layer_importance,
        STATES[:2],
        STATES[:1],
        [*STATES[:2], STATES[2][:2]],
        [*STATES[:2], with_entry(STATES[2], 0, np.inf)],
        [],
    ),
    "scores": (lambda x: n_m_mask(x, 1, 3), *one_bad(WEIGHT), WEIGHT[:, :5], WEIGHT[0]),
    "pattern mask": (
        lambda x: pack_n_m(WEIGHT, x, 2, 3),
        MASK,
        with_entry(MASK, (3, 5), False),
        with_entry(MASK, (3, 4), True),
        MASK[:3],
        MASK.astype(int),
    ),
    "layer mask": (lambda x: MaskedLinear.from_linear(Linear(WEIGHT), x), MASK, MASK.astype(int), MASK[:3]),
    "fisher": (lambda x: fisher_weighted_svd(WEIGHT, x, 1), *one_bad(np.zeros((4, 6)), (2, 3), -1e-9), GRAM),
    "inputs": (lambda x: weighted_svd(WEIGHT, x, NORMS[:4], 1), *one_bad(NORMS, 2, -1e-9), NORMS[:5]),
    "outputs": (lambda x: weighted_svd(WEIGHT, NORMS, x, 1), *one_bad(NORMS[:4], 2, -1e-9), NORMS[:5]),
    "magnitudes": (lambda x: activation_weighted_svd(WEIGHT, x, 1), *one_bad(NORMS, 2, -1e-9), NORMS[:5]),
    "gram": (lambda x: whitened_svd(WEIGHT, x, 1), *one_bad(GRAM), np.eye(4), GRAM[:5], with_entry(GRAM, (0, 1), 1.0)),
    "negative gram": (lambda x: whitened_svd(WEIGHT, x, 1), *one_bad(GRAM, (5, 5), -1.0)),
    "logits": (lambda x: rank_mask(x, NORMS, 1.0), *one_bad(NORMS), np.ones(5), np.ones((2, 3))),
    "noise": (lambda x: rank_mask(NORMS, x, 1.0), *one_bad(NORMS), np.ones(5)),
    "variation": (total_variation_loss, *one_bad(NORMS), np.ones((2, 3))),
    "first components": (first_components, *one_bad(NORMS), np.ones((2, 3))),
    "spectrum": (
        lambda s: rank_for_energy(s, 0.5),
        np.array([3.0, 2.0, 2.0, 0.0]),
        np.array([3.0, 1.0, 2.0, 0.0]),
        np.array([3.0, 2.0, 1.0, -1e-9]),
        np.array([3.0, np.nan, 1.0]),
        np.ones(0),
    ),
    "spectra": (
        lambda s: greedy_ranks({"a": s, "b": s}, {"a": (4, 6), "b": (6, 4)}, 99),
        np.array([3.0, 2.0, 2.0, 0.0]),
        np.array([3.0, 1.0, 2.0, 0.0]),
        np.ones(3),
        np.ones(5),
    ),
    "layers of spectra": (
        lambda x: greedy_ranks(x, SHAPES, 99),
        SPECTRA,
        {"b": np.ones(4)},
        SPECTRA | {"b": np.ones(4)},
    ),
    "layers of masks": (
        lambda x: masked_parameters(x, SHAPES),
        SPECTRA,
        {"b": np.ones(4)},
        SPECTRA | {"b": np.ones(4)},
        {"a": np.array([1.0, np.nan, 0, 0])},
    ),
    "layers of logits": (
        lambda x: masks_within(x, SHAPES, 99),
        SPECTRA,
        {"b": np.ones(4)},
        {"a": np.array([1, np.nan])},
    ),
    "logits of layers": (
        lambda x: compression_loss(*x),
        [NORMS, NORMS],
        [NORMS, one_bad(NORMS)[1]],
        [NORMS, np.ones(0)],
    ),
    "losses": (
        lambda x: allocate_sparsity(x, SIZES, 0.1),
        LOSSES,
        LOSSES | {"b": {}},
        LOSSES | {"b": {0.5: 0.3, 1.0: np.inf}},
        LOSSES | {"b": {0.5: np.nan, 1.0: 0.3}},
        {"a": LOSSES["a"]},
        LOSSES | {"c": {0.5: 0.1}},
    ),
    "losses of ratios": (
        lambda x: ratios_by_loss(x, {"a": {0.5: 8, 1.0: 16}}, 16),
        {"a": {0.5: 2.0}},
        {"a": {0.5: 2.0, 1.0: np.inf}},
        {"a": {0.5: np.nan}},
        {"b": {0.5: 2.0}},
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_one_bad_array_or_entry_is_refused(name):
    call, accepted, *refused = ARRAYS[name]
    call(accepted)
    for value in refused:
        with pytest.raises(DataError):
            call(value)


def test_the_symmetry_of_a_hessian_and_a_gram_matrix_is_exact_to_a_millionth_of_the_largest_entry():
    """An absolute tolerance: 10^-6 of the largest diagonal entry, for small and for large entries alike."""
    for value in (0.0, 30.0):
        for share, fits in ((0.9e-6, True), (1.1e-6, False), (5e-6, False)):
            matrix = np.diag([50.0, 40.0, 3.0])
            matrix[0, 1], matrix[1, 0] = value, value + share * 50
            for call in (damped_hessian, lambda gram: whitened_svd(np.ones((2, 3)), gram, 1)):
                if fits:
                    call(matrix)
                else:
                    with pytest.raises(DataError, match=r"X\^T X"):
                        call(matrix)


def test_an_eigenvalue_of_a_gram_matrix_may_be_negative_by_a_millionth_of_the_largest():
    for share, fits in ((0.9e-6, True), (1.1e-6, False)):
        gram = np.diag([-share * 50, 50.0, 3.0])
        if fits:
            whitened_svd(np.ones((2, 3)), gram, 1)
        else:
            with pytest.raises(DataError, match="negative eigenvalue"):
                whitened_svd(np.ones((2, 3)), gram, 1)


def test_the_columns_of_the_loop_are_not_changed():
    columns, upper = prepare_columns(WEIGHT, GRAM)
    before = columns.copy(), upper.copy()
    for block_size in (1, 2**31):
        compensate_columns(columns, upper, lambda j, column, following: np.round(column), block_size=block_size)
    np.testing.assert_array_equal(columns, before[0])
    np.testing.assert_array_equal(upper, before[1])


@pytest.mark.parametrize("layer", [MaskedLinear.from_linear(Linear(QUERY), QUERY > 0), LowRankLinear(QUERY, QUERY.T)])
def test_only_linear_layers_and_arrays_are_sliced(layer):
    for call in (
        lambda layer: slice_neurons(layer, OUTPUT, None, [0]),
        lambda layer: slice_heads(layer, OUTPUT, [0], groups=1, head_dim=2),
        lambda layer: slice_groups(QUERY, layer, KEY, OUTPUT, [0], head_dim=2),
    ):
        with pytest.raises(ConfigError, match=f"found {type(layer).__name__}: slice before other compression steps"):
            call(layer)
    call(Linear(QUERY))


WIDE = np.eye(6)[:5]
NAMED = [  # (a call, the beginning of its message): the argument is that of the function that was called
    (lambda: activation_weighted_svd(WEIGHT, NORMS[:5], 1), r"mean_magnitudes must have shape \(6,\), found \(5,\)"),
    (lambda: activation_weighted_components(WEIGHT, -NORMS, alpha=2.0), "mean_magnitudes must not be negative"),
    (lambda: activation_weighted_svd(WEIGHT[0], NORMS, 1), "weight must be a matrix"),
    (lambda: activation_weighted_components(WEIGHT[0], NORMS), "weight must be a matrix"),
    (lambda: fisher_weighted_components(WEIGHT, GRAM), r"fisher must have shape \(4, 6\)"),
    (lambda: fisher_weighted_svd(WEIGHT[0], WEIGHT, 1), "weight must be a matrix"),
    (lambda: weighted_components(WEIGHT, NORMS[:4]), r"inputs must have shape \(6,\)"),
    (lambda: weighted_components(WEIGHT, NORMS, NORMS), r"outputs must have shape \(4,\)"),
    (lambda: weighted_svd(WEIGHT[0], NORMS, NORMS, 1), "weight must be a matrix"),
    (lambda: whitened_components(WEIGHT, WIDE), r"gram must have shape \(6, 6\), found \(5, 6\)"),
    (lambda: whitened_components(WEIGHT, one_bad(GRAM)[1]), "gram must be finite"),
    (lambda: whitened_components(WEIGHT[0], GRAM), "weight must be a matrix"),
    (lambda: whitened_svd(WEIGHT[0], GRAM, 1), "weight must be a matrix"),
    (lambda: svd_components(WEIGHT[0]), "weight must be a matrix"),
    (lambda: truncated_svd(WEIGHT, 5), r"rank of a matrix \(4, 6\) must be a whole number from 1 to 4, found 5"),
    (lambda: truncated_svd(WEIGHT.T, 5), r"rank of a matrix \(6, 4\) must be a whole number from 1 to 4, found 5"),
    (lambda: factorized_parameters((6, 4), 5), r"rank of a matrix \(6, 4\) must be a whole number from 1 to 4"),
    (lambda: wanda_scores(WEIGHT, NORMS[:4]), r"feature_norms must have shape \(6,\)"),
    (lambda: wanda_mask(WEIGHT[0], NORMS, 0.5), "weight must be a matrix"),
    (lambda: sparsegpt(WEIGHT, WIDE, 0.5), r"hessian must have shape \(6, 6\)"),
    (lambda: sparsegpt(WEIGHT[0], GRAM, 0.5), "weight must be a matrix"),
    (lambda: damped_hessian(WIDE), "hessian must have shape"),
    (lambda: downdate_inverse(WIDE, 0), "inverse_hessian must have shape"),
    (lambda: minitron_heads(one_bad(QUERY)[1], OUTPUT), "query must be finite"),
    (lambda: minitron_heads(QUERY, one_bad(OUTPUT)[1]), "output must be finite"),
    (lambda: minitron_heads(QUERY[:10], OUTPUT), r"output must have shape \(5, 10\), found \(5, 12\)"),
]


def minitron_heads(query, output):
    return head_importance(query, output, head_dim=2, method="minitron", mixed=[QUERY.T])


@pytest.mark.parametrize(("call", "message"), NAMED, ids=[message for _, message in NAMED])
def test_messages_name_the_argument(call, message):
    with pytest.raises((DataError, ConfigError), match=f"^{message}"):
        call()


def test_nested_lists_are_arrays():
    weights, matrix = [[[1.0, -4.0], [2.0, 3.0]], [0.5]], np.array([[1.0, -4.0], [2.0, 3.0]])
    masks = global_magnitude_masks(weights, 0.4)
    assert [mask.tolist() for mask in masks] == [[[False, True], [True, True]], [False]]
    np.testing.assert_array_equal(magnitude_mask(matrix.tolist(), 0.5), [[False, True], [False, True]])
    np.testing.assert_array_equal(wanda_mask(matrix.tolist(), [1, 1], 0.5), [[False, True], [False, True]])
    for found, expected in zip(truncated_svd(matrix.tolist(), 1), truncated_svd(matrix, 1), strict=True):
        np.testing.assert_array_equal(found, expected)
    heads = [
        head_importance(QUERY, OUTPUT, head_dim=2, method="minitron", mixed=[x]) for x in (QUERY.T, QUERY.T.tolist())
    ]
    np.testing.assert_array_equal(*heads)
    masked = MaskedLinear.from_linear(Linear(matrix), [[True, False], [True, True]])
    np.testing.assert_array_equal(masked.dense_weight(), [[1.0, 0.0], [2.0, 3.0]])
    assert most_important([3, 1, 2], 2).tolist() == [0, 2]
    assert slice_channels(matrix, (1,), [1]).tolist() == [[-4.0], [3.0]]


@pytest.mark.parametrize("keep", [[0, 1], [2, 3], [0], [0, 1, 2, 3, 4], [0, 1, 2, 4, 5]])
def test_every_group_keeps_the_same_number_of_query_heads(keep):
    """Also a group that keeps none, be it the first or the last."""
    slice_heads(QUERY, OUTPUT, [1, 2, 4], groups=3, head_dim=2)
    with pytest.raises(ConfigError, match="every key/value head must keep the same number of query heads"):
        slice_heads(QUERY, OUTPUT, keep, groups=3, head_dim=2)
