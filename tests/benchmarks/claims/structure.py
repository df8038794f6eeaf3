"""Claims about removing whole parts of a model."""

from tests.benchmarks.claims.claim import Claim, Verdict, in_order, spread
from tinyslm.evaluation import footprint
from tinyslm.evaluation.parameters import parameters_by_part
from tinyslm.recipes import Distill, DropLayers, SliceNeurons

STEPS, THIRD_STEPS, RATE = 100, 200, 5e-4  # of recovery, the same for both sides of a comparison


def width_and_depth(bench, seed):
    """A third of the layers, or neurons with as many parameters; both trained equally."""
    recover = Distill(STEPS, RATE)
    dense = footprint(bench.model).parameters
    shallow = bench.compress([DropLayers(2)], seed)
    removed = dense - footprint(shallow).parameters
    ratio = 1 - removed / parameters_by_part(bench.model)["feed-forward"]
    narrow = bench.compress([SliceNeurons(ratio), recover], seed)
    return {
        "narrower": bench.loss(narrow),
        "shallower": bench.loss(bench.compress([recover], seed, shallow)),
        "parameters of the narrower": footprint(narrow).parameters,
        "parameters of the shallower": footprint(shallow).parameters,
    }


def importances(bench, seed):
    """A fifth of the neurons without any training. Random ones: of the seed's own draw."""
    methods = ("taylor_element", "activation", "random", "magnitude", "peak_to_peak")
    return {method: bench.loss(bench.compress([SliceNeurons(0.8, method)], seed)) for method in methods}


def third_less(bench, seed):
    """Two thirds of the neurons, and a distillation."""
    parts = parameters_by_part(bench.model)
    blocks = parts["attention"] + parts["feed-forward"]
    model = bench.compress([SliceNeurons(2 / 3), Distill(THIRD_STEPS, RATE)], seed)
    return {
        "share of the blocks": parts["feed-forward"] / blocks,
        "relative change of the loss": bench.loss(model) / bench.dense_loss - 1,
    }


def repair(bench, seed):
    """Half of the neurons without training."""
    return {
        "repaired": bench.loss(bench.compress([SliceNeurons(0.5, refit=True)], seed)),
        "as sliced": bench.loss(bench.compress([SliceNeurons(0.5)], seed)),
    }


def judge_third_less(results):
    """Most of the parameters, and at most 1 % more loss for every seed."""
    share, change = results["share of the blocks"], results["relative change of the loss"]
    ours = f"{100 * share[0]:.0f} % of the blocks; loss {spread(100 * change, 1)} % higher with 2/3 of the neurons"
    return Verdict(bool(share[0] > 0.5 and max(change) <= 0.01), ours)


CLAIMS = (
    Claim(
        "width-depth",
        "After recovery, a narrower model beats a shallower one with as many parameters.",
        "Llama-3.1-8B to 4.5B, MMLU: width 60.5, depth 58.7 (Sreenivas et al. 2024, Minitron in practice, table 1)",
        width_and_depth,
        lambda results: in_order(results, ["narrower", "shallower"]),
        "Neurons are removed by how little each matters; a layer is removed with all that it does.",
    ),
    Claim(
        "magnitude-random",
        "Without recovery, choosing neurons by their L2 norm can be worse than at random; Taylor scores are best.",
        "LLaMA-7B, 20 % removed, perplexity: L2 582, random 27.5, Taylor 19.1 (Ma et al. 2023, LLM-Pruner)",
        importances,
        lambda results: in_order(results, ["taylor_element", "random", "magnitude"]),
        "Refuted at this size: neurons of small weights contribute little here, and removing them costs least. Random "
        "choices remove some of the largest.",
    ),
    Claim(
        "feed-forward-third",
        "Feed-forward layers hold most of the parameters and lose a third of their width for at most 1 % of the loss.",
        "Minitron-8B from 15B: within 1 to 3 MMLU points (Muralidharan et al. 2024)",
        third_less,
        judge_third_less,
        "A part of the neurons contributes little, and distillation makes up for most of the rest.",
    ),
    Claim(
        "repair",
        "Least squares on what is left makes up for a part of what was removed, without training.",
        "no figure: the minimum of the calibration error by construction",
        repair,
        lambda results: in_order(results, ["repaired", "as sliced"]),
        "The neurons that are left can take over the part of the others that is a linear function of theirs.",
    ),
)
