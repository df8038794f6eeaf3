"""What must hold for a model that was read from a damaged directory: the numbers of its files, and it can be used."""

import numpy as np

from tests.checkpoints.fuzz_oracle import decode
from tinyslm.checkpoints import stored_tensors
from tinyslm.checkpoints.writing import checkpoint_tensors
from tinyslm.compression.factorization.low_rank_linear import LowRankLinear
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import DataError
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import is_array, named_modules

MODULES = Linear | Embedding | LowRankLinear | MaskedLinear | QuantizedEmbedding | QuantizedLinear
DTYPES = {"codes": np.int8, "mask": np.bool_, "zero_point": np.integer}  # of the fields; all others are floating
OPTIONAL = ("bias", "zero_point")


def check_model(model, path):
    """Raise AssertionError unless the model is what the files in the directory `path` say."""
    expected = {}
    for file in {tensor.file for tensor in stored_tensors(path).values()}:
        assert file.parent == path, f"read from {file}"
        expected |= {name: (shape, numbers) for name, (_, shape, numbers) in decode(file.read_bytes()).items()}
    for name, array in checkpoint_tensors(model).items():
        if name in expected:
            shape, numbers = expected[name]
            numbers = np.array(numbers, np.float64).reshape(shape).astype(array.dtype)
            np.testing.assert_array_equal(array, numbers, err_msg=name, strict=True)
    for name, module in named_modules(model, MODULES).items():
        check_module(name, module)
    try:
        with np.errstate(all="ignore"):
            logits = model(np.zeros((1, 1), int))
    except DataError as problem:  # finite weights of any size may make activations that no integer can stand for
        assert "cannot quantize" in str(problem) or "overflow" in str(problem), str(problem)
        return
    assert logits.shape == (1, 1, model.config.vocab_size), f"logits {logits.shape}"


def check_module(name, module):
    """The arrays of one layer have the shapes and dtypes that its class describes."""
    fields = {field: value for field, value in vars(module).items() if not isinstance(value, bool)}
    for field, value in fields.items():
        if value is None and field in OPTIONAL:
            continue
        assert is_array(value), f"{name}.{field} is {value!r}"
        assert np.issubdtype(value.dtype, DTYPES.get(field, np.floating)), f"{name}.{field} is {value.dtype}"
    if isinstance(module, Embedding):
        return
    embedding = isinstance(module, QuantizedEmbedding)
    assert embedding == (name.rpartition(".")[2] in ("embedding", "position_embedding")), f"{name}: {type(module)}"
    rows, columns = module.codes.shape if embedding else (module.out_features, module.in_features)
    allowed = {
        "left": [(rows, *np.shape(fields.get("left"))[1:2])],
        "right": [(*np.shape(fields.get("right"))[:1], columns)],
        "bias": [(rows,)],
        "scale": [(), (rows, 1)],
        "zero_point": [(), (rows, 1)],
    }
    for field, value in fields.items():
        if value is not None:
            shapes = allowed.get(field, [(rows, columns)])
            assert value.shape in shapes, f"{name}.{field} is {value.shape}, expected {shapes}"
