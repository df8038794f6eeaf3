"""A few models side by side, in a few lines of text: what each costs, and its loss with the floor."""

from tinyslm.evaluation import footprint, measure_loss
from tinyslm.reporting import units

COLUMNS = {  # header: width
    "parameters": 11,
    "non-zeros": 11,
    "memory": 7,
    "multiply-adds": 13,
    "nats per token": 14,
    "over floor": 10,
}


def summary(models, corpus) -> str:
    """One line per model: parameters, those that are not zero, bytes in memory, multiply-adds per token, the loss on
    the corpus' validation documents, and how far above the floor that is.

    models: {name: model};  corpus: `town_corpus` or one of the user's own text, whose floor is not known. The losses'
    standard errors are those of a mean over documents; all models meet the same ones.
    """
    width = max([5, *map(len, models)])
    lines = [" " * width + "".join(f"  {name:>{columns}}" for name, columns in COLUMNS.items())]
    for name, model in models.items():
        size, loss = footprint(model), measure_loss(model, corpus.validation)
        excess = "" if corpus.floor is None else f"{loss.nats / corpus.floor.nats - 1:+.1%}"
        cells = (
            f"{size.parameters:,}",
            f"{size.non_zeros:,}",
            units.size(size.bytes),
            f"{size.multiply_adds:,}",
            f"{loss.nats:.3f} ± {loss.standard_error:.3f}",
            excess,
        )
        padded = (f"  {cell:>{columns}}" for cell, columns in zip(cells, COLUMNS.values(), strict=True))
        lines.append(f"{name:{width}}" + "".join(padded))
    if corpus.floor is not None:
        lines.append(f"floor, the entropy of the text: {corpus.floor.nats:.3f} nats per token")
    return "\n".join(lines)
