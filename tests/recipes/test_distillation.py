"""Distillation on every family: what each setting of the recovery compares, who moves, and what a new student is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, small_model
from tests.recipes.families import assert_config_equals_shapes, calibrated, drawn, layer_numbers
from tinyslm.autodiff import value_and_grad
from tinyslm.compression.distillation import layer_map, soft_target_loss
from tinyslm.errors import ConfigError
from tinyslm.generation import generate
from tinyslm.models import Decoder, Encoder, EncoderDecoder, layer_stacks, trace
from tinyslm.modules import Linear
from tinyslm.ops import IGNORED, attention_probabilities, cross_entropy
from tinyslm.recipes import Distill, FreshStudent, KeepLayers, compress
from tinyslm.recipes.distillation.distill import Learner, count_parts, distillation_loss, distillation_parts
from tinyslm.recipes.distillation.feature_losses import matched_layers
from tinyslm.recipes.distillation.training_text import continue_documents
from tinyslm.recipes.tasks import task_loss
from tinyslm.training import Settings
from tinyslm.training.loop import batch_gradients
from tinyslm.tree import map_arrays, named_arrays

WEIGHTS = ("cosine_weight", "hidden_weight", "attention_weight", "relation_weight", "value_weight")
EVERYTHING = dict.fromkeys(WEIGHTS, 0.5) | {"soft_weight": 0.4, "layers": "uniform"}
# phi3 turns all rows of a batch by the angles of the longest, so that a document alone is written otherwise
WRITERS = [family for family in ALL_FAMILIES if not isinstance(small_model(family), Encoder) and family != "phi3"]


def disturbed(model, size=0.05):
    """A model near to this one."""
    rng = np.random.default_rng(8)
    return map_arrays(lambda _, x: (x + size * rng.standard_normal(x.shape)).astype(x.dtype), model)


def loss_of(model, calibration, **changes):
    """What a recovery minimizes, of a student."""
    step = Distill(steps=1, **changes)
    return distillation_loss(calibration, step)(model, *calibration.rows())


def assert_same(model, other):
    arrays = named_arrays(other)
    for path, array in named_arrays(model).items():
        np.testing.assert_array_equal(array, arrays[path], err_msg=path)


@settings(max_examples=30)
@given(drawn(), st.sampled_from(["forward", "reverse", "jensen_shannon"]), st.sampled_from(["last", "uniform"]))
def test_a_copy_of_the_teacher_has_nothing_to_learn(case, divergence, layers):
    """Loss and gradients are zero for every loss at once: under plain descent nothing would move."""
    model = case.model()
    calibration = calibrated(model)
    changes = EVERYTHING | {"soft_weight": 1.0, "divergence": divergence, "layers": layers}
    loss = distillation_loss(calibration, Distill(steps=1, **changes))
    value, gradients = value_and_grad(loss)(model, *calibration.rows())
    assert value < 1e-5
    assert max(np.max(np.abs(gradient)) for gradient in named_arrays(gradients).values()) < 1e-3
    if divergence == "forward":
        plain = distillation_loss(calibration, Distill(steps=1))
        value, gradients = value_and_grad(plain)(model, *calibration.rows())
        assert value == 0 and not any(np.any(gradient) for gradient in named_arrays(gradients).values())


LOSSES = {
    "forward": {},
    "cross entropy": {"soft_weight": 0.0},
    "reverse": {"divergence": "reverse"},
    "jensen_shannon": {"divergence": "jensen_shannon"},
    "top_k": {"top_k": 5},
    **{weight: {"soft_weight": 0.0, weight: 3.0} for weight in WEIGHTS},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5", "gemma3_text"])
@settings(max_examples=15)
@given(st.sampled_from(sorted(LOSSES)), st.integers(1, 7), st.lists(st.integers(2, 20), min_size=2, max_size=8))
def test_the_gradient_does_not_depend_on_the_size_of_the_micro_batches(family, name, size, lengths):
    """Every loss is a mean over the whole batch, to rounding. Documents have lengths, layers windows of their own."""
    teacher, student = small_model(family), small_model(family, 1)
    rng = np.random.default_rng(len(lengths))
    documents = [rng.integers(4, teacher.config.vocab_size, length).astype(np.int32) for length in lengths]
    calibration = replace(calibrated(teacher), documents=documents)
    step = Distill(1, **{"layers": "uniform"} | LOSSES[name])
    parts = distillation_parts(calibration, step)

    def loss_function(learner, token_ids, labels):
        return parts(learner.student, token_ids, labels)

    def gradients_of(micro_batch_size):
        trainer = Settings(1, len(documents), micro_batch_size=micro_batch_size, threads=1)
        counts = count_parts(calibration, step, student)
        return batch_gradients(loss_function, Learner(student), *calibration.rows(), trainer, counts)

    (loss, whole), (found, gradients) = gradients_of(len(documents)), gradients_of(size)
    assert found == pytest.approx(loss, rel=1e-5)
    assert found == pytest.approx(float(distillation_loss(calibration, step)(student, *calibration.rows())), rel=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in whole.values()))
    for path, gradient in gradients.items():
        np.testing.assert_allclose(gradient, whole[path], rtol=0, atol=2e-5 * norm, err_msg=path)


def test_the_step_trains_on_the_mean_of_the_whole_batch():
    """With one document of two tokens and one of twenty, the step itself uses the counts of its parts."""
    teacher, student = small_model("llama"), small_model("llama", 1)
    rng = np.random.default_rng(0)
    documents = [rng.integers(4, teacher.config.vocab_size, length).astype(np.int32) for length in [2] * 5 + [20]]
    calibration = replace(calibrated(teacher), documents=documents)
    step = Distill(1, 1e-4, batch_size=6, attention_weight=100.0, soft_weight=0.0, layers="uniform")
    losses = []
    compress(student, [step], calibration, progress=losses.append)
    expected = float(distillation_loss(calibration, step)(student, *calibration.rows()))
    assert any(f"loss {expected:.3f}" in text for text in losses)


@settings(max_examples=30)
@given(drawn())
def test_without_soft_targets_it_is_supervised_training_bit_for_bit(case):
    model = case.model()
    calibration = replace(calibrated(model), teacher=disturbed(model))
    found = value_and_grad(distillation_loss(calibration, Distill(steps=1, soft_weight=0.0)))
    loss, gradients = found(model, *calibration.rows())
    expected, plain = value_and_grad(task_loss)(model, calibration.task(*calibration.rows()))
    assert loss == expected
    assert_same(gradients, plain)


@settings(max_examples=30)
@given(drawn(), st.floats(0.05, 0.95), st.sampled_from(["forward", "reverse", "jensen_shannon"]))
def test_the_loss_is_affine_in_the_soft_weight(case, weight, divergence):
    model = case.model()
    calibration, student = calibrated(model), disturbed(model)
    soft, hard, mixed = (
        loss_of(student, calibration, soft_weight=share, divergence=divergence) for share in (1.0, 0.0, weight)
    )
    assert mixed == pytest.approx(weight * soft + (1 - weight) * hard, rel=1e-4, abs=1e-6)
    task = calibration.task(*calibration.rows())
    assert hard == pytest.approx(cross_entropy(student(**task.inputs), task.targets), rel=1e-5)


@settings(max_examples=20)
@given(drawn(), st.sampled_from(["reverse", "jensen_shannon"]))
def test_divergences_are_those_of_the_definition(case, divergence):
    model = case.model()
    calibration, student = calibrated(model), disturbed(model)
    task = calibration.task(*calibration.rows())
    said = [m(**task.inputs)[task.targets != IGNORED].astype(float) for m in (student, model)]
    log_q, log_p = (x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True)) for x in said)
    q, p = np.exp(log_q), np.exp(log_p)
    if divergence == "reverse":
        expected = np.sum(q * (log_q - log_p), axis=-1)
    else:
        log_m = np.log(0.2 * p + 0.8 * q)
        expected = np.sum(0.2 * p * (log_p - log_m) + 0.8 * q * (log_q - log_m), axis=-1)
    found = loss_of(student, calibration, divergence=divergence, beta=0.2)
    assert found == pytest.approx(np.mean(expected), rel=1e-3, abs=1e-6)


@settings(max_examples=20)
@given(drawn())
def test_as_many_targets_as_tokens_are_all_soft_targets(case):
    model = case.model()
    calibration, student = calibrated(model), disturbed(model)
    whole = loss_of(student, calibration, temperature=1.5)
    assert loss_of(student, calibration, temperature=1.5, top_k=model.config.vocab_size) == pytest.approx(
        whole, rel=1e-3, abs=1e-6
    )
    assert loss_of(student, calibration, temperature=1.5, top_k=3) < whole * 1.001 + 1e-6


@settings(max_examples=30)
@given(drawn(), st.sampled_from(["last", "uniform", "top", "bottom"]))
def test_inner_losses_compare_what_a_trace_shows(case, layers):
    """States and values of matched layers, from `trace`: a mean over layers of each stack."""
    teacher = case.model()
    calibration = calibrated(teacher)
    keep = [tuple(range(max(1, len(stack.layers) - 1))) for stack in layer_stacks(teacher).values()]
    student = disturbed(KeepLayers(*keep)(teacher))
    task = calibration.task(*calibration.rows())
    one, other = (trace(model, **task.inputs) for model in (student, teacher))
    expected = 0.0
    for path, stack in layer_stacks(student).items():
        reads = isinstance(student, Encoder) or path == "encoder"
        real = task.inputs["attention_mask"] != 0 if reads else task.targets != IGNORED
        counterpart = layer_stacks(teacher)[path]
        pairs = matched_layers(layers, stack, counterpart)
        assert pairs[0][1] == {"bottom": 0, "last": len(counterpart.layers) - 1}.get(layers, pairs[0][1])
        name = f"{path}_hidden_states" if path else "hidden_states"
        expected += np.mean([np.mean((one[f"{name}.{m + 1}"] - other[f"{name}.{n + 1}"])[real] ** 2) for m, n in pairs])
    found = loss_of(student, calibration, hidden_weight=1.0, soft_weight=0.0, layers=layers)
    found -= loss_of(student, calibration, soft_weight=0.0)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_attention_losses_compare_where_attention_goes(family):
    """The last layer's attention of each stack, recomputed from queries and keys one document at a time."""
    teacher = small_model(family)
    calibration, student = calibrated(teacher), disturbed(teacher)
    task = calibration.task(*calibration.rows())
    seen = [trace(model, **task.inputs) for model in (student, teacher)]
    relation, transfer = 0.0, 0.0
    for path, stack in layer_stacks(teacher).items():
        prefix = f"{path}." if path else ""
        last = len(stack.layers) - 1
        attention = stack.layers[last].attention
        reads = isinstance(teacher, Encoder) or prefix == "encoder."
        real = task.inputs["attention_mask"] != 0 if reads else task.targets != IGNORED
        divergences, squares = [], []
        for row, count in enumerate(np.count_nonzero(real, axis=1)):
            scores, probabilities = [], []
            for found in seen:
                name = f"{prefix}layers.{last}.attention"
                query, key = (found[f"{name}.{part}"][row : row + 1, :count] for part in ("queries", "keys"))
                form = {"scale": attention.scale, "causal": attention.causal, "window": attention.window}
                form["lookahead"] = attention.lookahead
                probabilities.append(attention_probabilities(query, key, **form)[0].astype(float))
                repeated = np.repeat(key[0], query.shape[2] // key.shape[2], axis=1)
                scores.append(attention.scale * np.einsum("thd,shd->hts", query[0], repeated))
            q, p = (np.maximum(x, 1e-30) for x in probabilities)
            divergences.append(np.sum(p * np.log(p / q), axis=-1).ravel())
            squares.append(((scores[0] - scores[1]) ** 2)[probabilities[1] > 0])
        relation += np.mean(np.concatenate(divergences))
        transfer += np.mean(np.concatenate(squares))
    base = loss_of(student, calibration, soft_weight=0.0)
    found = loss_of(student, calibration, soft_weight=0.0, relation_weight=1.0) - base
    assert found == pytest.approx(relation, rel=2e-3, abs=1e-4)
    found = loss_of(student, calibration, soft_weight=0.0, attention_weight=1.0) - base
    assert found == pytest.approx(transfer, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_every_loss_becomes_small_by_training(family, weight):
    teacher = small_model(family)
    calibration, student = calibrated(teacher), disturbed(teacher)
    step = Distill(steps=12, learning_rate=2e-3, batch_size=6, soft_weight=1.0, **{weight: 30.0})
    trained, _ = compress(student, [step], calibration)

    def inner(model):
        return loss_of(model, calibration, **{weight: 1.0}) - loss_of(model, calibration)

    assert 0 < inner(trained) < 0.9 * inner(student)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_narrow_student_learns_states_through_a_projection_that_is_dropped(family):
    teacher = small_model(family)
    calibration = calibrated(teacher)
    student = FreshStudent(1, hidden_size=teacher.config.hidden_size // 2)(teacher)
    step = Distill(steps=3, learning_rate=1e-2, hidden_weight=1.0, layers="uniform", batch_size=6)
    trained, _ = compress(student, [step], calibration)
    assert_config_equals_shapes(trained)
    assert type(trained) is type(teacher) and trained.config == student.config
    loss = distillation_loss(calibration, step)
    projection = Linear(np.ones((teacher.config.hidden_size, student.config.hidden_size), np.float32))

    def both(learner, *rows):
        return loss(learner["student"], *rows, learner["projection"])

    _, gradients = value_and_grad(both)({"student": student, "projection": projection}, *calibration.rows())
    assert np.any(gradients["projection"].weight)
    with pytest.raises(ConfigError, match="cosine_weight needs states of the teacher's width"):
        compress(student, [replace(step, cosine_weight=1.0)], calibration)


@settings(max_examples=30)
@given(drawn(), st.integers(0, 3))
def test_a_fresh_student_has_the_shapes_that_it_is_given_and_nothing_of_the_teacher(case, seed):
    teacher = case.model()
    layers = min(len(stack.layers) for stack in layer_stacks(teacher).values())
    student = FreshStudent(layers, hidden_size=6, intermediate_size=5, num_attention_heads=2, seed=seed)
    if isinstance(teacher, Decoder):
        student = replace(student, num_key_value_heads=1)
    small = student(teacher)
    assert_config_equals_shapes(small)
    found = small.config.num_hidden_layers, small.config.hidden_size, small.config.intermediate_size
    assert found == (layers, 6, 5)
    assert_same(small, student(teacher))
    other = replace(student, seed=seed + 1)(teacher)
    assert np.any(small.embedding.table != other.embedding.table)
    same_widths = FreshStudent(layers)(teacher)
    kept = KeepLayers(*(layer_map("uniform", layers, len(s.layers)) for s in layer_stacks(teacher).values()))(teacher)
    assert same_widths.config == kept.config
    assert np.any(same_widths.embedding.table != teacher.embedding.table)


@pytest.mark.parametrize("family", WRITERS)
def test_a_continuation_is_the_first_half_and_what_the_model_writes_after_it(family):
    model = small_model(family)
    calibration = calibrated(model)
    token_ids, labels = calibration.rows()
    written_ids, written_labels = continue_documents(model, token_ids, labels)
    for row, document in enumerate(calibration.documents):
        middle = len(document) // 2
        continuation = generate(model, document[None, :middle], len(document) - middle)[0]
        np.testing.assert_array_equal(written_ids[row, :middle], document[:middle])
        np.testing.assert_array_equal(written_ids[row, middle : len(document)], continuation)
        real = written_labels[row] != IGNORED
        np.testing.assert_array_equal(written_labels[row][real], written_ids[row][real])
        ends = [] if isinstance(model, EncoderDecoder) else np.flatnonzero(continuation == model.config.eos_token_id)
        assert np.count_nonzero(real) == (middle + ends[0] + 1 if len(ends) else len(document))
    drawn_ids = [continue_documents(model, token_ids, labels, temperature=30.0, seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn_ids[0], drawn_ids[1])
    assert np.any(drawn_ids[0] != drawn_ids[2])


def test_a_text_ends_with_the_end_token_of_its_writer():
    model = small_model("llama")
    calibration = calibrated(model)
    token_ids, labels = calibration.rows()
    middles = np.count_nonzero(labels != IGNORED, axis=1) // 2
    first = continue_documents(model, token_ids, labels)[0][0, middles[0]]
    ending = model.replace(config=replace(model.config, eos_token_id=int(first)))
    _, written = continue_documents(ending, token_ids, labels)
    assert written[0, middles[0]] == first and np.all(written[0, middles[0] + 1 :] == IGNORED)


@pytest.mark.parametrize("family", WRITERS)
def test_on_the_text_of_teacher_and_student_other_things_are_learned(family):
    model = small_model(family)
    calibration = calibrated(model)
    student = disturbed(model, 0.5)
    trained = {
        (text, share): Distill(steps=2, batch_size=4, soft_weight=0.5, text=text, text_share=share)(
            student, calibration
        )
        for text, share in (("documents", 1.0), ("teacher", 1.0), ("student", 1.0), ("student", 0.0))
    }
    assert_same(trained["student", 0.0], trained["documents", 1.0])
    for one, other in (("documents", "teacher"), ("teacher", "student"), ("student", "documents")):
        weights = [trained[text, 1.0].embedding.table for text in (one, other)]
        assert np.any(weights[0] != weights[1])
    again = Distill(steps=2, batch_size=4, soft_weight=0.5, text="student")(student, calibration)
    assert_same(again, trained["student", 1.0])


def test_the_calibration_keeps_its_documents_while_others_are_written():
    model = small_model("llama")
    calibration = calibrated(model)
    before = [document.copy() for document in calibration.documents]
    Distill(steps=2, text="student")(disturbed(model), calibration)
    for document, old in zip(calibration.documents, before, strict=True):
        np.testing.assert_array_equal(document, old)


def test_encoders_write_nothing():
    model = small_model("bert")
    for text in ("teacher", "student"):
        with pytest.raises(ConfigError, match="cannot generate"):
            compress(model, [Distill(steps=1, text=text)], calibrated(model))


def test_a_student_learns_what_its_teacher_says_at_a_temperature():
    model = small_model("llama")
    calibration, student = calibrated(model), disturbed(model)
    task = calibration.task(*calibration.rows())
    said = student(**task.inputs), model(**task.inputs)
    expected = soft_target_loss(*said, 3.0, mask=task.targets != IGNORED)
    assert loss_of(student, calibration, temperature=3.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": "sideways"},
        {"layers": "middle"},
        {"text": "nobody"},
        {"soft_weight": 1.5},
        {"soft_weight": -0.5},
        {"text_share": 2.0},
        {"hidden_weight": -1.0},
        {"cosine_weight": np.nan},
        {"value_weight": np.inf},
        {"divergence": "jensen_shannon", "beta": 1.0},
        {"divergence": "reverse", "top_k": 4},
        {"top_k": 0},
        {"temperature": 0.0},
        {"steps": True},
    ],
)
def test_settings_that_mean_nothing_are_refused(changes):
    model = small_model("llama")
    with pytest.raises(ConfigError):
        compress(disturbed(model), [Distill(**({"steps": 1} | changes))], calibrated(model))


def test_students_that_cannot_be_compared_with_their_teacher_are_refused():
    model = small_model("llama")
    calibration = calibrated(model)
    fewer_heads = FreshStudent(1, num_attention_heads=2, num_key_value_heads=1)(model)
    for weight, heads in (("attention", "num_attention"), ("relation", "num_attention"), ("value", "num_key_value")):
        with pytest.raises(ConfigError, match=f"{heads}_heads"):
            compress(fewer_heads, [Distill(steps=1, **{f"{weight}_weight": 1.0})], calibration)
    compress(fewer_heads, [Distill(steps=1, hidden_weight=1.0)], calibration)
    with pytest.raises(ConfigError, match="cannot learn from"):
        compress(small_model("bert"), [Distill(steps=1)], calibration)
    deeper = replace(calibration, teacher=KeepLayers((0,))(model))
    with pytest.raises(ConfigError, match="student_layers"):
        compress(model, [Distill(steps=1, hidden_weight=1.0, layers="uniform")], deeper)
    with pytest.raises(ConfigError, match="num_key_value_heads is only for decoders"):
        FreshStudent(1, num_key_value_heads=1)(small_model("bert"))
    with pytest.raises(ConfigError, match="student_layers"):
        FreshStudent(9)(model)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_distillation_leaves_model_and_teacher_as_they_were(family):
    model = small_model(family)
    student = disturbed(KeepLayers(*layer_numbers(model))(model))
    before = [map_arrays(lambda _, x: x.copy(), m) for m in (student, model)]
    compress(student, [Distill(steps=1, **EVERYTHING)], calibrated(model))
    assert_same(student, before[0])
    assert_same(model, before[1])


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_cosine_is_that_of_the_last_states_at_tokens_that_are_no_padding(family):
    teacher = small_model(family)
    calibration, student = calibrated(teacher), disturbed(teacher, 0.3)
    task = calibration.task(*calibration.rows())
    real = task.inputs["attention_mask"] != 0 if isinstance(teacher, Encoder) else task.targets != IGNORED
    one, other = (model.hidden_states(**task.inputs)[real].astype(float) for model in (student, teacher))
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    found = loss_of(student, calibration, soft_weight=0.0, cosine_weight=1.0)
    found -= loss_of(student, calibration, soft_weight=0.0)
    assert found == pytest.approx(np.mean(1 - np.sum(one * other, axis=-1) / lengths), rel=1e-3, abs=1e-5)
