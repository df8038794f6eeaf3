"""What is said about distillation: DistilBERT's triple loss on an encoder that is trained here, and the built-in
decoder with little data, with few steps, and with other layers to learn from."""

import functools
import time
from dataclasses import replace

import numpy as np

from tests.benchmarks.claims.claim import Claim, Verdict, in_order, spread
from tinyslm.compression.distillation import layer_map
from tinyslm.evaluation import footprint
from tinyslm.models import EncoderConfig, random_model
from tinyslm.ops import IGNORED
from tinyslm.recipes import Calibration, Distill, FreshStudent, KeepLayers, compress
from tinyslm.text.batches import pad_documents
from tinyslm.tree import map_arrays

ENCODER_STAGES = ((600, 2e-3), (500, 1e-3))  # steps and learning rate: with 2 layers, and with 6
ENCODER_DOCUMENTS = 20_000
ENCODER_TOKENS = 32  # of a document
LEARNED = 0.4  # the accuracy from which on an encoder counts as a teacher; the commonest token alone gives 0.1
BATCH = 40  # documents
STUDENT_STEPS = 100
SCRATCH_STEPS = 240
MAP_STEPS, MAP_BATCH = 100, 10  # of a student with other layers to learn from
TRIPLE = Distill(STUDENT_STEPS, 1e-3, BATCH, temperature=2.0, soft_weight=5 / 7, cosine_weight=1 / 7)


@functools.cache
def encoder_calibration(bench):
    """A masked language model of 6 layers, trained on documents of the town, as the teacher on the same documents.

    It begins with 2 layers, which take a third of the time for a step, and goes on with three copies of each (Gong et
    al. 2019, progressive stacking).
    """
    vocab_size = bench.model.config.vocab_size + 1  # the last token hides others
    config = EncoderConfig("distilbert", vocab_size, 192, 576, 2, 6, 32, bench.model.config.max_position_embeddings)
    documents = [document[:ENCODER_TOKENS] for document in bench.documents("train", 0, ENCODER_DOCUMENTS)]
    model = random_model(config)
    for stage, (steps, learning_rate) in enumerate(ENCODER_STAGES):
        if stage > 0:
            layers = [copied(layer) for layer in model.layers for _ in range(3)]
            model = model.replace(layers=layers, config=replace(config, num_hidden_layers=len(layers)))
        calibration = Calibration(documents, model, stage, mask_token_id=vocab_size - 1)
        model, _ = compress(model, [Distill(steps, learning_rate, BATCH, soft_weight=0.0)], calibration)
    return Calibration(documents, model, mask_token_id=vocab_size - 1)


def copied(module):
    """The same numbers in arrays of their own."""
    return map_arrays(lambda path, array: array.copy(), module)


def accuracy(bench, model):
    """(fraction of the hidden tokens of the test documents that a model finds, seconds that it needed)."""
    found, hidden, began = 0, 0, time.perf_counter()
    documents = sorted(bench.test, key=len)  # similar lengths together
    for start in range(0, len(documents), 20):
        rows = pad_documents([document[:ENCODER_TOKENS] for document in documents[start : start + 20]])
        inputs, targets = encoder_calibration(bench).task(*rows)
        logits = model(**inputs)
        found += np.sum(np.argmax(logits, axis=-1)[targets != IGNORED] == targets[targets != IGNORED])
        hidden += np.count_nonzero(targets != IGNORED)
    return found / hidden, time.perf_counter() - began


@functools.cache
def encoder_student(bench, seed, initial="teacher", **removed):
    """The accuracy of a student of half the layers after DistilBERT's loss, some terms of it changed."""
    return accuracy(bench, trained_encoder(bench, seed, initial, **removed))[0]


@functools.cache
def trained_encoder(bench, seed, initial="teacher", **removed):
    """That student."""
    calibration = Calibration(**{**vars(encoder_calibration(bench)), "seed": seed + 1})
    first = KeepLayers(layer_map("spread", 3, 6)) if initial == "teacher" else FreshStudent(3, seed=seed)
    recover = Distill(**{**vars(TRIPLE), **removed})
    return compress(calibration.teacher, [first, recover], calibration)[0]


