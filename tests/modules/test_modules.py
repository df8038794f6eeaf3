"""The modules of a transformer: each computes its formula from its arrays, also after arrays were replaced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.strategies import generators, seeds
from tinyslm import ops
from tinyslm.modules import (
    Attention,
    Block,
    Context,
    CrossAttention,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    MixtureOfExperts,
    ParallelBlock,
    RMSNorm,
    SelectiveObserver,
)
from tinyslm.tree import Module

C, D, F = 6, 4, 9


def linear(rng, outputs, inputs, bias=False):
    return Linear(rng.standard_normal((outputs, inputs)), rng.standard_normal(outputs) if bias else None)


def attention(rng, H=4, G=2, **options):
    return Attention(
        linear(rng, H * D, C), linear(rng, G * D, C), linear(rng, G * D, C), linear(rng, C, H * D), D, 0.5, **options
    )


def test_linear_knows_its_size_and_its_cost():
    layer = linear(np.random.default_rng(0), 5, 3)
    assert (layer.out_features, layer.in_features, layer.multiply_adds()) == (5, 3, 15)
    assert layer.dense_weight() is layer.weight


@given(generators(), st.booleans())
def test_feed_forward(rng, gated):
    x = rng.standard_normal((2, 3, C))
    layer = FeedForward(linear(rng, F, C), linear(rng, C, F), linear(rng, F, C) if gated else None, "gelu")
    up = x @ layer.up.weight.T
    if gated:
        gate = x @ layer.gate.weight.T
        hidden = gate * special.ndtr(gate) * up
    else:
        hidden = up * special.ndtr(up)
    np.testing.assert_allclose(layer(x), hidden @ layer.down.weight.T, atol=1e-10)


@given(generators(), st.booleans())
def test_a_neuron_with_nothing_going_out_can_be_cut_out(rng, gated):
    """Row i of up and gate and column i of down are one neuron: sizes follow from the arrays, not from a config."""
    x = rng.standard_normal((3, C))
    layer = FeedForward(linear(rng, F, C), linear(rng, C, F), linear(rng, F, C) if gated else None)
    layer.down.weight[:, 4] = 0
    kept = np.delete(np.arange(F), 4)
    cut = FeedForward(
        Linear(layer.up.weight[kept]),
        Linear(layer.down.weight[:, kept]),
        Linear(layer.gate.weight[kept]) if gated else None,
    )
    np.testing.assert_allclose(cut(x), layer(x), atol=1e-12)


@given(generators())
def test_an_attention_group_with_nothing_going_out_can_be_cut_out(rng):
    """H and G follow from the projections: cutting group 1 of 3 leaves the others as they were."""
    x, context = rng.standard_normal((2, 5, C)), Context(np.arange(5))
    layer = attention(rng, H=6, G=3, rope=ops.Rope(10.0, D))
    cut_heads, cut_group = np.arange(2 * D, 4 * D), np.arange(D, 2 * D)
    layer.output.weight[:, cut_heads] = 0
    cut = layer.replace(
        query=Linear(np.delete(layer.query.weight, cut_heads, axis=0)),
        key=Linear(np.delete(layer.key.weight, cut_group, axis=0)),
        value=Linear(np.delete(layer.value.weight, cut_group, axis=0)),
        output=Linear(np.delete(layer.output.weight, cut_heads, axis=1)),
    )
    np.testing.assert_allclose(cut(x, context), layer(x, context), atol=1e-12)


@given(generators())
def test_query_and_key_norms_come_before_the_rotation(rng):
    """Gemma 3 and Qwen 3 normalize each head, then rotate it, as the observed queries show."""
    x, seen = rng.standard_normal((1, 3, C)), {}
    context = Context(np.arange(3), observer=seen.__setitem__)
    norms = [RMSNorm(rng.standard_normal(D)) for _ in range(2)]
    rope = ops.Rope(10.0, D)
    layer = attention(rng, rope=rope, query_norm=norms[0], key_norm=norms[1])
    layer(x, context)
    cos, sin = ops.rotary_tables(rope, np.arange(3))
    query = norms[0]((x @ layer.query.weight.T).reshape(1, 3, 4, D))
    key = norms[1]((x @ layer.key.weight.T).reshape(1, 3, 2, D))
    np.testing.assert_allclose(seen["layers.0.attention.queries"], ops.rotary(query, cos=cos, sin=sin), atol=1e-12)
    np.testing.assert_allclose(seen["layers.0.attention.keys"], ops.rotary(key, cos=cos, sin=sin), atol=1e-12)


@given(generators())
def test_observed_probabilities_are_those_that_were_used(rng):
    x, seen = rng.standard_normal((1, 5, C)), {}
    context = Context(np.arange(5), observer=seen.__setitem__)
    layer = attention(rng, window=3, softcap=1.5)
    output = layer(x, context)
    probabilities, values = (seen[f"layers.0.attention.{name}"] for name in ("probabilities", "values"))
    mixed = np.einsum("bhts,bshd->bthd", probabilities, np.repeat(values, 2, axis=2))
    np.testing.assert_allclose(mixed.reshape(1, 5, -1) @ layer.output.weight.T, output, atol=1e-12)


@given(generators(), st.integers(1, 3), st.booleans())
def test_mixture_of_experts(rng, count, normalized):
    """Token by token: softmax over all experts, the largest few kept, and divided by their sum if normalized."""
    x = rng.standard_normal((2, 4, C))
    experts = [FeedForward(linear(rng, F, C), linear(rng, C, F), linear(rng, F, C)) for _ in range(3)]
    layer = MixtureOfExperts(linear(rng, 3, C), experts, count, normalized)
    expected = np.zeros_like(x)
    for b, t in np.ndindex(2, 4):
        p = special.softmax(layer.router.weight @ x[b, t])
        best = np.argsort(-p)[:count]
        for e in best:
            expected[b, t] += p[e] / (p[best].sum() if normalized else 1) * experts[e](x[b, t][None])[0]
    np.testing.assert_allclose(layer(x), expected, atol=1e-10)


@given(generators(), st.booleans())
def test_block(rng, sublayer_output_norm):
    """The input of each sublayer is the normalized residual stream. Its output is added to the residual stream."""
    x, context = rng.standard_normal((2, 3, C)), Context(np.arange(3))
    norms = [RMSNorm(rng.standard_normal(C)) for _ in range(4)]
    after = norms[2:] if sublayer_output_norm else [None, None]
    block = Block(
        norms[0],
        attention(rng),
        norms[1],
        FeedForward(linear(rng, F, C), linear(rng, C, F)),
        attention_output_norm=after[0],
        feed_forward_output_norm=after[1],
    )
    output = block.attention(norms[0](x), context)
    middle = x + (norms[2](output) if sublayer_output_norm else output)
    output = block.feed_forward(norms[1](middle))
    expected = middle + (norms[3](output) if sublayer_output_norm else output)
    np.testing.assert_array_equal(block(x, context), expected)


@given(generators())
def test_a_block_without_norms_of_its_inputs(rng):
    """Each sublayer reads the residual stream. Its normalized output times the multiplier is added."""
    x, context = rng.standard_normal((2, 3, C)), Context(np.arange(3))
    after = [RMSNorm(rng.standard_normal(C)) for _ in range(2)]
    feed_forward = FeedForward(linear(rng, F, C), linear(rng, C, F))
    block = Block(None, attention(rng), None, feed_forward, *after, residual_multiplier=0.25)
    middle = x + 0.25 * after[0](block.attention(x, context))
    np.testing.assert_array_equal(block(x, context), middle + 0.25 * after[1](feed_forward(middle)))


@given(generators(), st.booleans())
def test_parallel_block(rng, shared):
    """Both sublayers read the input of the block, through one norm or a norm each; what is added is observed."""
    x, seen = rng.standard_normal((2, 3, C)), {}
    norms = [LayerNorm(rng.standard_normal(C), rng.standard_normal(C)) for _ in range(2)]
    feed_forward = FeedForward(linear(rng, F, C), linear(rng, C, F))
    block = ParallelBlock(norms[0], attention(rng), None if shared else norms[1], feed_forward)
    output = block(x, Context(np.arange(3), observer=seen.__setitem__))
    attended = block.attention(norms[0](x), Context(np.arange(3)))
    fed_forward = feed_forward(norms[0 if shared else 1](x))
    np.testing.assert_array_equal(output, x + attended + fed_forward)
    np.testing.assert_array_equal(seen["layers.0.attention.output"], attended)
    np.testing.assert_array_equal(seen["layers.0.feed_forward.output"], fed_forward)


@given(generators())
def test_joint_norms_cover_all_heads(rng):
    x, seen = rng.standard_normal((2, 3, C)), {}
    layer = attention(rng)
    norms = {"query_norm": RMSNorm(rng.standard_normal(4 * D)), "key_norm": RMSNorm(rng.standard_normal(2 * D))}
    layer.replace(**norms, joint_norms=True)(x, Context(np.arange(3), observer=seen.__setitem__))
    for name in ("query", "key"):
        expected = norms[f"{name}_norm"](getattr(layer, name)(x)).reshape(2, 3, -1, D)
        found = seen["layers.0.attention." + {"query": "queries", "key": "keys"}[name]]
        np.testing.assert_array_equal(found, expected)


def test_embedding_as_head():
    """Tied: the logit of a token is the inner product with its vector."""
    table = Embedding(np.random.default_rng(0).standard_normal((5, C)))
    x = table(np.array([[1, 3]]))
    np.testing.assert_allclose(table.as_head(x), np.einsum("btc,vc->btv", x, table.table), atol=1e-12)


@pytest.mark.parametrize(("norm", "operation"), [(RMSNorm, ops.rms_norm), (LayerNorm, ops.layer_norm)])
def test_norms_pass_on_their_settings(norm, operation):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, C)), rng.standard_normal(C)
    np.testing.assert_array_equal(norm(weight, eps=0.3)(x), operation(x, weight, eps=0.3))


@given(seeds)
def test_anything_called_like_a_linear_can_stand_in(seed):
    """Projections are called and their weights are not read, so a layer of another class can replace them."""

    class Factored(Module):
        left: np.ndarray
        right: np.ndarray

        def __call__(self, x):
            return ops.linear(ops.linear(x, self.right), self.left)

    rng = np.random.default_rng(seed)
    x, context = rng.standard_normal((1, 4, C)), Context(np.arange(4))
    layer = attention(rng)
    left, right = rng.standard_normal((4 * D, 2)), rng.standard_normal((2, C))
    factored = layer.replace(query=Factored(left, right))
    product = layer.replace(query=Linear(left @ right))
    np.testing.assert_allclose(factored(x, context), product(x, context), atol=1e-9)


def test_rotary_tables_are_computed_once_per_pass():
    context, rope = Context(np.arange(4)), ops.Rope(10.0, D)
    assert context.rotary_tables(rope) is context.rotary_tables(ops.Rope(10.0, D))
    assert context.rotary_tables(ops.Rope(20.0, D)) is not context.rotary_tables(rope)


def test_a_selective_observer_receives_the_named_intermediates_only(monkeypatch):
    """And what nobody observes is not computed."""
    computed, seen = [], []
    monkeypatch.setattr(ops, "attention_probabilities", lambda *inputs, **settings: computed.append(1))
    names = {"decoder.layers.2.attention.probabilities", "decoder.layers.2.attention.keys", "decoder.hidden_states.2"}
    observer = SelectiveObserver(names, lambda name, value: seen.append(name))
    layer, x = attention(np.random.default_rng(0)), np.random.default_rng(1).standard_normal((1, 3, C))
    for number in (1, 2):
        context = Context(np.arange(3), observer=observer, stack="decoder.", layer=number)
        context.observe_hidden_state(number, x)
        layer(x, context)
        assert context.observes("attention.keys") is (number == 2)
        assert len(computed) == number - 1
    names = ["decoder.hidden_states.2", "decoder.layers.2.attention.keys", "decoder.layers.2.attention.probabilities"]
    assert seen == names
    layer(x, Context(np.arange(3)))
    assert len(computed) == 1
    assert not Context(np.arange(3)).observes("attention.keys")


@given(generators(), st.booleans())
def test_the_sizes_of_a_layer_by_hand(rng, bias):
    """Zeros of the weight and of the bias are parameters. In float64, each number has 64 bits."""
    layer = linear(rng, 5, 3, bias)
    layer.weight[[0, 1, 4], [2, 1, 2]] = 0
    if bias:
        layer.bias[1] = 0
    size = 20 if bias else 15
    found = layer.num_parameters(), layer.num_non_zeros(), layer.num_bits(), layer.num_bytes()
    assert found == (size, size - 3 - bias, 64 * size, 8 * size)
    assert {type(number) for number in found} == {int}
    table = Embedding(layer.weight)
    assert (table.num_parameters(), table.num_non_zeros(), table.shapes()) == (15, 12, [(5, 3)])


def test_every_intermediate_of_a_block_is_observed_in_the_order_of_computation():
    """With cross attention and experts. The values are those that are used."""
    rng, seen = np.random.default_rng(0), {}
    norms = [RMSNorm(rng.standard_normal(C)) for _ in range(3)]
    experts = [FeedForward(linear(rng, F, C), linear(rng, C, F)) for _ in range(2)]
    cross = CrossAttention(*(linear(rng, *sizes) for sizes in ((8, C), (8, C), (8, C), (C, 8))), D, 0.5)
    block = Block(
        norms[0],
        attention(rng),
        norms[1],
        MixtureOfExperts(linear(rng, 2, C), experts, 1),
        cross_attention_norm=norms[2],
        cross_attention=cross,
    )
    x, source = rng.standard_normal((1, 3, C)), rng.standard_normal((1, 5, C))
    output = block(x, Context(np.arange(3), source=source, observer=seen.__setitem__))
    parts = ("queries", "keys", "values", "probabilities", "mixed", "output")
    assert [name.removeprefix("layers.0.") for name in seen] == [
        *(f"attention.{name}" for name in ("input", *parts)),
        *(f"cross_attention.{name}" for name in ("input", "source", *parts)),
        "feed_forward.input",
        "feed_forward.router_logits",
        *(f"feed_forward.experts.{e}.{name}" for e in (0, 1) for name in ("input", "neurons")),
        "feed_forward.output",
    ]
    seen = {name.removeprefix("layers.0."): value for name, value in seen.items()}
    outputs = [seen[f"{part}.output"] for part in ("attention", "cross_attention", "feed_forward")]
    np.testing.assert_allclose(x + sum(outputs), output, atol=1e-12)
    np.testing.assert_array_equal(seen["attention.input"], norms[0](x))
    np.testing.assert_array_equal(seen["cross_attention.input"], norms[2](x + outputs[0]))
    np.testing.assert_array_equal(seen["feed_forward.input"], norms[1](x + outputs[0] + outputs[1]))
    assert seen["cross_attention.source"] is source
    for part, H, S in (("attention", 4, 3), ("cross_attention", 2, 5)):
        assert seen[f"{part}.queries"].shape == (1, 3, H, D) and seen[f"{part}.values"].shape == (1, S, 2, D)
        assert seen[f"{part}.probabilities"].shape == (1, H, 3, S) and seen[f"{part}.mixed"].shape == (1, 3, H * D)
