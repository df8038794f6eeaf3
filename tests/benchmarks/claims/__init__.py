"""Claims of the literature about small models, each measured again at the size of the built-in one.

python -m tests.benchmarks.claims --out data/claims.json           # all, with three seeds: the table, and as JSON
python -m tests.benchmarks.claims int8-weights gptq --seeds 0      # single claims by name
python -m tests.benchmarks.claims --list
"""