def measure_distilbert(bench, seed):
    """Sizes, seconds and accuracies of teacher and student."""
    teacher, student = encoder_calibration(bench).teacher, trained_encoder(bench, seed)
    timed = [accuracy(bench, model) for _ in range(3) for model in (teacher, student)]
    return {
        "parameters": footprint(student).parameters / footprint(teacher).parameters,
        "speed": min(t for _, t in timed[::2]) / min(t for _, t in timed[1::2]),
        "teacher": timed[0][0],
        "student": timed[1][0],
    }


def judge_distilbert(results):
    """At least 97 % of the teacher's accuracy with at most 60 % of its parameters, and 1.6 times as fast."""
    kept = results["student"] / results["teacher"]
    holds = np.mean(kept) >= 0.97 and np.mean(results["parameters"]) <= 0.605 and np.mean(results["speed"]) >= 1.6
    text = (
        f"{1 - np.mean(results['parameters']):.0%} fewer parameters, {spread(results['speed'], 2)} times as fast, "
        f"{spread(100 * kept, 1)} % of the teacher's accuracy on hidden tokens ({np.mean(results['teacher']):.3f})"
    )
    return Verdict(bool(holds) if np.mean(results["teacher"]) > LEARNED else None, text)


def measure_terms(bench, seed):
    """Accuracy with all three terms, and without each; the weights of the others keep their proportion."""
    return {
        "teacher": accuracy(bench, encoder_calibration(bench).teacher)[0],
        "all three": encoder_student(bench, seed),
        "without soft targets": encoder_student(bench, seed, soft_weight=0.0, cosine_weight=0.5),
        "without labels": encoder_student(bench, seed, soft_weight=1.0, cosine_weight=0.2),
        "without cosine": encoder_student(bench, seed, cosine_weight=0.0),
    }


def judge_terms(results):
    """Of the three, the soft targets are missed most; undecided where the teacher has learned little itself."""
    means = {name: np.mean(values) for name, values in results.items()}
    lowest = min(means, key=means.get)
    text = ", ".join(f"{spread(values)} {name}" for name, values in results.items())
    return Verdict(lowest == "without soft targets" if means["teacher"] > LEARNED else None, text)


def measure_initial(bench, seed):
    """Accuracy after the same training, from the teacher's layers and from random weights."""
    return {
        "random": encoder_student(bench, seed, initial="random"),
        "teacher's layers": encoder_student(bench, seed),
    }


