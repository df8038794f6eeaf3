"""What a newcomer must know before the numbers: what was done, the loss, the floor, the exam."""

import math

from tinyslm.reporting import units


def introduction(results) -> list[tuple[str, str]]:
    """The paragraphs that open the page, each with the words that name its subject: ("The loss", " says how ...")."""
    corpus = results["corpus"]
    paragraphs = [_what_was_done(results), _loss(results), _floor(corpus["floor"])]
    return [*paragraphs, _exam(corpus["questions"])] if corpus["questions"] else paragraphs


def _what_was_done(results):
    model, rows = results["model"], results["rows"]
    shape = (
        f"{model['layers']} layers of width {model['hidden_size']}, {units.scaled(rows[0]['parameters'])} parameters"
    )
    made = f"made {len(rows) - 1} compressed model{'s' if len(rows) > 2 else ''} from it, and " if len(rows) > 1 else ""
    return (
        "A language model",
        " reads a text in small pieces, called tokens, and says how likely each token that it knows (here "
        f"{model['vocab_size']:,}) is to come next. The model of this page is “{units.shorten(model['name'], 60)}” "
        f"({shape}; architecture: {model['family']}). tinyslm compress has {made}measured for each model how large it "
        "is, how fast, and how well it predicts. The unchanged model is called dense.",
    )


def _loss(results):
    tokens, dense = results["corpus"]["validation_tokens"], results["rows"][0]["loss"]
    text = (
        " says how badly a model predicts: minus the logarithm of the probability that it gave to the token which "
        f"really came, on average over {tokens:,} tokens of text kept aside for this test. The unit is the nat."
    )
    if units.is_number(dense["nats"]):
        choices = math.exp(min(dense["nats"], 700))
        text += (
            f" The dense model's {units.loss(dense, spread=False)} nats are the uncertainty of a choice among "
            f"{choices:.3g} equally likely tokens; 0 would be certainty."
        )
    return "The loss", text


def _floor(floor):
    if floor is None:
        return (
            "The floor",
            ", the lowest loss that is possible, is not known for this text, because no one knows the probabilities "
            "with which it was written: the losses can be compared with each other only.",
        )
    return (
        "The floor",
        " is the lowest loss that any model can expect. It is known here because the text is written by a program "
        "that makes random choices with known probabilities. How uncertain its next word remains, even to a reader who "
        "knows the program by heart, can be computed exactly: this is the entropy of the text. In the documents of "
        f"this test it is {floor['nats']:.3f} nats per token; since they are a sample, its standard error is "
        f"{floor['standard_error']:.3f}. What a model's loss has above the floor, the model has not learned, or "
        "compression has cost it.",
    )


def _exam(questions):
    return (
        "The exam",
        f" has {questions:,} questions with four options each. A model's answer is the option to which it gives the "
        "highest probability; guessing would be right in 25 % of them.",
    )
