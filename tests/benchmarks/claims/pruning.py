"""Claims about removing single weights."""

import numpy as np

from tests.benchmarks.claims.claim import Claim, in_order
from tests.transforms import inject_outliers
from tinyslm.recipes import Distill, KeepLayers, PruneGradually, PruneMagnitude, PruneSparseGPT, PruneWanda

STEPS = 100  # of recovery, the same for both sides of a comparison
GRADUAL_STEPS, GRADUAL_BATCH = 200, 10  # pruning takes 120 of the steps
OUTLIERS, FACTOR = 4, 20.0  # features of each norm's output, and how much larger they become


def large_sparse(bench, seed):
    """Half of the weights of every layer, or half of the layers; both trained equally."""
    recover = Distill(STEPS)
    return {
        "large and sparse": bench.loss(bench.compress([PruneMagnitude(0.5), recover], seed)),
        "small and dense": bench.loss(bench.compress([KeepLayers((0, 2, 5)), recover], seed)),
    }


def gradual(bench, seed):
    """80 %, removed in the first 60 % of a training, or before it."""
    gradually = PruneGradually(0.8, GRADUAL_STEPS, batch_size=GRADUAL_BATCH)
    recover = Distill(GRADUAL_STEPS, batch_size=GRADUAL_BATCH)
    return {
        "gradual": bench.loss(bench.compress([gradually], seed)),
        "one shot": bench.loss(bench.compress([PruneMagnitude(0.8), recover], seed)),
    }


def outliers(bench, seed):
    """50 % without training, of the teacher with a few large features and the same function."""
    channels = np.random.default_rng(seed).choice(bench.model.config.hidden_size, OUTLIERS, replace=False)
    model = inject_outliers(bench.model, channels, FACTOR)
    return {
        "Wanda": bench.loss(bench.compress([PruneWanda(0.5)], seed, model)),
        "magnitude": bench.loss(bench.compress([PruneMagnitude(0.5)], seed, model)),
    }


def patterns(bench, seed):
    """50 % by the same scores without training."""
    return {
        "unstructured": bench.loss(bench.compress([PruneWanda(0.5)], seed)),
        "4:8": bench.loss(bench.compress([PruneWanda(0.5, "4:8")], seed)),
        "2:4": bench.loss(bench.compress([PruneWanda(0.5, "2:4")], seed)),
    }


def gap(bench, seed):
    """How much lower SparseGPT's loss is than that of magnitude, without training."""

    def difference(sparsity):
        losses = [bench.loss(bench.compress([step(sparsity)], seed)) for step in (PruneMagnitude, PruneSparseGPT)]
        return losses[0] - losses[1]

    return {"at 30 %": difference(0.3), "at 70 %": difference(0.7)}


CLAIMS = (
    Claim(
        "large-sparse",
        "A large model with half of its weights removed beats a small dense one with as many left, equally trained.",
        "MobileNet, top-1: 67.7 % at 75 % sparsity, 63.7 % dense at half the width (Zhu & Gupta 2017)",
        large_sparse,
        lambda results: in_order(results, ["large and sparse", "small and dense"]),
        "Most of the removed weights are small, so training begins near the dense model; three missing layers are "
        "not small.",
    ),
    Claim(
        "gradual-pruning",
        "Removing weights gradually while training beats removing them all before as much training (80 %).",
        "large models reach 80 to 90 % sparsity gradually with little loss (Zhu & Gupta 2017)",
        gradual,
        lambda results: in_order(results, ["gradual", "one shot"]),
        "Training makes up for the few weights of one removal before the next, which then sees what matters now.",
    ),
    Claim(
        "wanda-outliers",
        "Where some features are large, weight times input (Wanda) tells what matters, and weight alone does not.",
        "LLaMA-7B at 50 %, perplexity: Wanda 7.26, magnitude 17.29, dense 5.68 (Sun et al. 2024)",
        outliers,
        lambda results: in_order(results, ["Wanda", "magnitude"]),
        "A small weight of a large feature matters. The norms of the inputs tell the features apart; magnitudes "
        "do not.",
    ),
    Claim(
        "sparsity-patterns",
        "The freer the pattern, the lower the loss at 50 %: any weights, 4 of every 8, 2 of every 4.",
        "LLaMA-7B with Wanda, perplexity: 7.26, 8.57, 11.53 (Sun et al. 2024)",
        patterns,
        lambda results: in_order(results, ["unstructured", "4:8", "2:4"]),
        "Each restriction excludes masks that the freer pattern allows.",
    ),
    Claim(
        "pruning-gap",
        "What calibration gains over magnitude is little at low sparsity and grows with it.",
        "Llama-2-7B, perplexity of magnitude and Wanda: 5.74 and 5.52 at 30 %, 11.83 and 6.42 at 50 % (reproduction)",
        gap,
        lambda results: in_order(results, ["at 30 %", "at 70 %"]),
        "The smallest third of the weights contributes little to any output; of the rest, each has to be made up for.",
    ),
)
