"""Inference engine: the logits of the model's own pass, for configurations, caches, padding and compressed layers."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes.models import tiny_calibration, tiny_model
from tests.recipes.steps import WITHOUT_TRAINING
from tests.strategies import (
    decoder_configs,
    encoder_configs,
    encoder_decoder_configs,
    generic_model,
    ropes,
    seeds,
)
from tinyslm.compression.factorization import LowRankLinear
from tinyslm.compression.quantization import FakeQuantizedLinear
from tinyslm.errors import ConfigError, DataError, NumericOverflow
from tinyslm.generation import KeyValueCache, engine_preparation, generate, prepare, reason_against
from tinyslm.generation.decoding_state import DecoderState
from tinyslm.generation.engine_layers import FusedFactors, FusedLinear, SeparateLayers
from tinyslm.models import DecoderConfig
from tinyslm.modules import Linear, LinearLayer, RelativePositions
from tinyslm.ops import Rope
from tinyslm.recipes import Quantize, QuantizeGPTQ, SliceHeads, compress
from tinyslm.tree import map_modules, named_arrays, named_modules

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, max_position_embeddings=20, ropes=(Rope(100.0, 6),) * 2)
PROMPT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def own_passes(model, token_ids, cache):
    """Logits of the model's own pass over one token after the other: (B, T, V)."""
    return np.concatenate([model(token_ids[:, t : t + 1], cache=cache) for t in range(token_ids.shape[1])], axis=1)


def steps(engine, token_ids):
    """Logits of an engine that reads one token after the other: (B, T, V)."""
    return np.stack([engine.step(tokens) for tokens in token_ids.T], axis=1)


def assert_close(found, wanted):
    """Relative to the largest logit. The last bit of cos and sin (float32) may differ between long and short arrays."""
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * max(1.0, np.abs(wanted).max()))


@st.composite
def with_dynamic_rope(draw):
    """A configuration in which some layers have dynamic rotary positions."""
    config = draw(decoder_configs(head_dim=6))
    kinds = ("dynamic", "longrope", "linear")
    return replace(config, ropes=tuple(draw(ropes(6, scalings=kinds)) for _ in config.ropes))


@given(
    st.one_of(decoder_configs(), decoder_configs(activation="relu"), with_dynamic_rope()),
    seeds,
    st.sampled_from([1, 3]),
)
def test_logits_equal_the_own_pass_from_the_first_token(config, seed, rows):
    """Up to the twelfth: windows are left behind, and longrope and dynamic rope change at 8."""
    model = generic_model(config, seed)
    token_ids = np.random.default_rng(seed).integers(0, config.vocab_size, (rows, 12))
    engine = prepare(model)
    assert_close(steps(engine, token_ids), own_passes(model, token_ids, KeyValueCache(12)))
    assert engine.cache.length == 12


@given(decoder_configs(), seeds, st.integers(1, 3))
def test_it_continues_a_cache_with_left_padding(config, seed, rows):
    """The prompt is read by the model, and both continue it, each with a copy of the cache."""
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    prompt, new = rng.integers(0, config.vocab_size, (rows, 5)), rng.integers(0, config.vocab_size, (rows, 3))
    mask = np.ones((rows, 8), int)
    mask[:, :5] = np.arange(5) >= rng.integers(0, 5, (rows, 1))
    cache = KeyValueCache(8)
    model(prompt, mask[:, :5], cache=cache)
    engine = prepare(model).continuing(cache.repeat(1), mask)
    wanted = [model(new[:, t : t + 1], mask[:, : 6 + t], cache=cache) for t in range(3)]
    assert_close(steps(engine, new), np.concatenate(wanted, axis=1))


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
@pytest.mark.parametrize("experts", [0, 3])
def test_compressed_models(name, experts):
    """With the layers as they are, and with copies of their weights in floating point."""
    model = tiny_model(experts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small, _ = compress(model, WITHOUT_TRAINING[name], tiny_calibration(model))
    token_ids = np.random.default_rng(0).integers(0, 31, (2, 6))
    wanted = own_passes(small, token_ids, KeyValueCache(6))
    for upcast in (False, True):
        found = steps(prepare(small, upcast=upcast), token_ids)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4 * np.abs(wanted).max())


def test_fake_quantized_and_masked_layers_are_fused():
    model = generic_model(CONFIG)
    trained = map_modules(lambda _, layer: FakeQuantizedLinear.from_linear(layer, bits=3), model, Linear)
    token_ids = np.append(PROMPT, PROMPT, axis=1)
    engine = prepare(trained)
    assert isinstance(engine.blocks[0].attention.project, FusedLinear)
    assert_close(steps(engine, token_ids), own_passes(trained, token_ids, KeyValueCache(10)))


