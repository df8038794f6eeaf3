"""Speed and memory of tinyslm, compared with other libraries and with the limits of the machine.

    python -m tests.benchmarks.speed --out data/benchmarks.json
    python -m tests.benchmarks.speed train-1m generate-4m

The peers (PyTorch, transformers, llama.cpp through xllamacpp) are optional. The table names those that are not
installed or cannot run. Each peer runs in a process of its own. The runners of a case are measured alternately, and
ratios are taken within each round, so that other work on the machine affects all of them.
"""
