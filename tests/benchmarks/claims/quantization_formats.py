"""Claims about numbers in few bits, without calibration: what each format costs. Measured on a third of the test
documents for each seed, or on matrices of normal numbers drawn with it."""

import functools

import numpy as np

from tests.benchmarks.claims.claim import Claim, Verdict, in_order, spread
from tinyslm.compression.quantization import (
    float4_levels,
    integer4_levels,
    normal_float4_levels,
    quantize,
    quantize_to_levels,
)
from tinyslm.evaluation import footprint, measure_loss
from tinyslm.recipes import Quantize, QuantizeFormat, QuantizeStatic
from tinyslm.recipes.linear_layers import compressible_layers

SHARES = 3  # of the test documents, one for each seed


@functools.cache
def share_loss(bench, seed, step=None):
    """Nats per token on the share of a seed, of the model after a step."""
    model = bench.model if step is None else bench.compress([step], seed)
    return measure_loss(model, bench.test[seed % SHARES :: SHARES]).nats


def measure_int8(bench, seed):
    """Bytes, and the loss, of the dense model and with 8 bits per weight."""
    dense, small = footprint(bench.model).bytes, footprint(bench.compress([Quantize()], seed)).bytes
    return {
        "times fewer bytes": dense / small,
        "relative change": share_loss(bench, seed, Quantize()) / share_loss(bench, seed) - 1,
    }


def judge_int8(results) -> Verdict:
    """Nearly four times (the scales take the rest), and less than a thousandth of the loss for every seed."""
    ratio, change = results["times fewer bytes"], results["relative change"]
    holds = bool(np.all(ratio > 3.8) and np.all(np.abs(change) < 1e-3))
    return Verdict(holds, f"{ratio[0]:.2f} times fewer bytes, loss {spread(100 * change)} % higher")


def measure_formats(bench, seed):
    """Losses with 4-bit weights in the blocks, one scale for each 64, and the errors of these weights."""
    steps = {"NF4": QuantizeFormat("nf4"), "FP4": QuantizeFormat("fp4"), "INT4": Quantize(bits=4, group_size=64)}
    losses = {name: share_loss(bench, seed, step) for name, step in steps.items()}
    weights = [layer.weight for layer in compressible_layers(bench.model).values()]
    return losses | {f"{name} error": error for name, error in format_errors(weights).items()}


def judge_formats(results) -> Verdict:
    """The published order of the losses."""
    verdict = in_order(results, ("NF4", "FP4", "INT4"))
    errors = ", ".join(f"{100 * np.mean(results[f'{name} error']):.2f} % {name}" for name in ("NF4", "FP4", "INT4"))
    return Verdict(verdict.holds, f"{verdict.ours}; square error of the weights {errors}")


def measure_format_errors(bench, seed):
    """The errors on a matrix of normal numbers."""
    return format_errors([np.random.default_rng(seed).standard_normal((512, 1024))])


def format_errors(weights) -> dict:
    """{format: relative mean square error} of matrices in 4 bits, one scale for each 64 numbers. NF4 has 16 levels, the
    others 15: two of FP4's codes are 0, and integers are symmetric."""
    levels = {"NF4": normal_float4_levels(), "FP4": float4_levels(), "INT4": integer4_levels()}
    total = sum(np.sum(np.square(weight)) for weight in weights)
    return {name: sum(_square_error(weight, each) for weight in weights) / total for name, each in levels.items()}


def _square_error(weight, levels):
    return np.sum(np.square(quantize_to_levels(weight, levels).dequantize(levels) - weight))


def judge_format_errors(results):
    """The published order in every seed."""
    holds = bool(np.all(results["NF4"] < results["FP4"]) and np.all(results["FP4"] < results["INT4"]))
    return Verdict(holds, ", ".join(f"{spread(100 * values, 2)} % {name}" for name, values in results.items()))


