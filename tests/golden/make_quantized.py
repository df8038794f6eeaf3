"""Make the quantized golden checkpoints: one tiny Llama in each format, quantized and dequantized by other libraries.

    python tests/golden/make_quantized.py [NAME ...]

Writes tests/golden/quantized/NAME with config.json, model.safetensors and golden.npz: weights of some linear layers as
the library dequantizes them in float32, and the logits of transformers where it loads the file on a CPU. Needs torch,
transformers, compressed-tensors, bitsandbytes, auto-gptq and autoawq. Of the last two, only the modules that pack and
unpack are loaded from their files.
"""

import importlib.util
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, CompressedTensorsConfig, LlamaConfig

HERE = Path(__file__).parent / "quantized"
TOKENS = torch.tensor([[1, 5, 9, 2, 6, 31, 0, 17]])
KEPT = ("k_proj", "down_proj")  # layers whose dequantized weights are in golden.npz, the first rows of them
ROWS = 16


def base_model(hidden=32, key_value_heads=4):
    """The dense model in float32; numbers are exact in float16."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            start = 1 if parameter.ndim == 1 else 0
            parameter.copy_((start + 0.3 * torch.randn(parameter.shape)).half())
    return model


def linear_layers(model):
    """{name: Linear} of the layers that are quantized."""
    layers = model.named_modules()
    return {name: layer for name, layer in layers if isinstance(layer, torch.nn.Linear) and name != "lm_head"}


def write(name, parts, quantization, weights, load=None):
    """Write one directory.

    parts: {module: {field: tensor}} in place of the weights;  weights: {module: dequantized weight};  load: options of
    from_pretrained, if transformers loads the file.
    """
    directory, model = HERE / name, base_model()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    tensors = {key: value.half() for key, value in model.state_dict().items() if key != "lm_head.weight"}
    for module, fields in parts.items():
        del tensors[f"{module}.weight"]
        tensors |= {f"{module}.{field}": tensor.contiguous() for field, tensor in fields.items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float16"}
    config["quantization_config"] = quantization
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    arrays = {}
    if load is not None:
        loaded = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **load).float().eval()
        with torch.no_grad():
            arrays["logits"] = loaded(TOKENS).logits.float().numpy()
    finish(name, arrays, weights)


def finish(name, arrays, weights):
    """Write golden.npz."""
    kept = {module: weight for module, weight in weights.items() if module.endswith(KEPT)}
    arrays |= {module: weight[:ROWS].detach().float().numpy() for module, weight in kept.items()}
    np.savez_compressed(HERE / name / "golden.npz", tokens=TOKENS.numpy(), **arrays)
    size = sum(file.stat().st_size for file in (HERE / name).iterdir())
    print(f"{name}: {size} bytes, {'with' if 'logits' in arrays else 'without'} logits", flush=True)


# compressed-tensors


def make_compressed_tensors(name, form, weights, inputs=None, static=False):
    """Weights with parameters from their smallest and largest numbers, compressed by the library."""
    activations = None if inputs is None else {"num_bits": 8, "type": weights.get("type", "int")} | inputs
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=activations, format=form)
    compressor, parts, dense = BaseCompressor.get_value_from_registry(form), {}, {}
    for module, layer in linear_layers(base_model()).items():
        state = {"weight": layer.weight.detach()} | weight_parameters(layer.weight.detach(), scheme.weights)
        if static:
            state |= {"input_scale": torch.tensor([0.03]), "input_zero_point": torch.tensor([5], dtype=torch.int8)}
        fields = compressor.compress(state, scheme)
        dense[module] = compressor.decompress(fields, scheme)["weight"]
        parts[module] = fields
    config = {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": json.loads(scheme.model_dump_json())},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "sparsity_config": {},
    }
    options = {} if activations else {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    write(name, parts, config, dense, None if activations else options)


def weight_parameters(weight, arguments):
    """Scale and zero point of each part of a weight, in float32."""
    rows, columns = weight.shape
    if arguments.strategy == "tensor":
        grouped = weight.reshape(1, -1)
    elif arguments.strategy == "channel":
        grouped = weight[:, None]
    elif arguments.strategy == "group":
        grouped = weight.reshape(rows, -1, arguments.group_size)
    else:
        height, width = arguments.block_structure
        grouped = weight.reshape(rows // height, height, columns // width, width).transpose(1, 2).flatten(-2)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale, zero_point = calculate_qparams(low, high, arguments)
    found = {"weight_scale": scale.float()}
    if not arguments.symmetric:
        found["weight_zero_point"] = zero_point.to(torch.int8)
    return found


# GPTQ and AWQ


def module_of(package, path):
    """A module of a package, loaded from its file, without the package's own imports."""
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(f"{package}_{Path(path).stem}", folder / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unsigned_parameters(weight, bits, group_size):
    """Scale and zero point of each group of inputs: (groups, out), for codes from 0."""
    grouped = weight.reshape(len(weight), -1, group_size)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).half().float()
    zero = torch.round(-low / scale).clamp(1, 2**bits - 1)  # AutoGPTQ stores it less 1
    return scale.t().contiguous(), zero.t().contiguous()


