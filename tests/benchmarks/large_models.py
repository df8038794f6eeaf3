"""How much memory and time a model takes that is too large for float32, with random weights in a published shape.

    python -m tests.benchmarks.large_models llama-3.2-1b --weights int8
    python -m tests.benchmarks.large_models mistral-7b-v0.1 --weights mapped
    python -m tests.benchmarks.large_models llama-3.2-1b --compress "QuantizeGPTQ(bits=4)"

Makes a checkpoint in bfloat16, one tensor after the other, loads it in a process of its own, reads a prompt, generates,
and removes it again. With --compress, a step is applied to the weights in their files, with random tokens as the
calibration, and the result is saved. Peak memory is what the system counted for that process, pages of mapped files
included. Speeds are those of files that the system still has in memory, if it has enough.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.process_memory import peak, resident
from tinyslm import footprint, load, recipes, save
from tinyslm.checkpoints.families import find_family
from tinyslm.checkpoints.safetensors import round_to_bfloat16
from tinyslm.checkpoints.tensor_mapping import tensor_mappings
from tinyslm.checkpoints.weight_formats import FORMS
from tinyslm.generation import stream
from tinyslm.models import DecoderConfig, shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.tree import named_arrays

LARGEST_SHARD = 4 * 10**9  # bytes
PROMPT, NEW_TOKENS = 256, 16
CALIBRATION_DOCUMENTS = 8  # of PROMPT tokens
BLOCK = 2**20  # random numbers, repeated to fill all tensors


def make_checkpoint(directory, config):
    """A directory as the Hub has it: config.json, an index, and shards in bfloat16. Returns the bytes of the shards."""
    family = find_family(config.family, "the catalogue").for_config(config)
    shapes = {path: array.shape for path, array in named_arrays(shape_model(config)).items()}
    rng = np.random.default_rng(0)
    blocks = {
        kind: round_to_bfloat16(numbers * np.float32(config.hidden_size**-0.5))
        for kind, numbers in (("weight", rng.standard_normal(BLOCK, np.float32)), ("norm", np.ones(BLOCK, np.float32)))
    }
    shards, sizes = [{}], [0]
    for name, mapping in tensor_mappings(family, shapes).items():
        shape = mapping.stored_shape(shapes)
        size = 2 * int(np.prod(shape))
        if shards[-1] and sizes[-1] + size > LARGEST_SHARD:
            shards, sizes = [*shards, {}], [*sizes, 0]
        shards[-1][name] = {"dtype": "BF16", "shape": shape, "data_offsets": [sizes[-1], sizes[-1] + size]}
        sizes[-1] += size
    weight_map = {}
    for number, header in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(header, file)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(directory / file, "wb") as shard:
            shard.write(len(text).to_bytes(8, "little") + text)
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                block = memoryview(blocks["norm" if "norm" in name else "weight"]).cast("B")
                for position in range(begin, end, len(block)):
                    shard.write(block[: end - position])
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (directory / "config.json").write_text(json.dumps(family.write_config(config)))
    return sum(sizes)


def measure(directory, weights):
    """Load, read a prompt, generate: seconds, speeds and memory, printed as JSON. For a process of its own."""
    report = {"process": resident()}
    start = time.perf_counter()
    model, _ = load(directory, weights)
    report |= {"load_seconds": time.perf_counter() - start, "load_peak": peak()}
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, PROMPT))
    start = time.perf_counter()
    model(tokens, last_only=True)
    report["prompt_tokens_per_second"] = PROMPT / (time.perf_counter() - start)
    steps, times, generated = stream(model, tokens[:, :8], NEW_TOKENS), [], []
    for token in steps:
        times.append(time.perf_counter())
        generated.append(int(token[0]))
    report |= {
        "generated_tokens_per_second": (NEW_TOKENS - 1) / (times[-1] - times[0]),
        "best_token_per_second": 1 / np.diff(times).min(),
        "peak": peak(),
        "tokens": generated,
        "bytes": footprint(model).bytes,
    }
    print(json.dumps(report))


def measure_compression(directory, step):
    """Compress and save the model: seconds and memory, printed as JSON. For a process of its own."""
    model, _ = load(directory, "mapped")
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (CALIBRATION_DOCUMENTS, PROMPT))
    report = {"process": resident()}
    start = time.perf_counter()
    compressed, _ = recipes.compress(
        model, [eval(step, vars(recipes))], recipes.Calibration(list(tokens), model), progress=report_progress
    )
    report["compress_seconds"] = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as temporary:
        save(Path(temporary) / "model", compressed)
        report["written"] = (Path(temporary) / "model" / "model.safetensors").stat().st_size
    report |= {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time(), "peak": peak()}
    print(json.dumps(report))


def report_progress(text):
    """Print what is done, and the peak so far."""
    print(f"{text}: peak {peak() / 1e9:.3f} GB", file=sys.stderr, flush=True)


def show_compression(report, stored):
    """The report of a compression for people."""
    print(f"stored in bfloat16      {stored / 1e9:8.3f} GB")
    print(f"written                 {report['written'] / 1e9:8.3f} GB")
    print(f"peak                    {report['peak'] / 1e9:8.3f} GB, {report['process'] / 1e9:.3f} GB before")
    print(f"compression             {report['compress_seconds']:8.1f} s")
    print(f"with saving             {report['seconds']:8.1f} s, {report['cpu_seconds']:.0f} s of processor time")


def show(report, stored):
    """The report for people."""
    base, final = report["process"], report["bytes"]
    print(f"stored in bfloat16      {stored / 1e9:8.3f} GB")
    print(f"arrays in memory        {final / 1e9:8.3f} GB")
    print(f"process before loading  {base / 1e9:8.3f} GB")
    for name, key in (("peak of loading", "load_peak"), ("peak of everything", "peak")):
        print(f"{name:22}  {report[key] / 1e9:8.3f} GB, {(report[key] - base) / 1e9:.3f} GB more than before")
    print(f"loading                 {report['load_seconds']:8.1f} s")
    print(f"prompt of {PROMPT}           {report['prompt_tokens_per_second']:8.2f} tokens/s")
    print(f"generation              {report['generated_tokens_per_second']:8.2f} tokens/s", end="")
    print(f" (best token {report['best_token_per_second']:.2f})")
    print(f"generated               {report['tokens']}")


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    decoders = [name for name, config in CATALOGUE.items() if isinstance(config, DecoderConfig)]
    parser.add_argument("model", choices=decoders)
    parser.add_argument("--weights", nargs="+", choices=FORMS, default=["int8", "mapped"])
    parser.add_argument("--compress", metavar="STEP", help='measure a step, such as "Quantize(bits=4)", instead')
    parser.add_argument("--keep", metavar="DIRECTORY", help="make the checkpoint there and keep it, or use it")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(arguments.keep or temporary) / arguments.model
        if not (directory / "config.json").exists():
            directory.mkdir(parents=True)
            start = time.perf_counter()
            make_checkpoint(directory, CATALOGUE[arguments.model])
            print(f"made {directory} in {time.perf_counter() - start:.0f} s", flush=True)
        stored = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
        if arguments.compress:
            code = "from tests.benchmarks.large_models import measure_compression; "
            code += f"measure_compression({str(directory)!r}, {arguments.compress!r})"
            done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
            print(f"\n{arguments.model}, {arguments.compress}")
            show_compression(json.loads(done.stdout), stored)
            return
        for weights in arguments.weights:
            code = f"from tests.benchmarks.large_models import measure; measure({str(directory)!r}, {weights!r})"
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            print(f"\n{arguments.model}, {weights}")
            show(json.loads(done.stdout), stored)


if __name__ == "__main__":
    main()
