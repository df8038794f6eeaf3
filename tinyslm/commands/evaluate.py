"""tinyslm evaluate: loss, entropy bound and exam accuracy of a model, by subject.

With a file of questions, the accuracy on these. The loss is then only measured on a text that is given.
"""

import numpy as np

from tinyslm.commands import question_file
from tinyslm.commands.compression_inputs import CompressionOptions, marks_of_model, open_corpus
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.commands.parser import check_minimum
from tinyslm.commands.text_options import choose_text
from tinyslm.errors import ConfigError
from tinyslm.evaluation import take_exam
from tinyslm.evaluation.loss import document_nats
from tinyslm.models import Decoder
from tinyslm.reporting.number_format import standard_error
from tinyslm.reporting.terminal_table import fitted
from tinyslm.text.loss_estimate import estimate_loss


def add_arguments(parser):
    """The options of the command."""
    parser.model()
    parser.text("of which about a tenth is for validation")
    parser.option("--town-documents", 2000, "validation documents of the built-in corpus", "N")
    splits = "what is measured: validation to choose settings; test of the built-in corpus, for figures to report; "
    splits += "or the whole of --text, for a text that no training used"
    parser.option("--split", "validation", splits, choices=("validation", "test", "whole"))
    question_file.add_arguments(parser)
    parser.flag("--per-token", "score an option by its mean log-probability per token, not the sum")
    parser.weights()


def run(arguments) -> int:
    """Print the measurements; returns the exit status."""
    own_questions = question_file.open_questions(arguments)
    model, tokenizer = load_with_tokenizer(arguments.model, Decoder, "measuring on text", arguments.weights)
    check_minimum(arguments, town_documents=1)
    marks = marks_of_model(arguments.model, model.config, tokenizer)
    if own_questions:
        question_file.judge(arguments, model, tokenizer, marks, *own_questions)
        if not arguments.text:
            return 0
    text = choose_text(arguments, arguments.model)
    if arguments.split == ("whole" if text.is_town else "test"):
        raise ConfigError(f"--split {arguments.split} is only for {'your own text' if text.is_town else 'the town'}")
    exam_questions = 0 if own_questions else arguments.questions
    options = CompressionOptions(
        arguments.model, text, 0, arguments.town_documents, exam_questions, split=arguments.split
    )
    corpus = open_corpus(tokenizer, marks, options, model.config.vocab_size)
    nats, tokens = document_nats(model, corpus.validation)
    loss, floor = estimate_loss(nats, tokens), corpus.floor
    error = standard_error(loss.standard_error, digits=4)
    print(fitted(f"loss   {loss.nats:.4f} ± {error} nats per token ({loss.tokens:,} tokens)"))
    if corpus.validation_bytes:
        bits = loss.bits_per_byte(corpus.validation_bytes)
        print(f"       {bits:.4f} bits per byte ({corpus.validation_bytes:,} bytes)")
    print(fitted(f"       counted: {marks.described(tokenizer)}"))
    if floor is not None:
        error = standard_error(floor.standard_error, digits=4)
        print(f"floor  {floor.nats:.4f} ± {error}, the entropy of the text")
        print(f"       The loss is {_distance(loss, floor)} the floor.")
    for family in sorted(set(corpus.families)):
        rows = np.array(corpus.families) == family
        part, compared = estimate_loss(nats[rows], tokens[rows]), ""
        if floor is not None:
            least = estimate_loss(corpus.floor_nats[rows], tokens[rows])
            compared = f", {_distance(part, least)} its floor {least.nats:.4f}"
        print(f"       {family:13} {part.nats:.4f}{compared}")
    if corpus.questions:
        exam = take_exam(model, tokenizer, corpus.questions, marks, per_token=arguments.per_token)
        low, high = exam.interval()
        interval = f"(95 % interval {low:.1%} to {high:.1%}; chance 25 %)"
        print(fitted(f"exam   {exam.accuracy:.1%} correct {interval}"))
        for subject, accuracy in exam.by_subject().items():
            print(f"       {subject:13} {accuracy:6.1%} of {exam.asked[subject]}")
    return 0


def _distance(loss, floor):
    excess = loss.nats / floor.nats - 1
    return f"{abs(excess):.1%} {'above' if excess >= 0 else 'below'}"