def make_gptq(name, bits, group_size=16, permuted=False, version="gptq"):
    """Codes rounded to the nearest, packed and unpacked by AutoGPTQ."""
    library = module_of("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py")
    parts, dense = {}, {}
    for module, layer in linear_layers(base_model()).items():
        outputs, inputs = layer.weight.shape
        order = torch.randperm(inputs) if permuted else torch.arange(inputs)
        groups = torch.empty(inputs, dtype=torch.int32)
        groups[order] = torch.arange(inputs, dtype=torch.int32) // group_size
        scale, zero = unsigned_parameters(layer.weight.detach()[:, order], bits, group_size)
        packed = library.QuantLinear(bits, group_size, inputs, outputs, False, weight_dtype=torch.float32)
        packed.pack(layer, scale.t(), zero.t(), groups)
        packed.scales = packed.scales.float()
        dense[module] = packed(torch.eye(inputs)).t()
        fields = {"qweight": packed.qweight, "scales": packed.scales.half(), "g_idx": packed.g_idx}
        fields["qzeros"] = packed.qzeros
        if version == "gptq_v2":  # as GPTQModel stores zero points: without the subtraction of 1
            fields["qzeros"] = packed.qzeros + sum(1 << shift for shift in range(0, 31, bits))
        parts[module] = fields
    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group_size,
        "desc_act": permuted,
        "sym": False,
        "checkpoint_format": version,
    }
    write(name, parts, config, dense)


