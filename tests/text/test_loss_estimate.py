"""A mean loss and its standard error: against the formula, against the bootstrap, and in easy cases."""

import numpy as np
import pytest

from tinyslm.text.loss_estimate import estimate_loss


def drawn(rng, documents):
    """Total nats and token counts of documents whose losses differ and depend on their lengths."""
    tokens = rng.integers(5, 60, documents)
    return tokens * (1 + 0.3 * rng.standard_normal(documents)) + 4, tokens


def test_the_mean_is_over_tokens_not_over_documents():
    result = estimate_loss([10.0, 2.0], [2, 8])
    assert (result.nats, result.tokens) == (1.2, 10)
    assert result.perplexity == pytest.approx(np.exp(1.2))


def test_the_standard_error_is_that_of_a_ratio():
    """Cochran's formula written out: sum of (y - R x)^2 / (n - 1), over n, over the mean of x squared."""
    totals, tokens = drawn(np.random.default_rng(0), 30)
    ratio = sum(totals) / sum(tokens)
    variance = sum((y - ratio * x) ** 2 for y, x in zip(totals, tokens, strict=True)) / 29 / 30
    assert estimate_loss(totals, tokens).standard_error == pytest.approx(np.sqrt(variance) / np.mean(tokens))


def test_the_standard_error_is_what_the_bootstrap_finds():
    rng = np.random.default_rng(1)
    totals, tokens = drawn(rng, 400)
    picks = rng.integers(0, 400, (4000, 400))  # 4000 corpora drawn from this one
    means = totals[picks].sum(axis=1) / tokens[picks].sum(axis=1)
    assert estimate_loss(totals, tokens).standard_error == pytest.approx(means.std(), rel=0.05)


def test_documents_of_equal_loss_per_token_leave_no_error():
    assert estimate_loss([3.0, 6.0, 9.0], [1, 2, 3]).standard_error == pytest.approx(0)


def test_one_document_says_nothing_about_the_error():
    assert estimate_loss([3.0], [2]).standard_error is None
