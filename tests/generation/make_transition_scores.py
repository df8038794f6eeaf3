"""Write transition_scores.json: log-probabilities that Hugging Face transformers gives for generated tokens.

    python tests/generation/make_transition_scores.py

Needs torch and transformers, which the tests do not. Each case is a generation of a model of tests/golden: its tokens,
and `compute_transition_scores(..., normalize_logits=True)` of the logits and of the scores.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
MODEL = "llama3"
PROMPTS = [[5, 9, 9, 12, 7], [20, 6, 11, 6, 8]]
NEW_TOKENS = 8
GREEDY = {"do_sample": False}
SAMPLED = {"do_sample": True, "top_k": 0}
CASES = {
    "greedy": GREEDY,
    "greedy, penalty": GREEDY | {"repetition_penalty": 1.7},
    "temperature": SAMPLED | {"temperature": 0.7},
    "top-k": SAMPLED | {"top_k": 5},
    "top-p": SAMPLED | {"top_p": 0.6},
    "min-p": SAMPLED | {"min_p": 0.2},
    "all": {"do_sample": True, "temperature": 1.5, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3},
}


def main():
    """Write the file."""
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "golden" / MODEL, dtype=torch.float32)
    inputs = {"input_ids": torch.tensor(PROMPTS), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    made = {"model": MODEL, "prompts": PROMPTS, "cases": {}}
    outputs = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    for name, settings in CASES.items():
        torch.manual_seed(0)
        found = model.generate(
            **inputs, **settings, **outputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, eos_token_id=None
        )
        rows = {"tokens": found.sequences[:, 5:].tolist()}
        for key, values in (("log_probabilities", found.logits), ("sampled_log_probabilities", found.scores)):
            scores = model.compute_transition_scores(found.sequences, values, normalize_logits=True)
            rows[key] = [[round(value, 6) for value in row] for row in scores.tolist()]
        made["cases"][name] = {"settings": settings} | rows
    (HERE / "transition_scores.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
