"""Fingerprints of the splits: the corpus is not stored, so this is how one knows that it is still the same."""

import hashlib

from tinyslm.text import town

DOCUMENTS = {"train": 136_000, "validation": 2_000, "test": 2_000}  # of the splits that results are reported on
QUESTIONS_PER_SUBJECT = 200


def digest(texts) -> str:
    """SHA-256 of texts, each followed by a zero byte."""
    content = hashlib.sha256()
    for text in texts:
        content.update(text.encode() + b"\0")
    return content.hexdigest()


def split_digest(split, count) -> str:
    """Fingerprint of the first documents of a split."""
    return digest(text for _, text, _ in town.documents(split, 0, count))


def exam_digest(count_per_subject=QUESTIONS_PER_SUBJECT) -> str:
    """Fingerprint of the exam: contexts, options and the places of the right ones."""
    questions = town.exam_questions(count_per_subject)
    return digest(part for q in questions for part in (q.subject, q.context, *q.options, str(q.answer)))
