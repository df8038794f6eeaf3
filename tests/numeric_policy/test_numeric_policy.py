"""The policy for numbers in arrays (`tinyslm.errors`), tested on every public function and every layer."""

import contextlib
import inspect

import numpy as np
import pytest
from hypothesis import given, settings

from tests.numeric_policy.case import (
    KEPT,
    REFUSED,
    in_dtype,
    is_real,
    numbers,
    real_paths,
    with_array,
    with_entry,
)
from tests.numeric_policy.distillation_cases import CASES as DISTILLATION
from tests.numeric_policy.factorization_cases import CASES as FACTORIZATION
from tests.numeric_policy.model_cases import GENERATION, LAYERS, TRAINING
from tests.numeric_policy.ops_cases import CASES as OPS
from tests.numeric_policy.pruning_cases import CASES as PRUNING
from tests.numeric_policy.quantization_cases import CASES as QUANTIZATION
from tests.strategies import generators, seeds
from tinyslm import ops
from tinyslm.compression import distillation, factorization, pruning, quantization
from tinyslm.errors import DataError, Error
from tinyslm.tree import map_arrays, named_arrays

CASES = OPS | DISTILLATION | PRUNING | QUANTIZATION | FACTORIZATION | LAYERS | TRAINING | GENERATION
WITH_REAL_ARRAYS = [name for name, case in CASES.items() if real_paths(case.arguments(np.random.default_rng(0)))]
WITH_ARRAYS = [name for name, case in CASES.items() if named_arrays(case.arguments(np.random.default_rng(0)))]
few = settings(max_examples=max(1, settings().max_examples // 25))
largest32, smallest32 = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


def attempt(case, arguments):
    """The result as a list of arrays, or None for an Error of the library. Another exception is passed on."""
    with np.errstate(all="ignore"), contextlib.suppress(Error):
        return case.call(arguments)
    return None


def identical(found, expected):
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def same_numbers(found, expected, rtol, steps=0):
    """Whether the finite numbers agree, relative to themselves and to the largest.

    Numbers beyond float32 must not be finite.  steps: the largest difference of integers.
    """
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            return False
        if not is_real(one):
            if np.any(np.abs(one.astype(np.int64) - other.astype(np.int64)) > steps):
                return False
            continue
        wide = other.astype(np.float64)
        representable = np.abs(wide) <= largest32
        largest = np.max(np.abs(wide), initial=0, where=representable)
        near = np.abs(one - wide) <= rtol * (np.abs(wide) + largest) + 8 * smallest32
        if not np.all(near | ~np.isfinite(one)):
            return False
    return True


@pytest.mark.parametrize(
    ("module", "cases"),
    [
        (ops, OPS),
        (distillation, DISTILLATION),
        (pruning, PRUNING),
        (quantization, QUANTIZATION),
        (factorization, FACTORIZATION),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_every_public_function_has_a_case(module, cases):
    without_numbers = {"Rope"}
    public = {name for name in module.__all__ if callable(getattr(module, name))} - without_numbers
    assert {name.partition(",")[0] for name in cases} == public


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_inputs(name, dtype):
    case = CASES[name]
    result = case.function(**in_dtype(case.arguments(np.random.default_rng(0)), dtype))
    found = {each.dtype for each in numbers(result) if isinstance(each, np.ndarray | np.floating) and is_real(each)}
    assert found <= {np.dtype(case.result or dtype)}


@pytest.mark.parametrize("name", CASES)
def test_leaving_a_default_out_is_passing_it(name):
    case = CASES[name]
    arguments = case.arguments(np.random.default_rng(0))
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(case.function).parameters.items()
        if parameter.default is not parameter.empty and key not in {*arguments, "for_vjp"}  # `differentiable` sets that
    }
    assert identical(case.call(arguments | defaults), case.call(arguments))


LAYOUTS = {
    "stored by columns": np.asfortranarray,
    "every second entry": lambda array: np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array,
    "reversed": lambda array: array[::-1].copy()[::-1] if array.ndim else array,
}


@pytest.mark.parametrize("name", WITH_ARRAYS)
@few
@given(seeds)
def test_the_memory_layout_of_arguments_has_no_effect_and_arguments_are_not_changed(name, seed):
    case = CASES[name]
    arguments = case.arguments(np.random.default_rng(seed))
    expected = case.call(arguments)
    for change in LAYOUTS.values():
        viewed = map_arrays(lambda _, array, change=change: read_only(change(array)), arguments)
        before = {path: array.copy() for path, array in named_arrays(viewed).items()}
        assert same_numbers(case.call(viewed), expected, 1e-9, case.steps)
        for path, array in named_arrays(viewed).items():
            np.testing.assert_array_equal(array, before[path], err_msg=path)


def read_only(array):
    array = array.view()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("name", WITH_REAL_ARRAYS)
@few
@given(seeds)
def test_repeated_rows_without_memory_of_their_own_are_like_copies(name, seed):
    case = CASES[name]
    arguments = case.arguments(np.random.default_rng(seed))
    for path, array in named_arrays(arguments).items():
        if array.ndim and is_real(array):
            broadcast = with_array(arguments, path, lambda array: np.broadcast_to(array[:1], array.shape))
            copied = with_array(arguments, path, lambda array: np.broadcast_to(array[:1], array.shape).copy())
            found, expected = attempt(case, broadcast), attempt(case, copied)
            assert (found is None) == (expected is None)
            assert found is None or same_numbers(found, expected, 1e-9, case.steps)


def as_integers(array):
    """8-bit integers with the largest magnitude of their dtype, which overflows if it is negated or squared."""
    scaled = np.round(array / np.max(np.abs(array)) * 127)
    if np.all(array >= 0):
        return (2 * scaled).astype(np.uint8)
    scaled.reshape(-1)[np.argmin(array)] = -128
    return scaled.astype(np.int8)


@pytest.mark.parametrize("name", WITH_REAL_ARRAYS)
@pytest.mark.parametrize("change", [as_integers, lambda array: array > 0], ids=["int8", "bool"])
@few
@given(generator=generators())
def test_integers_and_booleans_are_refused_or_computed_in_float64(name, change, generator):
    case = CASES[name]
    arguments = case.arguments(generator)
    for path in real_paths(arguments):
        if path.startswith("layer."):  # the class of the layer, or the reader of files, checks the dtype of its arrays
            continue
        integers = with_array(arguments, path, change)
        found = attempt(case, integers)
        if case.integers == REFUSED:
            assert found is None, path
            continue
        expected = attempt(case, with_array(integers, path, lambda array: array.astype(np.float64)))
        assert (found is None) == (expected is None), path
        assert found is None or same_numbers(found, expected, 0 if case.integers != KEPT else 1e-9), path
        assert found is None or case.integers == KEPT or [x.dtype for x in found] == [x.dtype for x in expected]


@pytest.mark.parametrize("name", WITH_REAL_ARRAYS)
@few
@given(generator=generators())
def test_a_finite_number_never_hides_nan_or_infinity(name, generator):
    """Also if a single entry is not finite, and all others are."""
    case = CASES[name]
    arguments = case.arguments(generator)
    base = attempt(case, arguments)
    for path in real_paths(arguments):
        array = named_arrays(arguments)[path]
        index = tuple(int(generator.integers(size)) for size in array.shape)
        results = {
            value: attempt(case, with_entry(arguments, path, index, value)) for value in (np.nan, np.inf, -np.inf)
        }
        others = [attempt(case, with_entry(arguments, path, index, array[index] * c)) for c in (-3.0, 0.3, 40.0)]
        has_effect = not all(each is not None and identical(each, base) for each in others)
        if not has_effect:
            continue
        for value, found in results.items():
            if found is None:
                continue
            assert case.special != REFUSED, f"{path}[{index}] = {value} is accepted"
            if all(np.all(np.isfinite(each)) for each in found):
                limit = attempt(case, with_entry(arguments, path, index, np.sign(value) * 1e100))
                assert limit is not None, (path, value)
                assert same_numbers(found, limit, 1e-9), f"{path}[{index}] = {value} is hidden"


def scaled(arguments, group, magnitude):
    """The arguments with another largest magnitude of all arrays of one argument, or of one field of a layer."""
    paths = [path for path in real_paths(arguments) if group_of(path) == group]
    largest = max(np.max(np.abs(named_arrays(arguments)[path])) for path in paths)

    def change(path, array):
        return (array / largest * array.dtype.type(magnitude)).astype(array.dtype) if path in paths else array

    return map_arrays(change, arguments)


def group_of(path):
    return path if path.startswith("layer.") else path.partition(".")[0]


@pytest.mark.parametrize("name", WITH_REAL_ARRAYS)
@few
@given(generator=generators())
def test_numbers_of_every_size_give_the_right_result_or_none(name, generator):
    """float32 is compared with float64. float64 must be finite, refused, or passed on by operations."""
    case = CASES[name]
    arguments = in_dtype(case.arguments(generator), np.float32)
    for group in dict.fromkeys(map(group_of, real_paths(arguments))):
        for magnitude in (1e-30, 1e19, 1e30, 3e38):
            narrow = scaled(arguments, group, magnitude)
            found, expected = attempt(case, narrow), attempt(case, in_dtype(narrow, np.float64))
            if found is None:
                continue
            if case.special == REFUSED:
                assert all(np.all(np.isfinite(each)) for each in found), (group, magnitude)
            assert expected is not None, (group, magnitude)
            assert same_numbers(found, expected, 1e-3, case.steps), (group, magnitude)
        for magnitude in (1e160, 1e300):
            found = attempt(case, scaled(in_dtype(arguments, np.float64), group, magnitude))
            if case.special == REFUSED and found is not None:
                assert all(np.all(np.isfinite(each)) for each in found), (group, magnitude)


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_arrays_without_entries_give_no_nan_and_no_foreign_exception(name):
    """Every axis becomes empty, in all arrays that have it. The arrays of a layer stay as they are."""
    case = CASES[name]
    arguments = case.arguments(np.random.default_rng(0))
    arrays = {path: array for path, array in named_arrays(arguments).items() if not path.startswith("layer.")}
    for empty in {size for array in arrays.values() for size in array.shape} - {1} - case.bound_sizes:

        def cut(path, array, empty=empty):
            if path.startswith("layer."):
                return array
            return array[tuple(slice(0 if size == empty else size) for size in array.shape)]

        if "layer" in arguments and empty == arrays["x" if "x" in arrays else "token_ids"].shape[-1]:
            continue  # the inputs of the layer
        found = attempt(case, map_arrays(cut, arguments))
        assert found is None or not any(np.any(np.isnan(each)) for each in found), empty


def test_an_excluded_key_has_no_probability_if_the_scores_are_near_the_lowest_number():
    """Scores of the kept keys below half of the lowest number, where an additive mask of that size would fail."""
    student, teacher = np.array([[-3e38, -3e38, 0]], np.float32), np.zeros((1, 3), np.float32)
    assert distillation.attention_relation_loss(student, teacher, mask=np.array([[1, 1, 0]])) == 0


def test_infinity_in_a_logit_outside_the_top_k_is_refused():
    tokens, log_probabilities = distillation.top_k_targets(np.array([[3.0, 2.0, 0.0, -1.0]]), 2)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="finite"):
            distillation.top_k_target_loss(np.array([[3.0, 2.0, value, -1.0]]), tokens, log_probabilities)


DIVISORS = {
    "smooth_gain": "scales",
    "smooth_weight": "scales",
    "encode": "scale",
    "fake_quantize": "scale",
    "static_linear": "input_scale",
    "StaticQuantizedLinear": "layer.input_scale",
    "FakeQuantizedLinear": "layer.factor",
}


@pytest.mark.parametrize("name", DIVISORS)
@pytest.mark.parametrize("value", [0.0, -0.1, np.nan, np.inf])
def test_a_single_divisor_that_is_not_above_0_and_finite_is_refused(name, value):
    case, path = CASES[name], DIVISORS[name]
    arguments = case.arguments(np.random.default_rng(0))
    first = (0,) * named_arrays(arguments)[path].ndim
    with pytest.raises(DataError):
        case.call(with_entry(arguments, path, first, value))


@pytest.mark.parametrize("name", [name for name in WITH_ARRAYS if CASES[name].integers != KEPT])
def test_results_have_memory_of_their_own(name):
    arguments = CASES[name].arguments(np.random.default_rng(0))
    results = [each for each in numbers(CASES[name].function(**arguments)) if isinstance(each, np.ndarray)]
    for path, array in named_arrays(arguments).items():
        assert not any(np.shares_memory(array, each) for each in results), path
