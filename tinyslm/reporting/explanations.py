"""Explanations of surprising measurements, as questions and answers."""

from tinyslm.reporting.number_format import is_number, loss, percent, relative_size, scaled, size, speed
from tinyslm.reporting.plain_text import joined
from tinyslm.reporting.recipe_techniques import setting, techniques, was_trained
from tinyslm.reporting.result_sentences import is_significant, loss_change, quoted, speed_change


def explanations(results: dict) -> list[tuple[str, str]]:
    """(question, answer) of each case that occurs in the rows of this run."""
    dense, *rows = results["rows"]
    of_memory = [] if results.get("weights") == "mapped" else [_zeros, _weight_quantization]  # mapped weights need none
    cases = [*of_memory, _integer_products, _two_matrices, _lower_loss, _errors]
    pairs = [explain(dense, rows) for explain in cases]
    return [pair for pair in pairs if pair]


def _zeros(dense, rows):
    row = next((row for row in rows if techniques(row) == ["pruned"]), None)
    if row is None or row["memory_bytes"] < 0.95 * dense["memory_bytes"]:
        return None
    return (
        f"Why does {quoted(row)} save neither memory nor multiplications?",
        f"{percent(1 - row['non_zeros'] / row['parameters'])} of its weights are zero, but a dense array stores zeros "
        f"like all other numbers: {size(row['memory_bytes'])}, compared with {size(dense['memory_bytes'])}. A dense "
        f"matrix product also multiplies by the zeros: {scaled(row['multiply_adds'])} multiply-adds per token, "
        f"compared with {scaled(dense['multiply_adds'])}. {_measured(row, dense)}",
    )


def _weight_quantization(dense, rows):
    rows = [row for row in rows if techniques(row) == ["quantized"] and not setting(row, "dynamic_activations")]
    rows = [row for row in rows if _speedup(row, dense) < 0.9 * dense["memory_bytes"] / row["memory_bytes"]]
    if not rows:
        return None
    row = rows[0]
    bits = 4 if any(step["step"] == "QuantizeFormat" for step in row["steps"]) else setting(row, "bits") or 8
    return (
        f"Why is the speedup of {quoted(row)} smaller than its reduction in size?",
        f"It needs {relative_size(row['memory_bytes'], dense['memory_bytes'])} of the dense model's memory, because a "
        f"weight has {bits} bits instead of 32. Before every product the weights are dequantized to floating point, "
        "and the product itself is the same as before. This is faster only where reading the weights from memory is "
        f"the bottleneck. {_measured(row, dense)}",
    )


def _integer_products(dense, rows):
    row = next((row for row in rows if setting(row, "dynamic_activations")), None)
    if row is None or any(row[key]["low"] > dense[key]["high"] for key in ("prompt_speed", "generation_speed")):
        return None
    return (
        f"Why is {quoted(row)} not faster, although it multiplies integers?",
        "NumPy has fast matrix products (a BLAS library) only for floating-point numbers. The integers are therefore "
        "multiplied as floating-point numbers, in blocks short enough for exact sums. Quantizing the inputs takes "
        f"additional time. {_measured(row, dense, 'prompt_speed')} {_measured(row, dense)}",
    )


def _two_matrices(dense, rows):
    row = next((row for row in rows if "factorized" in techniques(row)), None)
    if row is None:
        return None
    return (
        f"Why has {quoted(row)} two matrices where the dense model has one?",
        "A matrix with m rows and n columns has m·n elements. The product of an m×r matrix and an r×n matrix has the "
        "same shape, but the two factors have only r·(m + n) elements, which is fewer if the rank r is below m·n / (m "
        "+ n). The factors stay separate; their product would have m·n elements again. Each layer computes two small "
        f"products instead of one: {relative_size(row['multiply_adds'], dense['multiply_adds'])} of the multiply-adds. "
        f"{_measured(row, dense)}",
    )


def _lower_loss(dense, rows):
    lower = [row for row in rows if is_number(row["loss"]["nats"]) and row["loss"]["nats"] < dense["loss"]["nats"]]
    if not lower:
        return None
    best = min(lower, key=lambda row: row["loss"]["nats"])
    text = f"Below the dense model's loss: {joined(map(quoted, lower))}. The lowest is {loss_change(best, dense)} it."
    if not is_significant(best):
        text += " On these documents the difference may be chance."
    if any(was_trained(row) for row in lower):
        text += " A model that was trained after compression has had more training than the dense model."
    return "How can a smaller model have a lower loss than the dense model?", text


def _errors(dense, rows):
    error = "an unknown amount" if dense["loss"]["standard_error"] is None else "about its standard error"
    return (
        "How accurate are these numbers?",
        "Each loss is a mean over the measured documents. On other documents of the same kind it would differ by "
        f"{error} (dense: {loss(dense['loss'])}). All models are measured on the same documents, so a "
        "difference between two models is more accurate than either loss. Speeds depend on this computer and on its "
        "other load. Sizes and counts are exact.",
    )


def _speedup(row, dense):
    return row["generation_speed"]["median"] / dense["generation_speed"]["median"]


def _measured(row, dense, key="generation_speed"):
    what = "generation" if key == "generation_speed" else "reading a prompt"
    rates = f"{speed(row[key], spread=False)} compared with {speed(dense[key], spread=False)} tokens/s"
    return f"Measured: {what} is {speed_change(row, dense, key)} with the dense model ({rates})."
