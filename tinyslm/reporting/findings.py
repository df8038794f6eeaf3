"""What the numbers say, in sentences made from the numbers. Nothing here knows in advance how a run came out."""

from tinyslm.reporting import units

TOLERANCE = 0.05  # of the dense model's loss: how much more counts as nearly as good

LONGEST_NAME = 60  # within a sentence


def findings(results) -> list[str]:
    """A few plain sentences, the most important first."""
    rows = results["rows"]
    dense, compressed = rows[0], [row for row in rows[1:] if units.is_number(row["loss"]["nats"])]
    sentences = [_dense_sentence(dense, results["corpus"]["floor"])]
    if not units.is_number(dense["loss"]["nats"]):
        return sentences
    if len(rows) == 1:
        return [*sentences, "This run measured only the dense model; nothing was compressed."]
    sentences += [
        _smallest(dense, compressed),
        _fastest(dense, compressed),
        _not_told_apart(dense, compressed),
        _largest_loss(dense, compressed),
        _exam(dense, compressed),
        _weakest_subject(dense, compressed),
    ]
    return [sentence for sentence in sentences if sentence]


def quoted(row) -> str:
    """The row's name in quotation marks, cut if it is very long."""
    return f"“{units.shorten(row['name'], LONGEST_NAME)}”"


def listed(rows) -> str:
    """Names as "“a”, “b” and “c”"."""
    return joined(map(quoted, rows))


