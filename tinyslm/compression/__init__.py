"""The mathematics of making a model smaller: pure functions of arrays, and the layers that stand in for `Linear`.

Four rooms. distillation: losses that teach a small model what a large one knows. pruning: which weights or neurons go,
and how they stay gone. quantization: numbers in eight bits, and products of such numbers. factorization: a matrix as
the product of two thin ones.

Nothing here knows a model or trains one; `tinyslm.recipes` does. A weight is always (out, in): y = x W^T + b. A *ratio*
is the fraction of parameters that is kept, a *sparsity* the fraction that is removed.
"""
