"""Plausible results of `tinyslm compress`, and odd ones, for the tests of the reports. Numbers are made up."""

import copy
import json
import math

SUBJECTS = ("stories", "facts", "languages", "arithmetic", "programs", "instructions", "ambiguity")
LOSS = 0.712  # of the dense model
ROWS = (  # name, steps, parameters, kept share of weights, disk, memory, multiply-adds, speeds, loss, exam
    ("dense", (), 3.94, 1.0, 15.75, 15.74, 3.93, 9000, 640, 0.712, 0.914),
    ("distilled student", ("KeepLayers", "Distill"), 2.16, 1.0, 8.66, 8.65, 2.16, 17200, 1190, 0.803, 0.771),
    ("magnitude 50 %", ("PruneMagnitude", "Distill", "FoldMasks"), 3.94, 0.55, 15.75, 15.74, 3.93, 9000, 640, 0.731,
     0.886),
    ("neurons 67 %", ("SliceNeurons", "Distill"), 3.15, 1.0, 12.6, 12.6, 3.15, 10800, 745, 0.734, 0.871),
    ("INT8 weights", ("Quantize",), 3.94, 0.99, 4.03, 4.01, 3.93, 8700, 590, 0.7125, 0.911),
    ("INT8 products", ("Quantize",), 3.94, 0.99, 4.03, 4.01, 3.93, 6900, 410, 0.715, 0.907),
    ("SVD 0.7", ("Factorize", "Distill"), 2.87, 1.0, 11.5, 11.5, 2.87, 8100, 520, 0.761, 0.832),
    ("Fisher SVD 0.7", ("Factorize", "Distill"), 2.87, 1.0, 11.5, 11.5, 2.87, 8150, 523, 0.752, 0.846),
    ("slice, distil, INT8", ("SliceNeurons", "Distill", "Quantize"), 3.15, 0.99, 3.24, 3.22, 3.15, 10200, 690, 0.729,
     0.879),
)  # fmt: skip
SETTINGS = {
    "KeepLayers": {"layers": [1, 3, 5]},
    "Distill": {"steps": 30, "learning_rate": 0.001, "batch_size": 8, "temperature": 1.0, "soft_weight": 1.0},
    "PruneMagnitude": {"sparsity": 0.5, "scope": "layer"},
    "FoldMasks": {},
    "SliceNeurons": {"ratio": 2 / 3, "importance": "activation"},
    "Quantize": {"symmetric": True, "per_channel": True, "dynamic_activations": False},
    "Factorize": {"ratio": 0.7, "weighting": "none"},
}
PROMPT = "It was a sunny Monday morning."
TEXT = ' Bianca walked to the library.\nQuestion: Where is the "ring" now? Answer: at the tower & < mill.'


def plausible():
    """What the main command finds: nine rows, a floor, an exam."""
    return {
        "version": "0.1.0",
        "seed": 0,
        "thorough": False,
        "seconds": 283.1,
        "record": {"processor": "Some Processor 9000", "machine": "x86_64", "threads": 2,
                   "blas": ["OpenBLAS 0.3.30, Haswell"]},
        "model": {"name": "teacher", "family": "llama", "layers": 6, "hidden_size": 256, "intermediate_size": 512,
                  "vocab_size": 1536, "context": 256},
        "corpus": {"name": "town", "validation_documents": 400, "validation_tokens": 38_000,
                   "floor": {"nats": 0.684, "standard_error": 0.011, "tokens": 38_000}, "questions": 280},
        "rows": [_row(*values) for values in ROWS],
    }  # fmt: skip


def _row(name, steps, parameters, kept, disk, memory, multiply_adds, prompt, generation, loss, accuracy):
    settings = copy.deepcopy(SETTINGS)
    settings["Quantize"]["dynamic_activations"] = "products" in name
    settings["Factorize"]["weighting"] = "fisher" if "Fisher" in name else "none"
    edges = [round(-0.3 + 0.015 * i, 6) for i in range(41)]
    counts = [round(60_000 * math.exp(-((i - 19.5) ** 2) / 60)) for i in range(40)]
    if "PruneMagnitude" in steps:
        counts = [1000 if abs(i - 19.5) < 3 else count for i, count in enumerate(counts)]
        counts[20] = 900_000
    drops = dict(zip(SUBJECTS, (0.7, 2.4, 1.2, 0.9, 0.6, 0.8, 0.4), strict=True))
    by_subject = {s: round(max(0.0, accuracy + 0.03 - (0.95 - accuracy) * (drops[s] - 1)), 3) for s in SUBJECTS}
    return {
        "name": name,
        "directory": "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()),
        "description": f"a plain sentence about {name}",
        "steps": [{"step": step, "settings": settings[step], "seconds": 0.1 + i, "parameters": int(parameters * 1e6),
                   "bits": int(disk * 8e6), "multiply_adds": int(multiply_adds * 1e6)}
                  for i, step in enumerate(steps)],
        "parameters": int(parameters * 1e6),
        "non_zeros": int(parameters * 1e6 * kept),
        "bits": int(disk * 8e6),
        "disk_bytes": int(disk * 1e6),
        "memory_bytes": int(memory * 1e6),
        "multiply_adds": int(multiply_adds * 1e6),
        "prompt_speed": {"median": prompt, "low": 0.97 * prompt, "high": 1.02 * prompt},
        "generation_speed": {"median": generation, "low": 0.96 * generation, "high": 1.03 * generation},
        "loss": {"nats": loss, "standard_error": 0.012, "tokens": 38_000},
        "change": {"nats": loss - LOSS, "standard_error": 0.0007, "tokens": 38_000},
        "excess": loss / 0.684 - 1,
        "exam": {"accuracy": accuracy, "low": accuracy - 0.035, "high": min(1, accuracy + 0.035), "asked": 280,
                 "by_subject": by_subject},
        "weights": {"edges": edges, "counts": counts},
        "sample": {"prompt": PROMPT, "text": TEXT if name.startswith(("dense", "INT8")) else TEXT + " " + name},
    }  # fmt: skip


