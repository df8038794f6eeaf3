"""Cases of `tinyslm.compression.quantization`: functions, and layers called on inputs."""

import numpy as np

from tests.numeric_policy.case import KEPT, REFUSED, Case, call_of
from tinyslm.compression import quantization
from tinyslm.compression.quantization import QuantizedArray
from tinyslm.modules import Embedding, Linear

OUT, IN = 5, 8
COMPUTED = {"integers": np.float64, "special": REFUSED}


def values(rng):
    return {"x": rng.standard_normal((OUT, IN))}


def linear(rng):
    return Linear(rng.standard_normal((OUT, IN)), rng.standard_normal(OUT))


def codes(rng, shape=(OUT, IN), dtype=np.int8):
    return rng.integers(-127, 128, shape).astype(dtype)


def quantized_weight(rng):
    return {"x": rng.standard_normal((3, IN)), "codes": codes(rng), "scale": 0.01 + rng.random((OUT, 1))}


def biased(rng):
    return {"zero_point": rng.integers(-9, 9, (OUT, 1)).astype(np.int32), "bias": rng.standard_normal(OUT)}


def hessian(rng):
    x = rng.standard_normal((4 * IN, IN))
    return x.T @ x


def dequantized(result):
    """What codes, scales and zero points stand for."""
    return result.dequantize()


def layer_case(make):
    """The call of a layer on random inputs."""

    def arguments(rng):
        return {"layer": make(rng), "x": rng.standard_normal((3, IN))}

    return Case(call_of(make), arguments)


def quantized(rng, **settings):
    return quantization.linear_from_codes(
        quantization.quantize(rng.standard_normal((OUT, IN)), **settings), rng.standard_normal(OUT)
    )


def two_of_four(rng):
    weight = rng.standard_normal((OUT, IN)) * (np.arange(IN) % 4 < 2)
    return quantization.linear_from_codes(quantization.quantize(weight, bits=4, axis=0), rng.standard_normal(OUT))


def outliers(rng):
    return quantization.OutlierLinear.from_linear(linear(rng), np.where(np.arange(IN) == 2, 9.0, 1.0))


def called_outlier_linear(x, codes, scale, columns, outlier_weight, bias):
    return quantization.outlier_linear(x, codes, scale, columns, outlier_weight, bias)


def outlier_arguments(rng):
    stored = codes(rng)
    stored[:, 2] = 0
    return {
        "x": rng.standard_normal((3, IN)),
        "codes": stored,
        "scale": 0.01 + rng.random((OUT, 1)),
        "columns": np.array([2], np.int32),
        "outlier_weight": rng.standard_normal((OUT, 1)),
        "bias": rng.standard_normal(OUT),
    }


def static_arguments(rng):
    weight = codes(rng)
    return {
        "x": rng.standard_normal((3, IN)),
        "codes": weight,
        "scale": 0.01 + rng.random((OUT, 1)),
        "correction": 3 * np.sum(weight, axis=1, dtype=np.int32),
        "input_scale": np.array(0.02),
        "input_zero_point": np.array(3, np.int32),
        "bias": rng.standard_normal(OUT),
    }