def measure_groups(bench, seed):
    """Losses with 4-bit integers and finer and finer scales."""
    return {
        "groups of 64": share_loss(bench, seed, Quantize(bits=4, group_size=64)),
        "rows": share_loss(bench, seed, Quantize(bits=4)),
        "whole matrices": share_loss(bench, seed, Quantize(bits=4, per_channel=False)),
    }


def measure_bits(bench, seed):
    """How many times larger the mean square error gets with each bit less, from 8 to 3 bits, on normal numbers."""
    weight = np.random.default_rng(seed).standard_normal((1024, 1024))
    errors = [np.mean(np.square(quantize(weight, bits=bits, axis=0).dequantize() - weight)) for bits in range(8, 2, -1)]
    ratios = np.divide(errors[1:], errors[:-1])
    return {"least": min(ratios), "most": max(ratios)}


def judge_bits(results) -> Verdict:
    """Between 3.5 and 5.5 times for every bit and seed: 4 for an even distribution, and the range of codes halves a
    little less than exactly: 127, 63, 31, 15, 7, 3."""
    holds = bool(np.all(results["least"] > 3.5) and np.all(results["most"] < 5.5))
    return Verdict(holds, f"{spread(results['least'], 2)} to {spread(results['most'], 2)} times per bit")


def measure_activations(bench, seed):
    """Losses of integer products with ranges of the inputs per token, and fixed beforehand."""
    return {
        "per token": share_loss(bench, seed, Quantize(dynamic_activations=True)),
        "fixed, by percentile": share_loss(bench, seed, QuantizeStatic("percentile", 99.99)),
        "fixed, whole range": share_loss(bench, seed, QuantizeStatic()),
    }


CLAIMS = (
    Claim(
        "int8-weights",
        "8 bits per weight take four times fewer bytes and change the loss by less than 0.1 %.",
        "BERT-base: below 1 % relative loss of accuracy with 8 bits (Zafrir et al. 2019, Q8BERT)",
        measure_int8,
        judge_int8,
        "A step of 8 bits is far smaller than what the loss can feel.",
    ),
    Claim(
        "four-bit-error",
        "Of 4-bit formats, NormalFloat-4 has the smallest error on normal weights, then floating point, then integers.",
        "the order of Pile-CC perplexities in Dettmers et al. 2023 (QLoRA), table 2",
        measure_format_errors,
        judge_format_errors,
        "Levels of NormalFloat-4 are close together where normal weights are dense.",
    ),
    Claim(
        "four-bit-formats",
        "Of 4-bit formats, NormalFloat-4 loses least, then floating point, then integers.",
        "Pile-CC, mean perplexity: NF4 with double quantization 27.41, FP4 (E2M1) 31.07, Int4 34.34 "
        "(Dettmers et al. 2023, QLoRA, table 2)",
        measure_formats,
        judge_formats,
        "The weights' errors are in the published order. Those of floating point and integers are nearly equal, and so "
        "are the losses: which is lower is chance.",
    ),
    Claim(
        "scales",
        "The fewer weights share a scale, the lower the loss: groups, rows, whole matrices (4 bits).",
        "usual finding, among others Frantar et al. 2023 and Dettmers & Zettlemoyer 2023",
        measure_groups,
        lambda results: in_order(results, ("groups of 64", "rows", "whole matrices")),
        "The largest weight of a group fixes its step, and in smaller groups it is smaller.",
    ),
    Claim(
        "bits-error",
        "Each bit less makes the square error of rounding about four times as large.",
        "the step doubles, and its square is the error times 12 (Bennett 1948)",
        measure_bits,
        judge_bits,
        "The error of rounding is even over a step, and a bit less doubles the step.",
    ),
    Claim(
        "int8-activations",
        "A range for each token costs less than one that is fixed, and clipping the rarest values less than the whole.",
        "the usual finding; Xiao et al. 2023 (SmoothQuant), table 1, see little difference at 6.7B and none above",
        measure_activations,
        lambda results: in_order(results, ("per token", "fixed, by percentile", "fixed, whole range")),
        "A range per token is best. Refuted at this size for clipping: eight bits are fine enough for the whole range, "
        "and clipping changes the largest values.",
    ),
)