def joined(texts) -> str:
    """Texts as "a, b and c"."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def loss_change(row, dense) -> str:
    """How a row's loss compares with the dense model's: "3.1 % above", "less than 0.1 % below" or "equal to"."""
    change = row["loss"]["nats"] / dense["loss"]["nats"] - 1
    if change == 0:
        return "equal to"
    size = "less than 0.1 %" if abs(change) < 0.001 else units.percent(abs(change), digits=1)
    return f"{size} {'above' if change > 0 else 'below'}"


def share(part, whole) -> str:
    """One size as a share of another: "26 %", or "2.10 times" where it is larger."""
    return units.percent(part / whole) if part <= whole else f"{times(part / whole)}"


def speed_change(row, dense, key="generation_speed") -> str:
    """ "1.9 times as fast as", or "as fast, within the spread, as" where the ranges between the quartiles overlap."""
    speed, reference = row[key], dense[key]
    if speed["low"] <= reference["high"] and reference["low"] <= speed["high"]:
        return "as fast, within the spread of the measurement, as"
    return f"{times(speed['median'] / reference['median'])} as fast as"


def times(ratio) -> str:
    """A ratio as "1.04 times" or "120 times"."""
    return f"{ratio:.2f} times" if ratio < 10 else f"{ratio:,.0f} times"


def is_within_error(row) -> bool:
    """Whether the difference to the dense loss, measured on the same documents, may be chance (95 %)."""
    return abs(row["change"]["nats"]) <= 1.96 * row["change"]["standard_error"]


def _dense_sentence(dense, floor):
    if not units.is_number(dense["loss"]["nats"]):
        return "The dense model's loss is not a number, so nothing can be compared with it."
    text = f"The dense model's loss is {units.loss(dense['loss'])} nats per token"
    if floor is None:
        return text + "."
    excess = dense["loss"]["nats"] / floor["nats"] - 1
    side = "above" if excess >= 0 else "below"
    return f"{text}: {units.percent(abs(excess), digits=1)} {side} the floor of {floor['nats']:.3f}."


def _smallest(dense, rows):
    near = [row for row in rows if row["loss"]["nats"] <= (1 + TOLERANCE) * dense["loss"]["nats"]]
    near = [row for row in near if row["disk_bytes"] < dense["disk_bytes"]]
    if not near:
        limit = units.percent(TOLERANCE)
        return f"No compressed model with a smaller file has a loss at most {limit} above the dense one."
    best = min(near, key=lambda row: row["disk_bytes"])
    return (
        f"The smallest model on disk with a loss at most {units.percent(TOLERANCE)} above the dense one is "
        f"{quoted(best)}: {units.size(best['disk_bytes'])}, {share(best['disk_bytes'], dense['disk_bytes'])} of the "
        f"dense file, with a loss {loss_change(best, dense)} the dense one."
    )


def _fastest(dense, rows):
    if not rows:
        return None
    reference = dense["generation_speed"]
    faster = [row for row in rows if row["generation_speed"]["low"] > reference["high"]]
    slower = [row for row in rows if row["generation_speed"]["high"] < reference["low"]]
    text = "None of the compressed models generates text faster than the dense one by more than the spread."
    if faster:
        best = max(faster, key=lambda row: row["generation_speed"]["median"])
        text = (
            f"The fastest at generating text is {quoted(best)}, {speed_change(best, dense)} the dense model, with a "
            f"loss {loss_change(best, dense)} the dense one."
        )
    return text + (f" Slower than the dense one by more than the spread: {listed(slower)}." if slower else "")


def _not_told_apart(dense, rows):
    near = [row for row in rows if is_within_error(row)]
    if not near:
        return (
            "The loss of every compressed model differs from the dense one by more than chance (95 %)."
            if rows
            else None
        )
    sizes = [f"{quoted(row)} ({share(row['disk_bytes'], dense['disk_bytes'])} of the dense file)" for row in near]
    return f"On these documents not to be told from the dense loss (95 %): {joined(sizes)}."


def _largest_loss(dense, rows):
    worst = max(rows, key=lambda row: row["loss"]["nats"], default=None)
    if worst is None or worst["loss"]["nats"] <= dense["loss"]["nats"] or is_within_error(worst):
        return None
    return (
        f"The highest loss is that of {quoted(worst)}, {loss_change(worst, dense)} the dense one, at "
        f"{share(worst['disk_bytes'], dense['disk_bytes'])} of its file and "
        f"{share(worst['multiply_adds'], dense['multiply_adds'])} of its multiply-adds."
    )


def _exam(dense, rows):
    rows = [row for row in rows if row["exam"]]
    if not dense["exam"] or not rows:
        return None
    text = f"In the exam the dense model gives {units.percent(dense['exam']['accuracy'])} right answers"
    lower = [row for row in rows if row["exam"]["high"] < dense["exam"]["low"]]
    higher = [row for row in rows if row["exam"]["low"] > dense["exam"]["high"]]
    groups = (("fewer", lower), ("more", higher))
    parts = [f"{word}, beyond the 95 % intervals: {listed(some)}" for word, some in groups if some]
    if len(lower) + len(higher) < len(rows):
        whom = "those of the others" if parts else "those of all compressed models"
        parts.append(f"its 95 % interval overlaps {whom}")
    return f"{text}; {'; '.join(parts)}."


def _weakest_subject(dense, rows):
    """The subject with the largest mean fall over the compressed models, if it falls by more than two standard errors
    of the dense model's share."""
    rows = [row for row in rows if row["exam"]]
    if not dense["exam"] or not rows or len(dense["exam"]["by_subject"]) < 2:
        return None
    asked = dense["exam"]["asked"] / len(dense["exam"]["by_subject"])
    falls = {}
    for subject, right in dense["exam"]["by_subject"].items():
        measured = [row["exam"]["by_subject"][subject] for row in rows if subject in row["exam"]["by_subject"]]
        if measured:
            falls[subject] = (right - sum(measured) / len(measured), right)
    subject, (fall, right) = max(falls.items(), key=lambda item: item[1][0], default=(None, (0, 0)))
    if fall <= max(2 * (right * (1 - right) / asked) ** 0.5, 1 / asked):
        return None
    return (
        f"Of the subjects of the exam, “{units.one_line(subject)}” suffers most: averaged over the compressed models, "
        f"right answers fall by {100 * fall:.0f} percentage points."
    )