def measure_small_data(bench, seed):
    """The loss of a new decoder trained on 3 % of the documents: on their labels, or on the teacher's soft targets."""
    documents = bench.training(seed)
    few = Calibration(documents[: len(documents) * 3 // 100], bench.model, seed)
    fresh = FreshStudent(3, 128, 256, 4, 2, seed=seed)
    found = {}
    for name, soft_weight in (("labels", 0.0), ("soft targets", 1.0)):
        recover = Distill(steps=200, learning_rate=2e-3, temperature=2.0, soft_weight=soft_weight)
        found[name] = bench.loss(compress(bench.model, [fresh, recover], few)[0])
    return found


def judge_small_data(results):
    """Soft targets give the lower loss in the mean and in most seeds."""
    return in_order(results, ["soft targets", "labels"])


def measure_steps(bench, seed):
    """Students with about 25 % fewer parameters: loss on labels after all steps, and distilled after 30 % of them."""
    fresh, kept = FreshStudent(4, seed=seed), KeepLayers(layer_map("spread", 4, 6))
    few = SCRATCH_STEPS * 3 // 10
    labels = Distill(SCRATCH_STEPS, 2e-3, soft_weight=0.0)
    scratch = bench.compress([fresh, labels], seed)
    return {
        "parameters": footprint(scratch).parameters / footprint(bench.model).parameters,
        "labels, all steps": bench.loss(scratch),
        "distilled from random weights, 30 % of the steps": bench.loss(
            bench.compress([fresh, Distill(few, 2e-3)], seed)
        ),
        "distilled from the teacher's layers, 30 % of the steps": bench.loss(
            bench.compress([kept, Distill(few)], seed)
        ),
    }


def judge_steps(results):
    """A student made of the teacher's layers is at least as good; what one of random weights reaches is shown."""
    scratch, fresh, kept = (results[name] for name in list(results)[1:])
    text = (
        f"{1 - np.mean(results['parameters']):.0%} fewer parameters: {spread(scratch)} from scratch on labels; after "
        f"30 % of these steps {spread(kept)} distilled from some of the teacher's layers, {spread(fresh)} distilled "
        "from random weights"
    )
    return Verdict(bool(np.mean(kept) <= np.mean(scratch)), text)


def measure_maps(bench, seed):
    """The loss of a new decoder of 3 layers that learns states and attention of the layers that a map names."""
    found = {}
    for layers in ("uniform", "top", "bottom"):
        recover = Distill(MAP_STEPS, 2e-3, MAP_BATCH, hidden_weight=1.0, attention_weight=1.0, layers=layers)
        found[layers] = bench.loss(bench.compress([FreshStudent(3, seed=seed), recover], seed))
    return found


def judge_maps(results):
    """The uniform map gives the lowest loss in the mean and in most seeds, against both others."""
    verdicts = [in_order(results, ["uniform", other]) for other in ("top", "bottom")]
    text = ", ".join(f"{spread(values)} {name}" for name, values in results.items())
    return Verdict(all(verdict.holds for verdict in verdicts), text)


CLAIMS = (
    Claim(
        "distilbert",
        "An encoder with 40 % fewer parameters is 60 % faster and keeps 97 % of what its teacher can",
        "40 % fewer, 60 % faster, 97 % of GLUE (Sanh et al. 2019); here: accuracy on hidden tokens",
        measure_distilbert,
        judge_distilbert,
        "Half of the layers are enough for most of what this encoder has learned, and the student begins with them.",
    ),
    Claim(
        "distilbert-terms",
        "Of DistilBERT's three losses, the soft targets are missed most",
        "GLUE without soft targets -2.96, without cosine -1.46, without labels -0.31 (Sanh et al. 2019, table 4)",
        measure_terms,
        judge_terms,
        "Refuted at this size: labels are missed most, and every student is close to the teacher. Labels train exactly "
        "what is measured here, the accuracy on hidden tokens.",
    ),
    Claim(
        "teacher-initialisation",
        "A student that begins with the teacher's layers ends better than one of random weights",
        "GLUE -3.69 with random weights (Sanh et al. 2019, table 4)",
        measure_initial,
        lambda results: in_order(results, ["random", "teacher's layers"]),
        "So few steps are not enough to learn from random weights what the layers of the teacher contain.",
    ),
    Claim(
        "small-data",
        "With 3 % of the data, soft targets teach much better than labels",
        "57.0 % against 44.5 % of frames right (Hinton et al. 2015, table 5); here: nats per token, lower is better",
        measure_small_data,
        judge_small_data,
        "A label tells one token of a distribution; the soft targets tell all of it, for each token of the few "
        "documents.",
    ),
    Claim(
        "distillation-steps",
        "With at least 25 % fewer parameters, distillation needs 30 % of the steps of a training from scratch",
        "70 % less training time (an article, no source known)",
        measure_steps,
        judge_steps,
        "The student begins with layers of the teacher. From random weights the saving is not seen.",
    ),
    Claim(
        "layer-maps",
        "Layers spread uniformly teach better than the top or the bottom ones",
        "GLUE 75.6 uniform, 71.3 bottom, 70.9 top (Jiao et al. 2020, table 4); here: nats per token, lower is better",
        measure_maps,
        judge_maps,
        "With the uniform map each layer of the student learns from one that is as far between input and output as "
        "itself.",
    ),
)
