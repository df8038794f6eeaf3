"""Table of generated tokens and their log-probabilities."""

import numpy as np

from tinyslm.reporting.terminal_table import fitted, table_lines
from tinyslm.reporting.trace_report import piece


def format_token_table(tokens, log_probabilities, sampled_log_probabilities, tokenizer) -> list[str]:
    """Lines of the table, and of the sum below it. The arrays: (n,), as of `ScoredTokens`.

    The log-probabilities of the sampled distribution have a column if they differ from those of the model.
    """
    headings = ["token", "log-probability", "probability"]
    columns = [_numbers(log_probabilities), [f"{value:.2%}" for value in np.exp(log_probabilities)]]
    if not np.allclose(log_probabilities, sampled_log_probabilities, rtol=0, atol=1e-9):
        headings.append("when sampled")
        columns.append(_numbers(sampled_log_probabilities))
    names = [piece(tokenizer, int(token)) for token in tokens]
    rows = [headings, *map(list, zip(names, *columns, strict=True))]
    total = np.sum(log_probabilities)
    summary = f"sum {total:.4f} nats, mean {total / len(tokens):.4f} nats per token ({len(tokens)} tokens)"
    return [*table_lines(rows, right=range(1, len(headings))), fitted(summary)]


def _numbers(values):
    return [f"{value:.4f}" for value in np.round(values, 4) + 0.0]  # + 0.0: of -0.0
