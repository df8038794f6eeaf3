"""Settings by the size of a text: they grow with it, within limits."""

from hypothesis import given
from hypothesis import strategies as st

from tinyslm.models.tiny_shapes import TINY_SHAPES
from tinyslm.training.text_size import (
    FEWEST_PASSES,
    LARGEST_VOCABULARY,
    LEAST_VOCABULARY,
    MOST_PASSES,
    batch_for,
    micro_batch_for,
    rate_for,
    steps_for,
    vocabulary_for,
)

SIZES = st.integers(1, 10**9)


@given(SIZES, SIZES)
def test_the_vocabulary_grows_with_the_text(one, other):
    small, large = sorted((one, other))
    assert LEAST_VOCABULARY <= vocabulary_for(small) <= vocabulary_for(large) <= LARGEST_VOCABULARY


@given(st.integers(1, 10**5), st.integers(1, 255))
def test_a_longer_text_has_more_steps_and_more_tokens_per_step(rows, tokens_per_row):
    def amounts(rows):
        batch = batch_for(rows * tokens_per_row, rows)
        return batch, steps_for(rows * tokens_per_row, rows, batch) * batch

    (batch, seen), (larger_batch, more_seen) = amounts(rows), amounts(10 * rows)
    assert 1 <= batch <= larger_batch and 1 <= seen <= more_seen + batch


@given(st.integers(20, 10**5), st.integers(1, 255))
def test_the_passes_are_within_their_limits(rows, tokens_per_row):
    """Up to rounding to whole steps."""
    batch = batch_for(rows * tokens_per_row, rows)
    passes = steps_for(rows * tokens_per_row, rows, batch) * batch / rows
    assert FEWEST_PASSES - batch / rows <= passes <= MOST_PASSES + batch / rows


def test_long_texts_are_passed_over_twice_and_short_ones_six_times():
    assert steps_for(tokens=10**5, rows=1000, batch=10) == 600
    assert steps_for(tokens=10**6, rows=1000, batch=10) == 300
    assert steps_for(tokens=10**8, rows=1000, batch=10) == 200


def test_wider_models_have_lower_rates():
    rates = {name: rate_for(shape[0]) for name, shape in TINY_SHAPES.items()}
    assert rates == {"teacher": 2e-3, "small": 4e-3, "smallest": 4e-3}


@given(st.integers(1, 500), st.integers(1, 64), st.integers(2, 10**5), st.integers(2, 10**6))
def test_micro_batches_share_a_batch_among_threads_and_have_few_logits(batch, threads, context, vocab_size):
    rows = micro_batch_for(batch, threads, context, vocab_size)
    assert 1 <= rows <= 5
    assert rows == 1 or (rows * context * vocab_size <= 2**25 and (rows - 1) * threads < batch)
