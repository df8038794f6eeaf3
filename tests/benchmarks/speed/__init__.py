"""How fast tinyslm is, beside what people use instead and beside what the machine can do at best.

    python -m tests.benchmarks.speed --out data/benchmarks.json
    python -m tests.benchmarks.speed train-1m generate-4m

Peers (PyTorch, transformers, llama.cpp through its Python binding) take part where they are installed: none of them is
needed. The two sides of a case take turns, each in a process of its own, so that what else the machine does meets both
alike, and the ratio is taken within each round.
"""
