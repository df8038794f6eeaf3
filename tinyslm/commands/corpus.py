"""tinyslm corpus: look at the town's documents, or at what its splits contain."""

from tinyslm.errors import ConfigError
from tinyslm.text import town
from tinyslm.text.town.digest import DOCUMENTS, QUESTIONS_PER_SUBJECT, exam_digest, split_digest


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"))
    parser.add_argument("--start", type=int, default=0, metavar="I", help="first document")
    parser.add_argument("--count", type=int, default=3, metavar="N", help="how many documents")
    parser.add_argument("--summary", action="store_true", help="size, entropy and SHA-256 of every split instead")


def run(arguments) -> int:
    """Print documents with their exact probability, or the summary; returns the exit status."""
    if arguments.start < 0 or arguments.count < 1:
        raise ConfigError("--start must be at least 0, --count at least 1")
    if arguments.summary:
        for split, count in DOCUMENTS.items():
            documents = town.documents(split, 0, count)
            nats = -sum(log_probability for _, _, log_probability in documents) / count
            characters = sum(len(text) for _, text, _ in documents)
            print(f"{split:10}  {count:7,} documents  {characters:11,} characters  {nats:.2f} nats each", end="  ")
            print(split_digest(split, count))
        print(f"{'exam':10}  {QUESTIONS_PER_SUBJECT * len(town.FAMILIES):7,} questions  {exam_digest()}")
        return 0
    for family, text, log_probability in town.documents(arguments.split, arguments.start, arguments.count):
        print(f"[{family}, {-log_probability:.1f} nats]\n{text}\n")
    return 0
