"""SHA-256 digests of the generated corpus. Equal digests mean that the generator made the same documents."""

import hashlib

from tinyslm.text import town

DOCUMENTS = {"train": 136_000, "validation": 2_000, "test": 2_000}  # documents per split in the reported results
QUESTIONS_PER_SUBJECT = 200


def digest(texts) -> str:
    """SHA-256 (hexadecimal) of texts in UTF-8, with a zero byte after each."""
    content = hashlib.sha256()
    for text in texts:
        content.update(text.encode() + b"\0")
    return content.hexdigest()


def split_digest(split: str, count: int) -> str:
    """Digest of the first `count` documents of a split."""
    return digest(text for _, text, _ in town.documents(split, 0, count))


def exam_digest(count_per_subject: int = QUESTIONS_PER_SUBJECT) -> str:
    """Digest of the exam: subject, context, options and index of the right option of each question."""
    questions = town.exam_questions(count_per_subject)
    return digest(part for q in questions for part in (q.subject, q.context, *q.options, str(q.answer)))