CASES = {
    "quantize": Case(quantization.quantize, values, special=REFUSED, view=dequantized),
    "quantize, asymmetric": Case(
        quantization.quantize,
        lambda rng: values(rng) | {"symmetric": False, "group_size": 4, "bits": 4},
        special=REFUSED,
        view=dequantized,
    ),
    "quantize_tokens": Case(quantization.quantize_tokens, values, special=REFUSED, view=dequantized),
    "QuantizedArray": Case(
        lambda codes, scale, zero_point: QuantizedArray(codes, scale, zero_point).dequantize(),
        lambda rng: {
            "codes": codes(rng),
            "scale": rng.random((OUT, 1)),
            "zero_point": np.arange(OUT, dtype=np.int32)[:, None],
        },
    ),
    "code_range": Case(quantization.code_range, lambda rng: {"bits": 4, "symmetric": True}),
    "affine_parameters": Case(
        quantization.affine_parameters,
        lambda rng: {"lowest": -rng.random(OUT), "highest": rng.random(OUT), "symmetric": False},
        special=REFUSED,
        steps=1,
    ),
    "encode": Case(
        quantization.encode,
        lambda rng: values(rng) | {"scale": 0.01 + rng.random((OUT, 1)), "zero_point": np.zeros((OUT, 1), np.int32)},
        special=REFUSED,
        steps=1,
    ),
    "fake_quantize": Case(
        quantization.fake_quantize,
        lambda rng: values(rng) | {"scale": 0.01 + rng.random((OUT, 1)), "zero_point": np.zeros((OUT, 1), np.int32)},
        special=REFUSED,
    ),
    "fake_quantize_tokens": Case(quantization.fake_quantize_tokens, values, special=REFUSED),
    "pack_codes": Case(quantization.pack_codes, lambda rng: {"codes": codes(rng), "bits": 8}),
    "unpack_codes": Case(
        quantization.unpack_codes,
        lambda rng: {"packed": rng.integers(0, 256, (OUT, 3)).astype(np.uint8), "bits": 3, "count": IN},
    ),
    "packed_length": Case(quantization.packed_length, lambda rng: {"count": 7, "bits": 3}),
    "gptq": Case(
        quantization.gptq,
        lambda rng: {"weight": rng.standard_normal((OUT, IN)), "hessian": hessian(rng), "bits": 8},
        view=dequantized,
        **COMPUTED,
    ),
    "integer_matmul": Case(quantization.integer_matmul, lambda rng: {"x": codes(rng, (3, IN)), "w": codes(rng)}),
    "affine_matmul": Case(
        quantization.affine_matmul,
        lambda rng: {"x": codes(rng, (3, IN)), "w": codes(rng), "x_zero_point": codes(rng, (3, 1), np.int32)},
    ),
    "outlier_features": Case(
        quantization.outlier_features, lambda rng: {"maxima": 9 * rng.random(IN)}, special=REFUSED, integers=KEPT
    ),
    "outlier_linear": Case(called_outlier_linear, outlier_arguments),
    "OutlierLinear": layer_case(outliers),
    "normal_float4_levels": Case(quantization.normal_float4_levels, lambda rng: {}, result=np.float64),
    "float4_levels": Case(quantization.float4_levels, lambda rng: {}, result=np.float64),
    "integer4_levels": Case(quantization.integer4_levels, lambda rng: {}, result=np.float64),
    "quantize_to_levels": Case(
        quantization.quantize_to_levels,
        lambda rng: values(rng) | {"levels": np.sort(rng.uniform(-1, 1, 7)), "block_size": 4},
        special=REFUSED,
        steps=1,
    ),
    "double_quantize": Case(
        quantization.double_quantize,
        lambda rng: {"absmax": rng.random((3, 5)), "block": 4},
        view=dequantized,
        **COMPUTED,
    ),
    "weight_only_linear": Case(quantization.weight_only_linear, lambda rng: quantized_weight(rng) | biased(rng)),
    "integer_linear": Case(quantization.integer_linear, lambda rng: quantized_weight(rng) | biased(rng)),
    "static_linear": Case(quantization.static_linear, static_arguments),
    "linear_from_codes": Case(
        lambda x, codes, scale, bias: quantization.linear_from_codes(QuantizedArray(codes, scale), bias)(x),
        lambda rng: quantized_weight(rng) | {"bias": rng.standard_normal(OUT)},
    ),
    "QuantizedLinear": layer_case(lambda rng: quantized(rng, axis=0, symmetric=False)),
    "QuantizedLinear, dynamic": layer_case(
        lambda rng: quantization.QuantizedLinear.from_linear(linear(rng), dynamic_activations=True)
    ),
    "PackedLinear": layer_case(lambda rng: quantized(rng, bits=4, group_size=4, symmetric=False)),
    "PackedNMLinear": layer_case(lambda rng: quantization.PackedNMLinear.from_codes(two_of_four(rng), "2:4")),
    "CodebookLinear": layer_case(
        lambda rng: quantization.CodebookLinear.from_linear(
            linear(rng), quantization.normal_float4_levels(), block_size=4
        )
    ),
    "AbsmaxCodebookLinear": layer_case(
        lambda rng: quantization.AbsmaxCodebookLinear.from_linear(
            linear(rng), quantization.normal_float4_levels(), block_size=4
        )
    ),
    "FakeQuantizedLinear": layer_case(lambda rng: quantization.FakeQuantizedLinear.from_linear(linear(rng), bits=4)),
    "FakeQuantizedLinear, dynamic": layer_case(
        lambda rng: quantization.FakeQuantizedLinear.from_linear(linear(rng), dynamic_activations=True)
    ),
    "StaticQuantizedLinear": layer_case(
        lambda rng: quantization.StaticQuantizedLinear.from_linear(linear(rng), -2.0, 3.0)
    ),
    "QuantizedEmbedding": Case(
        lambda layer, token_ids: layer(token_ids),
        lambda rng: {
            "layer": quantization.QuantizedEmbedding.from_embedding(Embedding(rng.standard_normal((4, 5)))),
            "token_ids": np.array([[0, 3, 1], [2, 3, 0]]),
        },
    ),
    "QuantizedEmbedding, head": Case(
        lambda layer, x: layer.as_head(x),
        lambda rng: {
            "layer": quantization.QuantizedEmbedding.from_embedding(Embedding(rng.standard_normal((4, IN)))),
            "x": rng.standard_normal((3, IN)),
        },
    ),
    **{
        f"choose_range, {method}": Case(
            quantization.choose_range,
            lambda rng, method=method: values(rng) | {"method": method, "bits": 2},
            special=REFUSED,
        )
        for method in ("min_max", "percentile", "mean_square_error")  # "entropy" is entropy_threshold
    },
    "entropy_threshold": Case(quantization.entropy_threshold, values, special=REFUSED, result=np.float64),
    "join_ranges": Case(
        quantization.join_ranges,
        lambda rng: {"one": np.array([-1.0, 2.0]), "other": np.array([-3.0, 1.0])},
        integers=KEPT,
        special=REFUSED,
    ),
    "fixed_point": Case(
        quantization.fixed_point,
        lambda rng: {"factor": rng.uniform(0.1, 0.9, OUT)},
        integers=REFUSED,
        special=REFUSED,
    ),
    "requantize": Case(
        lambda accumulator: quantization.requantize(accumulator, *quantization.fixed_point(0.05), zero_point=3),
        lambda rng: {"accumulator": codes(rng, dtype=np.int32) * 20},
    ),
    "smoothing_scales": Case(
        quantization.smoothing_scales,
        lambda rng: {"activation_maxima": rng.random(IN), "weight_maxima": rng.random(IN)},
        **COMPUTED,
    ),
    "column_maxima": Case(
        lambda weights: quantization.column_maxima(*weights),
        lambda rng: {"weights": [rng.standard_normal((OUT, IN)), rng.standard_normal((3, IN))]},
        **COMPUTED,
    ),
    "smooth_gain": Case(
        quantization.smooth_gain,
        lambda rng: {"gain": rng.standard_normal(IN), "scales": 0.1 + rng.random(IN), "offset": 1.0},
        **COMPUTED,
    ),
    "smooth_weight": Case(
        quantization.smooth_weight,
        lambda rng: {"weight": rng.standard_normal((OUT, IN)), "scales": 0.1 + rng.random(IN)},
        **COMPUTED,
    ),
}
