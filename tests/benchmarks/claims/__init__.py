"""Claims of the literature about small models, each measured again at the size of the built-in one.

python -m tests.benchmarks.claims                        # all, with three seeds: the table and data/claims.json
python -m tests.benchmarks.claims int8 gptq --seeds 0    # single claims by name
python -m tests.benchmarks.claims --list
"""
