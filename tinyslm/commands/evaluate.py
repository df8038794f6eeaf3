"""tinyslm evaluate: loss against the floor and the exam, subject by subject."""

import numpy as np

from tinyslm.commands.compression_inputs import end_of_document
from tinyslm.commands.loading import add_weights_option, load_with_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.evaluation import take_exam
from tinyslm.evaluation.loss import document_nats
from tinyslm.models import Decoder
from tinyslm.text import read_documents
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.text.loss_estimate import estimate_loss


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("model", nargs="?", default="teacher", metavar="MODEL", help="a built-in model or a directory")
    parser.add_argument("--text", nargs="+", metavar="FILE", help="your own text: its held-out tenth, without an exam")
    parser.add_argument("--documents", type=int, default=2000, metavar="N", help="validation documents of the town")
    parser.add_argument("--questions", type=int, default=200, metavar="N", help="exam questions per subject")
    parser.add_argument("--per-token", action="store_true", help="score options by their mean over tokens, not the sum")
    add_weights_option(parser)


def run(arguments) -> int:
    """Print the numbers; returns the exit status."""
    model, tokenizer = load_with_tokenizer(arguments.model, Decoder, "measuring on text", arguments.weights)
    if arguments.documents < 1 or arguments.questions < 0:
        raise ConfigError("--documents must be at least 1, --questions at least 0")
    end_id = end_of_document(model.config)
    if arguments.text:
        corpus = text_corpus(tokenizer, end_id, read_documents(arguments.text))
    else:
        corpus = town_corpus(
            tokenizer, end_id, validation=arguments.documents, questions_per_subject=arguments.questions
        )
    nats, tokens = document_nats(model, corpus.validation)
    loss = estimate_loss(nats, tokens)
    print(f"loss   {loss.nats:.4f} ± {loss.standard_error:.4f} nats per token ({loss.tokens:,} tokens)")
    if corpus.floor is not None:
        floor = corpus.floor
        print(f"floor  {floor.nats:.4f} ± {floor.standard_error:.4f}; the loss is {_above(loss, floor)} it")
        for family in sorted(set(corpus.families)):
            rows = np.array(corpus.families) == family
            part, least = estimate_loss(nats[rows], tokens[rows]), estimate_loss(corpus.floor_nats[rows], tokens[rows])
            print(f"       {family:13} {part.nats:.4f}, {_above(part, least)} its floor {least.nats:.4f}")
    if corpus.questions:
        exam = take_exam(model, tokenizer, corpus.questions, end_id, per_token=arguments.per_token)
        low, high = exam.interval()
        print(f"exam   {exam.accuracy:.1%} right (95 % interval {low:.1%} to {high:.1%}; chance 25 %)")
        for subject, accuracy in exam.by_subject().items():
            print(f"       {subject:13} {accuracy:6.1%} of {exam.asked[subject]}")
    return 0


def _above(loss, floor):
    excess = loss.nats / floor.nats - 1
    return f"{abs(excess):.1%} {'above' if excess >= 0 else 'below'}"
