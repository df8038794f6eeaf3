"""Make the golden checkpoints: tiny models with random weights, saved and evaluated by Hugging Face transformers.

    python tests/golden/make.py [NAME ...]

Without names all of families.py are made. README.md says what a directory holds afterwards. Needs torch and
transformers, which nothing else in this project does. The seeds 0, 1, ... are tried until no choice that the numbers
depend on (the greedy token, the experts of a token) is a close one; the same versions choose the same seeds again.
"""

import itertools
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from evaluate import EVALUATIONS, GRADIENT_STRIDE, SMALLEST_GAPS, kept_part
from families import FAMILIES
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

HERE = Path(__file__).parent
VOCABULARY_TABLES = ("embed", "wte", "wpe", "shared", "lm_head")
CLASSES = {
    "causal_lm": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "encoder": AutoModel,
    "seq2seq_lm": AutoModelForSeq2SeqLM,
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")


def make(name):
    """Make one golden checkpoint."""
    family, directory = FAMILIES[name], HERE / name
    task = family.get("task", "causal_lm")
    for seed in itertools.count():
        generator = torch.Generator().manual_seed(seed)
        shutil.rmtree(directory, ignore_errors=True)
        save_random_model(name, directory, generator)
        model = load(task, directory)
        arrays, gaps = EVALUATIONS[task](model, generator)
        if all(gap >= SMALLEST_GAPS[kind] for kind, gap in gaps.items()):
            break
    write_legacy_config(directory, family)
    check_legacy_config(directory, task, arrays)
    if "loss" in arrays:
        arrays["loss"].backward()
        arrays |= {f"grad.{key}": gradient for key, gradient in gradients(model, family).items()}
    meta = {
        "class": type(model).__name__,
        "seed": seed,
        "smallest_gaps": gaps,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    kept = {key: kept_part(key, value.detach().numpy()) for key, value in arrays.items()}
    np.savez_compressed(directory / "golden.npz", gradient_stride=GRADIENT_STRIDE, meta=json.dumps(meta), **kept)
    size = sum(file.stat().st_size for file in directory.iterdir())
    print(f"{name}: {size} bytes, seed {seed}, smallest gaps {gaps}", flush=True)


def save_random_model(name, directory, generator):
    """Save a model with random weights: config.json and the tensors."""
    family = FAMILIES[name]
    config = AutoConfig.for_model(family["model_type"], **family["settings"])
    model = CLASSES[family.get("task", "causal_lm")].from_config(config)
    if family.get("own_head"):  # T5 ties its head except where the file has another
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    fill(model, generator, family.get("deviations", {}))
    save(model.to(getattr(torch, family.get("dtype", "float32"))), family, directory)
    if name in UNUSED_TENSORS:
        file = directory / "model.safetensors"
        save_file(load_file(file) | UNUSED_TENSORS[name](config, generator), file, {"format": "pt"})


@torch.no_grad()
def fill(model, generator, deviations):
    """Fill a new model with noise; gains and biases get it on top of the 1 or 0 that they begin with."""
    for name, parameter in sorted(model.named_parameters()):
        usual = 0.6 if any(part in name for part in VOCABULARY_TABLES) else 0.3
        deviation = next((value for part, value in deviations.items() if part in name), usual)
        start = parameter if parameter.ndim == 1 else 0
        parameter.copy_(start + deviation * torch.randn(parameter.shape, generator=generator))


def save(model, family, directory):
    """Save config.json and the tensors under the names that the family has in files."""
    model.save_pretrained(directory, max_shard_size=family.get("shard_size", "1GB"))
    (directory / "generation_config.json").unlink(missing_ok=True)
    if "renamed" in family:
        file = directory / "model.safetensors"
        tensors = load_file(file)
        for pattern, replacement in family["renamed"].items():
            tensors = {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}
        save_file(tensors, file, {"format": "pt"})


def bert_unused(config, generator):
    """What the file of bert-base-uncased holds besides what a masked language model reads."""
    C = config.hidden_size
    shapes = {
        "bert.pooler.dense.weight": (C, C),
        "bert.pooler.dense.bias": (C,),
        "cls.seq_relationship.weight": (2, C),
        "cls.seq_relationship.bias": (2,),
    }
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | {"bert.embeddings.position_ids": torch.arange(config.max_position_embeddings)[None]}


def gpt2_unused(config, _):
    """The causal masks in the file of gpt2."""
    mask = torch.ones(config.n_positions, config.n_positions).tril()[None, None]
    return {f"h.{i}.attn.bias": mask.clone() for i in range(config.n_layer)}


UNUSED_TENSORS = {"bert_hub": bert_unused, "gpt2_hub": gpt2_unused}


def load(task, directory):
    """The saved model, computing in float32 whatever the file stores; no token ends its continuations."""
    model = CLASSES[task].from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    if model.can_generate():
        model.generation_config.eos_token_id = None
    return model


def write_legacy_config(directory, family):
    """Write config_legacy.json: the same settings in the layout of older repositories."""
    config = json.loads((directory / "config.json").read_text())
    config |= {"transformers_version": "4.44.0", "torch_dtype": config.pop("dtype")}
    text = config.get("text_config", config)
    ropes = text.pop("rope_parameters", None)
    text.pop("layer_types", None)
    if ropes:
        scaling = dict(ropes.get("full_attention", ropes))
        text["rope_theta"] = scaling.pop("rope_theta")
        if "partial_rotary_factor" in scaling:
            text["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
        text["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    text |= family.get("legacy", {})
    for key in family.get("legacy_lacks", ()):
        del text[key]
    (directory / "config_legacy.json").write_text(json.dumps(config, indent=2) + "\n")


def check_legacy_config(directory, task, arrays):
    """Stop unless transformers computes the same from both layouts, bit by bit."""
    inputs = {key: arrays[key] for key in INPUTS if key in arrays}
    wanted = arrays["logits"] if "logits" in arrays else arrays["last_hidden_state"]
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copytree(directory, temporary, dirs_exist_ok=True)
        Path(temporary, "config_legacy.json").replace(Path(temporary, "config.json"))
        if not torch.equal(load(task, temporary)(**inputs)[0], wanted):
            sys.exit(f"{directory.name}: config_legacy.json means something else than config.json")


def gradients(model, family):
    """The gradients of layer 0 and of all that is no layer, under the names in the file; overwrites the weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    with tempfile.TemporaryDirectory() as temporary:
        save(model, family, Path(temporary))
        found = {}
        for file in Path(temporary).glob("*.safetensors"):
            found |= load_file(file)
    names = sorted(name for name in found if not name.startswith(family.get("left_out", ())))
    layers = {name: re.search(r"\.(\d+)\.", name) for name in names}
    return {name: found[name] for name, layer in layers.items() if layer is None or layer[1] == "0"}


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or FAMILIES:
        make(name)
