"""Cases of `tinyslm.ops`."""

import numpy as np

from tests.numeric_policy.case import REFUSED, Case
from tinyslm import ops


def activations(rng):
    return {"x": rng.standard_normal((3, 5))}


def heads(rng, **more):
    """Queries of two heads that share a key head; every key is visible to the last query."""
    B, T, H, G, D = 1, 3, 2, 1, 4
    query, key, value = (rng.standard_normal((B, T, n, D)) for n in (H, G, G))
    return {"query": query, "key": key, "value": value, "scale": 0.5} | more


def attended(function):
    """Attention with positional arrays, as operations take them."""

    def call(query, key, value, position_bias=None, **settings):
        return function(query, key, value, position_bias, **settings)

    return call


def with_bias(rng):
    mask = np.array([[0, 1, 1]])
    return heads(rng, position_bias=rng.standard_normal((2, 3, 3)), softcap=3.0, attention_mask=mask)


def probabilities(query, key, value, **settings):
    return ops.attention_probabilities(query, key, **settings)


def experts(rng):
    return {
        "weights": rng.random((3, 2)),
        "outputs": [rng.standard_normal((3, 5)), rng.standard_normal((3, 5))],
        "rows": [np.arange(3), np.arange(3)],
        "slots": [np.array([0, 1, 0]), np.array([1, 0, 1])],
    }


CASES = {
    "silu": Case(ops.silu, activations),
    "gelu": Case(ops.gelu, activations),
    "gelu_tanh": Case(ops.gelu_tanh, activations),
    "relu": Case(ops.relu, activations),
    "tanh": Case(ops.tanh, activations),
    "softcap": Case(lambda x, cap: ops.softcap(x, cap=cap), lambda rng: activations(rng) | {"cap": 2.0}),
    "gated": Case(ops.gated, lambda rng: dict(zip(("gate", "up"), rng.standard_normal((2, 3, 5)), strict=True))),
    "linear": Case(
        ops.linear,
        lambda rng: {
            "x": rng.standard_normal((2, 3, 7)),
            "weight": rng.standard_normal((5, 7)),
            "bias": rng.standard_normal(5),
        },
    ),
    "embedding": Case(
        ops.embedding, lambda rng: {"token_ids": np.array([[0, 3, 1], [2, 3, 0]]), "table": rng.standard_normal((4, 5))}
    ),
    "rms_norm": Case(ops.rms_norm, lambda rng: activations(rng) | {"weight": rng.standard_normal(5)}),
    "layer_norm": Case(
        ops.layer_norm,
        lambda rng: activations(rng) | {"weight": rng.standard_normal(5), "bias": rng.standard_normal(5)},
    ),
    "attention": Case(attended(ops.attention), heads),
    "attention, bias": Case(attended(ops.attention), with_bias),
    "chunked_attention": Case(attended(ops.chunked_attention), heads),
    "chunked_attention, bias": Case(attended(ops.chunked_attention), with_bias),
    "attention_probabilities": Case(probabilities, lambda rng: heads(rng) | {"value": None}),
    "log_softmax": Case(ops.log_softmax, lambda rng: {"logits": rng.standard_normal((3, 5))}),
    "cross_entropy": Case(
        ops.cross_entropy,
        lambda rng: {"logits": rng.standard_normal((3, 5)), "labels": np.array([4, ops.IGNORED, 0])},
    ),
    "rotary": Case(
        lambda x, cos, sin: ops.rotary(x, cos=cos, sin=sin),
        lambda rng: {
            "x": rng.standard_normal((2, 3, 5, 8)),
            "cos": rng.standard_normal((3, 4)),
            "sin": rng.standard_normal((3, 4)),
        },
        bound_sizes=frozenset({8}),
    ),
    "rotary_tables": Case(
        lambda positions: ops.rotary_tables(ops.Rope(theta=100.0, dimension=4), positions),
        lambda rng: {"positions": rng.integers(0, 9, 3)},
        result=np.float32,
    ),
    "query_scales": Case(
        lambda positions: ops.query_scales(
            ops.Rope(theta=100.0, dimension=4, original_length=2, query_scale_beta=0.1), positions
        ),
        lambda rng: {"positions": rng.integers(0, 9, 3)},
        result=np.float32,
    ),
    "relative_position_buckets": Case(
        ops.relative_position_buckets,
        lambda rng: {
            "distance": rng.integers(-40, 40, (3, 5)),
            "buckets": 8,
            "max_distance": 16,
            "bidirectional": True,
        },
    ),
    "relative_position_bias": Case(
        ops.relative_position_bias,
        lambda rng: {"buckets": np.array([[0, 1, 3], [2, 1, 0]]), "table": rng.standard_normal((4, 5))},
    ),
    "choose_experts": Case(
        ops.choose_experts, lambda rng: {"router_logits": rng.standard_normal((3, 5)), "count": 2}, special=REFUSED
    ),
    "routing_weights": Case(
        lambda router_logits, chosen: ops.routing_weights(router_logits, chosen=chosen),
        lambda rng: {"router_logits": rng.standard_normal((3, 5)), "chosen": np.array([[0, 4], [1, 2], [3, 1]])},
        bound_sizes=frozenset({5}),
    ),
    "routing_probabilities": Case(
        lambda router_logits, chosen: ops.routing_probabilities(router_logits, chosen=chosen),
        lambda rng: {"router_logits": rng.standard_normal((3, 5)), "chosen": np.array([[0, 4], [1, 2], [3, 1]])},
        bound_sizes=frozenset({5}),
    ),
    "take_rows": Case(
        lambda x, rows: ops.take_rows(x, rows=rows),
        lambda rng: activations(rng) | {"rows": np.array([2, 0])},
        bound_sizes=frozenset({3}),
    ),
    "combine_experts": Case(
        lambda weights, outputs, rows, slots: ops.combine_experts(weights, *outputs, rows=rows, slots=slots),
        experts,
        bound_sizes=frozenset({2}),
    ),
}
