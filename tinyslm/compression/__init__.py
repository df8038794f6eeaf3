"""Mathematics of model compression: pure functions of arrays, and the layers that replace `Linear`.

- `distillation`: losses that train a student on the outputs of a teacher.
- `pruning`: masks, importance and slices that remove weights or whole units.
- `quantization`: low-bit numbers, and products of them.
- `factorization`: a weight matrix as the product of two thin matrices.

Nothing here depends on a model or trains one; `tinyslm.recipes` applies these functions to models. A weight is always
(out, in): y = x W^T + b. A *ratio* is the fraction of parameters kept, a *sparsity* the fraction removed. Inputs and
results follow the policy for numbers in `tinyslm.errors`.
"""
