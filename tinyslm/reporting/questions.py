"""Answers to what people ask when they see the numbers, from the numbers."""

from tinyslm.reporting import units
from tinyslm.reporting.findings import is_within_error, listed, loss_change, quoted, share, speed_change, times
from tinyslm.reporting.techniques import setting, techniques, was_trained


def answers(results) -> list[tuple[str, str]]:
    """(question, answer) for those questions that the rows of this run raise."""
    rows = results["rows"]
    asked = [_zeros, _few_bits, _integer_products, _two_matrices, _fewer_operations, _lower_than_dense, _errors]
    pairs = [ask(rows[0], rows[1:]) for ask in asked]
    return [pair for pair in pairs if pair]


def _zeros(dense, rows):
    row = next((row for row in rows if techniques(row) == ["pruned"]), None)
    if row is None or row["memory_bytes"] < 0.95 * dense["memory_bytes"]:
        return None
    return (
        f"Why does {quoted(row)} save neither memory nor multiplications?",
        f"{units.percent(1 - row['non_zeros'] / row['parameters'])} of its numbers are zero, but in memory a zero "
        f"takes as much room as any number: {units.size(row['memory_bytes'])} against "
        f"{units.size(dense['memory_bytes'])}. And a dense matrix product multiplies by the zeros too: "
        f"{units.scaled(row['multiply_adds'])} multiply-adds a token against {units.scaled(dense['multiply_adds'])}. "
        f"Measured, generation is {_compared_speed(row, dense)}.",
    )


def _few_bits(dense, rows):
    rows = [row for row in rows if techniques(row) == ["quantized"] and not setting(row, "dynamic_activations")]
    rows = [row for row in rows if _gain(row, dense) < 0.9 * dense["memory_bytes"] / row["memory_bytes"]]
    if not rows:
        return None
    row = rows[0]
    return (
        f"Why does {quoted(row)} not gain in speed what it gains in size?",
        f"It takes {share(row['memory_bytes'], dense['memory_bytes'])} of the dense model's memory, because a weight "
        f"takes {_bits(row)} bits in place of 32. But before every product they are widened to floating point, "
        "and then it is the same product as before. That pays only where reading the weights from memory is what takes "
        "the time. "
        f"Measured, generation is {_compared_speed(row, dense)}.",
    )


def _bits(row):
    four = any(step["step"] == "QuantizeFormat" for step in row["steps"])
    return 4 if four else setting(row, "bits") or 8


def _integer_products(dense, rows):
    row = next((row for row in rows if setting(row, "dynamic_activations")), None)
    if row is None or any(row[key]["low"] > dense[key]["high"] for key in ("prompt_speed", "generation_speed")):
        return None
    return (
        f"Why is {quoted(row)} not faster, when it multiplies integers?",
        "NumPy has fast matrix products (a BLAS library) for floating point only. The integers are therefore "
        "multiplied as floating-point numbers, in blocks short enough that every sum is exact, and rounding the inputs "
        "is work on top. "
        f"Measured, reading a prompt is {_compared_speed(row, dense, 'prompt_speed')}, and generation is "
        f"{_compared_speed(row, dense)}.",
    )


def _two_matrices(dense, rows):
    row = next((row for row in rows if "factorized" in techniques(row)), None)
    if row is None:
        return None
    return (
        f"Why has {quoted(row)} two matrices where the dense model has one?",
        "A matrix with m rows and n columns holds m·n numbers. The product of an m×r and an r×n matrix has the same "
        "shape, but the two hold only r·(m + n) numbers: fewer, if the rank r is below m·n / (m + n). The two are kept "
        "apart, since multiplied out they would be the large matrix again. Each layer then needs two small products "
        f"instead of one: {share(row['multiply_adds'], dense['multiply_adds'])} of the multiply-adds. "
        f"Measured, generation is {_compared_speed(row, dense)}.",
    )


def _fewer_operations(dense, rows):
    rows = [row for row in rows if row["multiply_adds"] < 0.95 * dense["multiply_adds"]]
    if not rows:
        return None
    row = min(rows, key=lambda row: _gain(row, dense) * row["multiply_adds"])
    operations = dense["multiply_adds"] / row["multiply_adds"]
    if _gain(row, dense) >= 0.9 * operations:
        return None
    return (
        "Why do fewer multiply-adds not give as much more speed?",
        f"{quoted(row)} does {share(row['multiply_adds'], dense['multiply_adds'])} of the dense model's multiply-adds; "
        f"if nothing else took time it would be {times(operations)} as fast. Measured, generation is "
        f"{_compared_speed(row, dense)}. The rest of the time goes into what surrounds the products: starting each "
        "operation, attention, norms, choosing a token.",
    )


def _lower_than_dense(dense, rows):
    lower = [row for row in rows if units.is_number(row["loss"]["nats"])]
    lower = [row for row in lower if row["loss"]["nats"] < dense["loss"]["nats"]]
    if not lower:
        return None
    text = f"The loss of {listed(lower)} is below the dense one; the lowest is "
    best = min(lower, key=lambda row: row["loss"]["nats"])
    text += f"{loss_change(best, dense)} it. "
    if is_within_error(best):
        text += "On these documents that may be chance. "
    if any(was_trained(row) for row in lower):
        text += "Those that were trained after compressing have had more training than the dense model."
    return "How can a smaller model have a lower loss than the dense one?", text.strip()


def _errors(dense, rows):
    return (
        "How sure are these numbers?",
        "Each loss is a mean over the test documents; with other documents of the same kind it would differ by about "
        f"its standard error (dense: {units.loss(dense['loss'])}). All models are tested on the same documents, so "
        "luck with the documents moves all losses alike, and differences between models are surer than the single "
        "numbers. Speeds belong to the computer of this run and vary with what else it was doing; sizes and counts "
        "are exact.",
    )


def _gain(row, dense):
    return row["generation_speed"]["median"] / dense["generation_speed"]["median"]


def _compared_speed(row, dense, key="generation_speed"):
    rates = f"({units.speed(row[key], spread=False)} against {units.speed(dense[key], spread=False)} tokens a second)"
    return f"{speed_change(row, dense, key)} with the dense model {rates}"