@given(seeds, st.booleans(), st.sampled_from([1, 3]))
def test_low_rank_layers_are_fused_by_their_factors(seed, mixed, rows):
    """With biases, gains and biases of norms. mixed: the keys are dense, queries and values of low rank."""
    config = replace(CONFIG, norm="layer", attention_bias=True, feed_forward_bias=True, query_key_norm=True)
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    sizes = iter(range(2, 99))

    def factorize(path, layer):
        rank = next(sizes) % 4 + 1
        left, right = rng.standard_normal((layer.out_features, rank)), rng.standard_normal((rank, layer.in_features))
        return layer if mixed and path.endswith("key") else LowRankLinear(left, right / 4, layer.bias)

    small = model.replace(layers=map_modules(factorize, model.layers, Linear))
    token_ids, engine = rng.integers(0, 23, (rows, 7)), prepare(small)
    assert_close(steps(engine, token_ids), own_passes(small, token_ids, KeyValueCache(7)))
    assert isinstance(engine.blocks[0].feed_forward.project, FusedFactors)
    assert isinstance(engine.blocks[0].attention.project, SeparateLayers if mixed else FusedFactors)


@pytest.mark.parametrize("dynamic", [False, True])
def test_upcast_copies_weights_but_never_the_layers_that_round_their_inputs(dynamic):
    small = Quantize(dynamic_activations=dynamic)(generic_model(CONFIG, dtype=np.float32))
    plain, upcast = prepare(small), prepare(small, upcast=True)
    dense = 4 * sum(
        layer.out_features * layer.in_features for layer in named_modules(small.layers, LinearLayer).values()
    )
    table = 4 * 23 * 10  # the tied head, with the gain of the final norm
    assert plain.num_bytes() == 0
    assert upcast.num_bytes() == table + (0 if dynamic else dense)


def test_copies_are_counted_and_a_large_model_is_not_copied(monkeypatch):
    """Only what the engine has beside the model: without bias or gain to fold, a matrix is not copied."""
    model = generic_model(CONFIG)
    query, key, value, gate, up, table = 24 * 10, 12 * 10, 12 * 10, 14 * 10, 14 * 10, 23 * 10
    assert prepare(model).num_bytes() == 8 * (2 * (query + key + value + gate + up) + table)
    monkeypatch.setattr(engine_preparation, "COPIED_BYTES", 100)
    engine = prepare(model)
    assert engine.num_bytes() == 0
    token_ids = np.append(PROMPT, PROMPT, axis=1)
    assert_close(steps(engine, token_ids), own_passes(model, token_ids, KeyValueCache(10)))


def test_an_engine_has_exact_keys():
    with pytest.raises(ConfigError, match="an engine reads exact keys and values"):
        generate(prepare(generic_model(CONFIG)), PROMPT, 3, cache="int8")


def test_one_token_as_an_integer_gives_one_row():
    model, engine = generic_model(CONFIG), prepare(generic_model(CONFIG))
    found = [engine.step(token) for token in (3, 1, 4)]
    assert found[0].shape == (23,)
    assert_close(np.stack(found), model([[3, 1, 4]])[0])


def test_engines_share_weights_but_not_the_text():
    engine = prepare(generic_model(CONFIG))
    other = engine.continuing(KeyValueCache(4))
    first = engine.step([3])
    engine.step([1])
    np.testing.assert_array_equal(other.step([3]), first)
    assert (engine.cache.length, other.cache.length) == (2, 1)
    assert other.blocks is engine.blocks


def test_a_changed_model_needs_a_new_engine():
    """An engine has copies. `generate` prepares a new one at each call."""
    model = generic_model(CONFIG)
    before, engine = generate(model, PROMPT, 9), prepare(model)
    np.testing.assert_array_equal(generate(engine, PROMPT, 9), before)
    for array in named_arrays(model.layers).values():
        array *= -1.5
    changed = generate(model, PROMPT, 9)
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(changed, generate(prepare(model), PROMPT, 9))


def test_generation_uses_an_engine_if_there_is_one(monkeypatch):
    made = []
    monkeypatch.setattr(
        "tinyslm.generation.decoding_state.prepare", lambda *args, **kw: made.append(args) or prepare(*args, **kw)
    )
    model = generic_model(CONFIG)
    expected = generate(model, PROMPT, 4)
    assert len(made) == 1
    np.testing.assert_array_equal(generate(prepare(model), PROMPT, 4), expected)  # the given one
    generate(model, PROMPT, 1)  # the prompt only
    generate(model, PROMPT, 4, cache="int8")
    assert len(made) == 1


