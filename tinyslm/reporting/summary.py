"""Size and loss of several models as a short table."""

from tinyslm.evaluation import footprint, measure_loss
from tinyslm.reporting.number_format import size, standard_error
from tinyslm.reporting.terminal_table import UNLIMITED, table_lines

HEADINGS = ("", "parameters", "non-zeros", "memory", "multiply-adds", "nats per token", "over floor")


def summary(models: dict, corpus) -> str:
    """One line per model: parameters, non-zero parameters, memory, multiply-adds per token, loss on the validation
    documents ± standard error, and its relative distance from the entropy of the text (the floor) where that is known.

    models: {name: model};  corpus: a result of `town_corpus` or `text_corpus`.
    """
    rows = [HEADINGS]
    for name, model in models.items():
        sizes, loss = footprint(model), measure_loss(model, corpus.validation)
        excess = "" if corpus.floor is None else f"{loss.nats / corpus.floor.nats - 1:+.1%}"
        counts = f"{sizes.parameters:,}", f"{sizes.non_zeros:,}", size(sizes.bytes), f"{sizes.multiply_adds:,}"
        rows.append((name, *counts, f"{loss.nats:.3f} ± {standard_error(loss.standard_error)}", excess))
    lines = table_lines(rows, range(1, len(HEADINGS)), UNLIMITED)
    if corpus.floor is not None:
        lines.append(f"floor, the entropy of the text: {corpus.floor.nats:.3f} nats per token")
    return "\n".join(lines)