def one_row():
    """Only the dense model, without a record of the computer."""
    results = plausible()
    del results["record"]
    return results | {"rows": results["rows"][:1]}


def own_text():
    """The user's own text: no floor, no exam, but bits per byte."""
    results = plausible()
    results["corpus"] |= {"name": "text", "files": ["/home/anna/my stories.txt", "/home/anna/b.txt"],
                          "documents": "line", "pack_length": 128,
                          "sha256": ["0" * 64] * 2, "floor": None, "questions": 0,
                          "validation_bytes": 95_000}  # fmt: skip
    for row in results["rows"]:
        row |= {"excess": None, "exam": None, "bits_per_byte": row["loss"]["nats"] * 38_000 / math.log(2) / 95_000}
    return results


def one_document():
    """A single validation document: no standard error is known."""
    results = plausible()
    results["corpus"] |= {"validation_documents": 1}
    for estimate in [results["corpus"]["floor"], *(row[key] for row in results["rows"] for key in ("loss", "change"))]:
        estimate["standard_error"] = None
    return results


def hostile():
    """Names that are markup, formulas, other scripts, very long; a terminal's escape codes; a sample that is a page."""
    results = plausible()
    names = ("<script>alert(1)</script>", 'a "quoted" & <b>bold</b> name', "$x^2$ \\frac{1}{2} \\badcommand $",
             "long " * 60, "圧縮された小さな言語モデルの名前はとても長い", "\x1b[31mred\x1b[0m\r\nline", "é" * 40,
             "👩‍🔬 e\u0301 \u202egnp.exe", "")  # fmt: skip
    for row, name in zip(results["rows"], names, strict=True):
        row["name"] = row["description"] = name
        row["sample"] = {"prompt": "<p>", "text": '</blockquote><script src="https://example.org"></script>\x00\ud800'}
        for step in row["steps"]:
            step["settings"] = {"<i>": "</code><img src=x>"}
    results["rows"][1]["exam"]["by_subject"] = {"<u>": 0.5, "$a$": 0.0}
    results["model"]["name"] = "<h1>model</h1>"
    return results


def worthless():
    """Models that broke: no right answers, a huge loss, a loss that is not a number, no weights in the histogram."""
    results = plausible()
    for row in results["rows"][1:]:
        row["loss"]["nats"], row["excess"] = 9.5, 9.5 / 0.684 - 1
        row["change"]["nats"] = 9.5 - LOSS
        row["exam"] |= {"accuracy": 0.0, "low": 0.0, "high": 0.013, "by_subject": dict.fromkeys(SUBJECTS, 0.0)}
        row["weights"]["counts"] = [0] * 40
        row["sample"]["text"] = ""
    results["rows"][2]["loss"]["nats"] = results["rows"][2]["excess"] = math.nan
    results["rows"][2]["change"]["nats"] = math.nan
    results["rows"][3]["steps"] = [{"step": "NewTechnique", "settings": {}, "seconds": 0.0}]
    return results


def many_rows():
    """Twenty rows."""
    results = plausible()
    results["rows"] = [copy.deepcopy(results["rows"][i % 9]) | {"directory": f"row-{i}"} for i in range(20)]
    return results


def failed():
    """Recipes that failed: one as usual, and one with a hostile name and error."""
    entries = (("GPTQ 4 bits", "layers.0.attention.query: not positive definite"), ("<b>" * 20, "<script>\x1b\nline"))
    return plausible() | {"failed": [{"name": name, "error": error} for name, error in entries]}


def mapped():
    """A model that stayed in its file: its weights need no memory."""
    results = plausible() | {"weights": "mapped"}
    results["rows"][0]["memory_bytes"] = 6656
    return results


ALL = {"plausible": plausible, "one row": one_row, "own text": own_text, "failed": failed, "mapped": mapped,
       "one document": one_document, "hostile": hostile, "worthless": worthless, "many rows": many_rows}  # fmt: skip


def sweep_point(name, bits, loss, seed=0, steps=("Quantize",)):
    """A record of `tinyslm sweep`."""
    measured = {
        "bits": bits,
        "parameters": bits // 8,
        "multiply_adds": bits // 16,
        "loss": {"nats": loss, "standard_error": 0.01, "tokens": 1234},
        "change": {"nats": loss - 0.7, "standard_error": 0.001, "tokens": 1234},
    }
    steps = [{"step": step, "settings": {}} for step in steps]
    return {
        "name": name,
        "seed": seed,
        "steps": steps,
        "measured": measured,
        "record": {"versions": {"tinyslm": "0.1"}},
        "experiment": {"model": "a <model>", "text": {"name": "town"}, "validation": 30},
    }


if __name__ == "__main__":  # python -m tests.reporting.results: the plausible dict, to look at
    print(json.dumps(plausible(), indent=1))
