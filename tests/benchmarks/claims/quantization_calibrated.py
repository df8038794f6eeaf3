"""Claims about quantization that looks at data: outliers, GPTQ, training with rounded weights, the key/value cache."""

import functools

import numpy as np

from tests.benchmarks.claims.claim import Claim, Verdict, in_order, spread
from tests.transforms import inject_outliers
from tinyslm.compression.quantization import OutlierLinear
from tinyslm.generation import QuantizedKeyValueCache
from tinyslm.models.losses import following_labels
from tinyslm.ops import cross_entropy
from tinyslm.recipes import Quantize, QuantizeGPTQ, QuantizeOutlierAware, Smooth, TrainQuantized
from tinyslm.tree import named_modules

OUTLIER_CHANNELS, OUTLIER_FACTOR = 6, 1000.0
TRAINING_STEPS = 100
CACHED_DOCUMENTS = 100


def measure_outliers(bench, seed):
    """Losses of a model with outliers, which computes the same, after 8-bit products of three kinds; and how much of
    the blocks LLM.int8() leaves in floating point. The channels differ from seed to seed."""
    channels = np.random.default_rng(seed).choice(bench.model.config.hidden_size, OUTLIER_CHANNELS, replace=False)
    model = inject_outliers(bench.model, channels, OUTLIER_FACTOR)
    decomposed = bench.compress([QuantizeOutlierAware()], seed, model)
    layers = named_modules(decomposed, OutlierLinear).values()
    return {
        "dense": bench.loss(model),
        "W8A8": bench.loss(bench.compress([Quantize(dynamic_activations=True)], seed, model)),
        "SmoothQuant": bench.loss(bench.compress([Smooth(), Quantize(dynamic_activations=True)], seed, model)),
        "LLM.int8()": bench.loss(decomposed),
        "columns": sum(len(layer.columns) for layer in layers) / sum(layer.in_features for layer in layers),
    }


def judge_outliers(results) -> Verdict:
    """Each remedy takes away nine tenths of what plain W8A8 loses, for every seed."""
    lost = {name: results[name] - results["dense"] for name in ("W8A8", "SmoothQuant", "LLM.int8()")}
    holds = all(np.all(lost[name] < 0.1 * lost["W8A8"]) for name in ("SmoothQuant", "LLM.int8()"))
    text = "loss " + ", ".join(f"{spread(each, 4)} {name}" for name, each in lost.items())
    return Verdict(holds, f"{text} ({100 * np.mean(results['columns']):.0f} % of the columns in floating point)")


@functools.cache
def gptq_loss(bench, seed, bits):
    """Loss after GPTQ, which several claims ask for."""
    return bench.loss(bench.compress([QuantizeGPTQ(bits=bits)], seed))


@functools.cache
def rounded_loss(bench, bits):
    """Loss after rounding to the nearest, which no calibration changes."""
    return bench.loss(Quantize(bits=bits)(bench.model))


def measure_gptq(bench, seed):
    """Losses of both at 4, 3 and 2 bits, one scale per row."""
    found = {}
    for bits in (4, 3, 2):
        found |= {f"GPTQ {bits}": gptq_loss(bench, seed, bits), f"nearest {bits}": rounded_loss(bench, bits)}
    return found


def judge_gptq(results) -> Verdict:
    """GPTQ is better for every seed and number of bits, and its lead grows as bits fall."""
    gaps = [results[f"nearest {bits}"] - results[f"GPTQ {bits}"] for bits in (4, 3, 2)]
    holds = all(np.all(gap > 0) for gap in gaps) and np.mean(gaps[0]) < np.mean(gaps[1]) < np.mean(gaps[2])
    pairs = ((bits, np.mean(results[f"nearest {bits}"]), spread(results[f"GPTQ {bits}"])) for bits in (4, 3, 2))
    text = "; ".join(f"{bits} bits {nearest:.3f} -> {ours}" for bits, nearest, ours in pairs)
    return Verdict(bool(holds), f"loss, nearest -> GPTQ: {text}")


def measure_training(bench, seed):
    """Losses at 2 bits with one scale per row."""
    trained = bench.compress([TrainQuantized(steps=TRAINING_STEPS, bits=2)], seed)
    return {"trained": bench.loss(trained), "GPTQ": gptq_loss(bench, seed, 2), "nearest": rounded_loss(bench, 2)}


def measure_cache(bench, seed):
    """Loss per token with keys and values in 8 bits, and without, on documents that differ from seed to seed; the
    bytes are those of one token and head: D codes and a scale, against D numbers."""
    documents = bench.test[seed * CACHED_DOCUMENTS : (seed + 1) * CACHED_DOCUMENTS]
    nats = {"exact": 0.0, "int8": 0.0}
    for document in documents:
        token_ids = np.asarray(document)[None, : bench.model.config.max_position_embeddings]
        labels = following_labels(token_ids)
        for name, cache in (("exact", None), ("int8", QuantizedKeyValueCache(token_ids.shape[1]))):
            nats[name] += float(cross_entropy(bench.model(token_ids, cache=cache), labels)) / len(documents)
    head_dim = bench.model.config.head_dim
    return nats | {"bytes": (head_dim + 4) / (4 * head_dim)}


def judge_cache(results) -> Verdict:
    """The loss changes by less than a thousandth of itself for every seed."""
    change = results["int8"] - results["exact"]
    holds = bool(np.all(np.abs(change) < 1e-3 * results["exact"]))
    return Verdict(holds, f"loss {spread(change, 5)} higher, {100 * np.mean(results['bytes']):.0f} % of the bytes")


CLAIMS = [
    Claim(
        "int8-outliers",
        "With outlier features, plain W8A8 loses much; SmoothQuant and LLM.int8() take nine tenths of it back.",
        "OPT-175B, accuracy: 66.9 % dense, 35.5 % W8A8, 66.8 % SmoothQuant, 66.7 % LLM.int8() "
        "(Xiao et al. 2023, table 3)",
        measure_outliers,
        judge_outliers,
        "A few large features fix the step of all. Both remedies take them out of the product of integers.",
    ),
    Claim(
        "gptq",
        "GPTQ beats rounding to the nearest, and by more the fewer the bits.",
        "OPT-125M, WikiText2: 37.28 nearest, 31.12 GPTQ at 4 bits; OPT-175B at 3 bits about 7300 and 8.68 "
        "(Frantar et al. 2023)",
        measure_gptq,
        judge_gptq,
        "Each column makes up for the errors of the ones before it, and with fewer bits there is more to make up for.",
    ),
    Claim(
        "quantization-training",
        "At 2 bits training with rounded weights beats rounding after training, GPTQ included.",
        "LLaMA-7B at 4 bits: better than all methods without training (Liu et al. 2023, LLM-QAT)",
        measure_training,
        lambda results: in_order(results, ("trained", "GPTQ", "nearest")),
        "At 2 bits the errors are too large for a correction layer by layer; training corrects them together.",
    ),
    Claim(
        "int8-cache",
        "Keys and values in 8 bits cost no loss.",
        "OPT-175B: in 4 bits negligible loss of accuracy (Sheng et al. 2023, FlexGen)",
        measure_cache,
        judge_cache,
        "The error of a key or value is far below the differences that attention feels.",
    ),
]
