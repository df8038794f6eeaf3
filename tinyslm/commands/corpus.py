"""tinyslm corpus: documents of the built-in corpus, or statistics of its splits."""

from tinyslm.commands.parser import check_minimum
from tinyslm.reporting.terminal_table import table_lines
from tinyslm.text import town
from tinyslm.text.town.digest import DOCUMENTS, QUESTIONS_PER_SUBJECT, exam_digest, split_digest


def add_arguments(parser):
    """The options of the command."""
    parser.option("--split", "train", "split of the corpus", choices=("train", "validation", "test"))
    parser.option("--start", 0, "index of the first document", "I")
    parser.option("--count", 3, "number of documents", "N")
    parser.flag("--summary", "print size, entropy and SHA-256 of every split, and no documents")


def run(arguments) -> int:
    """Print documents with their exact information content, or the summary; returns the exit status."""
    check_minimum(arguments, start=0, count=1)
    if not arguments.summary:
        for family, text, log_probability in town.documents(arguments.split, arguments.start, arguments.count):
            print(f"[{family}, {-log_probability:.1f} nats]\n{text}\n")
        return 0
    rows = [("split", "documents", "characters", "nats each", "SHA-256")]
    for split, count in DOCUMENTS.items():
        documents = town.documents(split, 0, count)
        nats = -sum(log_probability for _, _, log_probability in documents) / count
        characters = sum(len(text) for _, text, _ in documents)
        rows.append((split, f"{count:,}", f"{characters:,}", f"{nats:.2f}", split_digest(split, count)))
    rows.append(("exam", f"{QUESTIONS_PER_SUBJECT * len(town.FAMILIES):,}", "", "", exam_digest()))
    print("\n".join(table_lines(rows, right=(1, 2, 3))))
    return 0