def make_awq(name, group_size=16):
    """Codes rounded to the nearest, packed in the order of AutoAWQ, unpacked by AutoAWQ."""
    library = module_of("awq", "utils/packing_utils.py")
    parts, dense = {}, {}
    for module, layer in linear_layers(base_model()).items():
        scale, zero = unsigned_parameters(layer.weight.detach(), 4, group_size)
        groups = torch.arange(layer.weight.shape[1]) // group_size
        codes = torch.round(layer.weight.detach().t() / scale[groups] + zero[groups]).clamp(0, 15).int()  # (in, out)
        fields = {"qweight": pack_awq(codes, library), "qzeros": pack_awq(zero.int(), library), "scales": scale.half()}
        dense[module] = library.dequantize_gemm(fields["qweight"], fields["qzeros"], scale, 4, group_size).t()
        parts[module] = fields
    config = {"quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True, "version": "gemm"}
    write(name, parts, config | {"modules_to_not_convert": ["lm_head"]}, dense)


def pack_awq(codes, library):
    """The words of WQLinear_GEMM.from_linear: part i of a word belongs to the output AWQ_ORDER[i] of eight."""
    packed = torch.zeros(len(codes), codes.shape[1] // 8, dtype=torch.int32)
    for part, output in enumerate(library.AWQ_ORDER):
        packed |= codes[:, output::8] << (4 * part)
    return packed


# bitsandbytes


def make_bitsandbytes(name, hidden=64, **options):
    """The file that transformers saves of a model quantized by bitsandbytes."""
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    with tempfile.TemporaryDirectory() as dense:
        base_model(hidden, key_value_heads=2).half().save_pretrained(dense)
        model = AutoModelForCausalLM.from_pretrained(
            dense, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32, device_map="cpu"
        ).eval()
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    file = directory / "model.safetensors"
    tensors = load_file(file)
    dense = {
        key: value.half() for key, value in tensors.items() if key.endswith(".weight") and value.is_floating_point()
    }
    save_file(tensors | dense, file, {"format": "pt"})
    weights = {module: bitsandbytes_weight(layer) for module, layer in linear_layers(model).items()}
    if options.get("load_in_4bit"):  # whose products on a CPU are in bfloat16
        model = base_model(hidden, key_value_heads=2)
        for module, layer in linear_layers(model).items():
            layer.weight.data = weights[module].float()
    with torch.no_grad():
        logits = model(TOKENS).logits.float().numpy()
    finish(name, {"logits": logits}, weights)


def bitsandbytes_weight(layer):
    """The dequantized weight. LLM.int8: as in the backward pass of the library."""
    state = getattr(layer.weight, "quant_state", None)
    if state is not None:
        return dequantize_4bit(layer.weight.data, state)
    if not hasattr(layer.weight, "CB"):
        return layer.weight
    codes, scale = layer.weight.CB, layer.weight.SCB
    return codes.float().mul_(scale.unsqueeze(1).mul(1.0 / 127.0))


# FP8


def make_fp8(name, block=None):
    """8-bit floating point with a scale for each block or for the matrix, dequantized by transformers."""
    parts, scales = {}, "weight_scale_inv"
    for module, layer in linear_layers(base_model()).items():
        weight = layer.weight.detach()
        rows, columns = weight.shape
        height, width = block or weight.shape
        scale = torch.zeros(-(-rows // height), -(-columns // width))
        stored = torch.zeros(rows, columns)
        for i in range(scale.shape[0]):
            for j in range(scale.shape[1]):
                part = slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width)
                scale[i, j] = weight[part].abs().max() / 448
                stored[part] = weight[part] / scale[i, j]
        parts[module] = {"weight": stored.to(torch.float8_e4m3fn), scales: scale if block else scale[0, 0]}
    config = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": block,
        "modules_to_not_convert": ["lm_head"],
    }
    write(name, parts, config, {}, {})
    model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).float()
    weights = {module: layer.weight for module, layer in linear_layers(model).items()}
    with torch.no_grad():
        finish(name, {"logits": model(TOKENS).logits.numpy()}, weights)


INT4 = {"num_bits": 4, "type": "int"}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True}
DYNAMIC = {"dynamic": True, "strategy": "token", "symmetric": True}
STATIC = {"dynamic": False, "strategy": "tensor", "symmetric": False}
MAKE = {
    "int4_groups": lambda name: make_compressed_tensors(
        name, "pack-quantized", INT4 | {"symmetric": True, "strategy": "group", "group_size": 16}
    ),
    "int4_asymmetric": lambda name: make_compressed_tensors(
        name, "pack-quantized", INT4 | {"symmetric": False, "strategy": "group", "group_size": 16}
    ),
    "int3_rows": lambda name: make_compressed_tensors(
        name, "pack-quantized", {"num_bits": 3, "type": "int", "symmetric": False, "strategy": "channel"}
    ),
    "int8_matrix": lambda name: make_compressed_tensors(name, "naive-quantized", INT8 | {"strategy": "tensor"}),
    "w8a8_dynamic": lambda name: make_compressed_tensors(
        name, "int-quantized", INT8 | {"strategy": "channel"}, DYNAMIC
    ),
    "w8a8_static": lambda name: make_compressed_tensors(
        name, "int-quantized", INT8 | {"strategy": "channel"}, STATIC, static=True
    ),
    "float8_rows": lambda name: make_compressed_tensors(
        name, "float-quantized", FLOAT8 | {"strategy": "channel"}, DYNAMIC
    ),
    "gptq_4": lambda name: make_gptq(name, 4),
    "gptq_3": lambda name: make_gptq(name, 3, group_size=32),
    "gptq_8_permuted": lambda name: make_gptq(name, 8, permuted=True),
    "gptq_4_v2": lambda name: make_gptq(name, 4, version="gptq_v2"),
    "awq": make_awq,
    "nf4": lambda name: make_bitsandbytes(name, load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4_nested": lambda name: make_bitsandbytes(
        name,
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["lm_head", "v_proj"],
    ),
    "fp4": lambda name: make_bitsandbytes(name, load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "llm_int8": lambda name: make_bitsandbytes(name, hidden=32, load_in_8bit=True),
    "fp8_blocks": lambda name: make_fp8(name, [16, 16]),
    "fp8_matrix": make_fp8,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for chosen in sys.argv[1:] or MAKE:
        MAKE[chosen](chosen)
