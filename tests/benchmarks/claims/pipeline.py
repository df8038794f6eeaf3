"""Techniques one after the other, against each of them alone with as many bytes."""

from tests.benchmarks.claims.claim import Claim, Verdict, in_order, spread
from tinyslm.evaluation import footprint
from tinyslm.recipes import Distill, FreshStudent, QuantizeGPTQ, SliceNeurons, TrainQuantized

STEPS = 80  # of training, the same for all that are trained
RATIOS = {3: 0.6, 2: 0.48}  # of the neurons: with one bit more per weight no more bytes than at so many bits


def pipeline(bench, seed):
    """Losses, and megabytes, of quantization alone, of a small student, and of slice -> distil -> quantize."""
    recover = Distill(STEPS)
    recipes = {"student": [FreshStudent(3, 96, 224, 3, 3, seed), recover]}
    for bits, ratio in RATIOS.items():
        recipes[f"GPTQ, {bits} bits"] = [QuantizeGPTQ(bits=bits)]
        recipes[f"trained, {bits} bits"] = [TrainQuantized(STEPS, bits)]
        recipes[f"pipeline, {bits + 1} bits"] = [SliceNeurons(ratio), recover, QuantizeGPTQ(bits=bits + 1)]
    found = {"dense megabytes": footprint(bench.model).bytes / 1e6}
    for name, steps in recipes.items():
        model = bench.compress(steps, seed)
        found |= {name: bench.loss(model), f"{name} megabytes": footprint(model).bytes / 1e6}
    return found


def judge_pipeline(results) -> Verdict:
    """At both sizes the pipeline has the lowest loss of all, with no more bytes than any of them."""
    holds, parts = True, []
    for bits in RATIOS:
        combined, alone = f"pipeline, {bits + 1} bits", [f"GPTQ, {bits} bits", f"trained, {bits} bits"]
        if bits == 3:
            alone.append("student")
        size = max(results[f"{combined} megabytes"])
        fits = all(size <= min(results[f"{name} megabytes"]) for name in alone)
        holds &= fits and all(in_order(results, [combined, name]).holds for name in alone)
        losses = ", ".join(f"{spread(results[name])} {name}" for name in [combined, *alone])
        parts.append(f"{max(results['dense megabytes']) / size:.1f} times fewer bytes: {losses}")
    return Verdict(bool(holds), "; ".join(parts))


CLAIMS = (
    Claim(
        "pipeline",
        "Slicing, distilling and quantizing, one after the other, keeps more than one technique with as many bytes.",
        "Deep Compression: pruned, quantized and coded 35 to 49 times smaller at no loss (Han et al. 2016)",
        pipeline,
        judge_pipeline,
        "Refuted at this size: the pipeline beats GPTQ and a small student, but not training with rounded weights, "
        "which keeps all neurons.",
    ),
)