def test_the_reason_against_an_engine():
    model = generic_model(CONFIG)
    assert reason_against(model) is None
    strange = model.replace(layers=[*model.layers, RelativePositions(np.zeros((2, 2)), 4, True)])
    assert reason_against(strange) == "layers.2 is of class RelativePositions, which an engine does not know"
    with pytest.raises(ConfigError, match=r"this model has no engine: layers\.2 is of class RelativePositions"):
        prepare(strange)


@given(st.one_of(encoder_configs(), encoder_decoder_configs()))
def test_other_models_have_no_engine(config):
    with pytest.raises(ConfigError, match="is not a decoder"):
        prepare(generic_model(config))


def test_wrong_uses():
    engine = prepare(generic_model(CONFIG), capacity=2)
    for tokens in (1.0, [1.5], [], [[1]], ["a"], None):
        with pytest.raises(DataError, match=r"tokens are .*, expected one integer per sequence"):
            engine.step(tokens)
    for capacity in (0, -1, CONFIG.max_position_embeddings + 1):
        with pytest.raises(ConfigError, match=f"capacity is {capacity}, expected at least 1 token"):
            prepare(generic_model(CONFIG), capacity=capacity)
    for tokens in (23, -1, [0, -1], [0, 23]):
        with pytest.raises(DataError, match="token ids must be 0 to 22, found"):
            engine.step(tokens)
    engine.step([3, 4]), engine.step([3, 4])
    with pytest.raises(DataError, match="found 1 tokens, expected one for each of the 2 sequences"):
        engine.step(3)
    with pytest.raises(DataError, match="a sequence of 3 tokens does not fit in a cache made for 2"):
        engine.step([3, 4])
    assert prepare(generic_model(CONFIG)).cache.capacity == CONFIG.max_position_embeddings
    assert prepare(generic_model(replace(CONFIG, max_position_embeddings=9999))).cache.capacity == 4096


def test_large_scores_do_not_overflow():
    """Of 1,000 and more: exp(1000) is infinite, and exp(-1000) is 0."""
    model = generic_model(replace(CONFIG, attention_scale=400.0))
    token_ids = np.random.default_rng(0).integers(0, 23, (3, 9))
    assert_close(steps(prepare(model), token_ids), own_passes(model, token_ids, KeyValueCache(9)))


@pytest.mark.parametrize("rows", [1, 2])
def test_an_overflow_is_not_a_zero(rows):
    """The mean square of a hidden state is infinite: every logit would be 0, or the bias."""
    model = generic_model(CONFIG, dtype=np.float32)
    model.embedding.table[3] = 1e30
    with pytest.raises(NumericOverflow, match="overflows float32"):
        prepare(model).step([3] * rows)


def test_weights_with_nan_are_named():
    model = generic_model(CONFIG)
    engine = prepare(model)
    engine.blocks[1].feed_forward.down.weight[0, 0] = np.nan  # as of a damaged layer
    model.layers[1].feed_forward.down.weight[0, 0] = np.nan
    with pytest.raises(DataError, match=r"nan or infinity"):
        generate(engine, PROMPT, 3)


def test_the_padding_of_a_prompt_changes_nothing_in_generation():
    model = generic_model(replace(CONFIG, windows=(4, None)))
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    found = generate(model, PROMPT, 6, attention_mask=mask)
    np.testing.assert_array_equal(found[0], generate(model, PROMPT[:1, 2:], 6)[0])
    np.testing.assert_array_equal(found[1], generate(model, PROMPT[1:], 6)[0])


def test_sliced_and_quantized_together():
    """Heads of other sizes, in groups of a packed format, next to dense layers."""
    model = tiny_model()
    small, _ = compress(model, [SliceHeads(0.5), QuantizeGPTQ(bits=4, group_size=4)], tiny_calibration(model))
    token_ids = np.random.default_rng(1).integers(0, 31, (1, 9))
    wanted = own_passes(small, token_ids, KeyValueCache(9))
    np.testing.assert_allclose(steps(prepare(small), token_ids), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_state_binds_its_engine_once_per_cache():
    state = DecoderState(generic_model(CONFIG), PROMPT, 5)
    state.next_logits()
    for _ in range(3):
        state.read(np.array([1, 2]))
        state.next_logits()
    first = state.reading_engine
    assert first.cache is state.cache and first.cache.length == state.length == 8
