"""The main results of a run as sentences, computed from its measurements."""

from tinyslm.reporting import number_format
from tinyslm.reporting.number_format import is_number, percent, relative_size, times
from tinyslm.reporting.plain_text import joined, one_line, shorten

TOLERANCE = 0.05  # relative increase of the loss that counts as small
LONGEST_NAME = 60  # terminal columns, within a sentence


def result_sentences(results: dict) -> list[str]:
    """The main results as sentences, in order of importance. results: content of results.json."""
    rows = results["rows"]
    dense, compressed = rows[0], [row for row in rows[1:] if is_number(row["loss"]["nats"])]
    if not is_number(dense["loss"]["nats"]):
        return ["The dense model's loss is not a number, so no model can be compared with it."]
    sentences = [_dense_loss(dense, results["corpus"]["floor"])]
    if len(rows) == 1:
        return [*sentences, "This run measured only the dense model; nothing was compressed."]
    if compressed:
        sentences = [
            _smallest(dense, compressed),
            _fastest(dense, compressed),
            _same_loss(dense, compressed),
            *sentences,
        ]
        sentences += [_exam(dense, compressed), _weakest_subject(dense, compressed)]
    return [sentence for sentence in sentences if sentence]


def quoted(row) -> str:
    """The row's name in quotation marks."""
    return f"“{shorten(row['name'], LONGEST_NAME)}”"


def loss_change(row, dense) -> str:
    """A row's loss relative to the dense model's: "3.1 % above", "less than 0.1 % below" or "equal to"."""
    change = row["loss"]["nats"] / dense["loss"]["nats"] - 1
    if change == 0:
        return "equal to"
    amount = "less than 0.1 %" if abs(change) < 0.001 else percent(abs(change), digits=1)
    return f"{amount} {'above' if change > 0 else 'below'}"


def speed_change(row, dense, key="generation_speed") -> str:
    """A row's speed relative to the dense model's, for example "1.90 times as fast as".

    If the interquartile ranges overlap: "not measurably faster or slower than".
    """
    speed, reference = row[key], dense[key]
    if speed["low"] <= reference["high"] and reference["low"] <= speed["high"]:
        return "not measurably faster or slower than"
    return f"{times(speed['median'] / reference['median'])} as fast as"


def is_significant(row) -> bool:
    """Whether the loss differs significantly (95 %) from the dense model's on the same documents.

    False for a single document, because the standard error is unknown.
    """
    error = row["change"]["standard_error"]
    return error is not None and abs(row["change"]["nats"]) > 1.96 * error


def _dense_loss(dense, floor):
    bits = dense.get("bits_per_byte")
    per_byte = f", or {number_format.bits(bits)} bits per byte" if is_number(bits) else ""
    text = f"The dense model's loss is {number_format.loss(dense['loss'])} nats per token{per_byte}"
    if floor is None:
        return text + "."
    excess = dense["loss"]["nats"] / floor["nats"] - 1
    side = "above" if excess >= 0 else "below"
    return f"{text}: {percent(abs(excess), digits=1)} {side} the entropy bound of {floor['nats']:.3f}."


def _smallest(dense, rows):
    limit = percent(TOLERANCE)
    smaller = [row for row in rows if row["disk_bytes"] < dense["disk_bytes"]]
    near = [row for row in smaller if row["loss"]["nats"] <= (1 + TOLERANCE) * dense["loss"]["nats"]]
    if not near:
        return f"No compressed model with a smaller file has a loss within {limit} of the dense model's loss."
    best = min(near, key=lambda row: row["disk_bytes"])
    return (
        f"The smallest model with a loss within {limit} of the dense model's loss is {quoted(best)}: "
        f"{number_format.size(best['disk_bytes'])}, {relative_size(best['disk_bytes'], dense['disk_bytes'])} of the "
        f"dense file, with a loss {loss_change(best, dense)} the dense model's."
    )


def _fastest(dense, rows):
    reference = dense["generation_speed"]
    faster = [row for row in rows if row["generation_speed"]["low"] > reference["high"]]
    slower = [row for row in rows if row["generation_speed"]["high"] < reference["low"]]
    text = "None of the compressed models generates text measurably faster than the dense model."
    if faster:
        best = max(faster, key=lambda row: row["generation_speed"]["median"])
        text = (
            f"The fastest model at generating text is {quoted(best)}: {speed_change(best, dense)} the dense model, "
            f"with a loss {loss_change(best, dense)} the dense model's."
        )
    return text + (f" Measurably slower than the dense model: {joined(map(quoted, slower))}." if slower else "")


def _same_loss(dense, rows):
    if dense["loss"]["standard_error"] is None:
        return "With only one document, the standard errors of the losses are unknown."
    near = [row for row in rows if not is_significant(row)]
    if not near:
        return "The loss of every compressed model differs significantly from the dense model's (95 %)."
    sizes = (
        f"{quoted(row)} ({relative_size(row['disk_bytes'], dense['disk_bytes'])} of the dense file)" for row in near
    )
    return f"No significant difference from the dense model's loss (95 %): {joined(sizes)}."


def _exam(dense, rows):
    rows = [row for row in rows if row["exam"]]
    if not dense["exam"] or not rows:
        return None
    lower = [row for row in rows if row["exam"]["high"] < dense["exam"]["low"]]
    higher = [row for row in rows if row["exam"]["low"] > dense["exam"]["high"]]
    text = f"The dense model answers {percent(dense['exam']['accuracy'])} of the exam correctly."
    for word, group in (("lower", lower), ("higher", higher)):
        text += f" Significantly {word} (95 %): {joined(map(quoted, group))}." if group else ""
    if len(lower) + len(higher) < len(rows):
        text += f" The {'other' if lower or higher else 'compressed'} models are not significantly different."
    return text


def _weakest_subject(dense, rows):
    """Sentence on the subject whose mean accuracy drops most, or None.

    The drop must exceed one question and two standard errors of the dense model's accuracy.
    """
    rows = [row for row in rows if row["exam"]]
    if not dense["exam"] or not rows or len(dense["exam"]["by_subject"]) < 2:
        return None
    questions = dense["exam"]["asked"] / len(dense["exam"]["by_subject"])  # per subject
    drops = {}
    for subject, accuracy in dense["exam"]["by_subject"].items():
        measured = [row["exam"]["by_subject"][subject] for row in rows if subject in row["exam"]["by_subject"]]
        if measured:
            drops[subject] = (accuracy - sum(measured) / len(measured), accuracy)
    subject, (drop, accuracy) = max(drops.items(), key=lambda item: item[1][0], default=(None, (0, 0)))
    if drop <= max(2 * (accuracy * (1 - accuracy) / questions) ** 0.5, 1 / questions):
        return None
    return (
        f"Accuracy drops most in the exam's subject “{one_line(subject)}”: by {100 * drop:.0f} percentage points on "
        "average over the compressed models."
    )
