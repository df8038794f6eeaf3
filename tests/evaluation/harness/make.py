"""Make the files of this directory: a tiny model, questions, and what lm-evaluation-harness computes with both.

    HF_HUB_OFFLINE=1 python tests/evaluation/harness/make.py            # needs lm_eval, torch and transformers
    HF_HUB_OFFLINE=1 python tests/evaluation/harness/make.py --compare  # the harness with the adapter of this library

The harness runs the model by its own class for transformers. The model has random weights, a context of 80 tokens,
which some prompts exceed, and a tokenizer that begins texts with <s>. The tests demand the numbers of expected.json.
"""

import json
import sys
from itertools import chain
from pathlib import Path

import lm_eval
import lm_eval.evaluator
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
MODEL, QUESTIONS, EXAMPLES = HERE / "model", HERE / "questions.jsonl", HERE / "examples.jsonl"
FORMATS = {  # of a prompt and of the options, as Jinja templates of the harness
    "text": ("Question: {{question}}\nAnswer:", "{{options}}"),
    "letters": (
        "{{question.strip()}}\n{% for option in options %}{{'ABCDEFGH'[loop.index0]}}. {{option}}\n{% endfor %}Answer:",
        "{{'ABCDEFGH'[:options|length]|list}}",
    ),
}
SHOTS = (0, 1, 3)
PAIRS = [  # (context, continuation): empty, with spaces at its end, beginning with the token that begins texts, cut
    ("", "ice"),
    ("", "<s> ice"),
    ("Frozen water is ", "ice"),
    ("Frozen water is", " ice"),
    ("<s>Frozen water is", " ice and snow"),
    ("The season after spring is " * 12, "summer, and then"),
    ("A", " winter" * 12),
]
TEXTS = ["ice", "Frozen water is ice.", "The season after spring is summer. " * 12, "é" * 81, ""]
PROMPTS = [
    ("Frozen water is", {"until": ["\n\n"], "max_gen_toks": 12}),
    ("The season after spring is " * 12, {"until": [], "max_gen_toks": 20, "do_sample": False}),
    ("A red thing is", {"until": "e", "max_gen_toks": 30}),
]


def make_model():
    """Save a tokenizer that adds <s>, and a Llama with random weights."""
    texts = [QUESTIONS.read_text("utf-8"), EXAMPLES.read_text("utf-8"), "Question: Answer: A. B. C. D."]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.save_pretrained(MODEL)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=80,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            start = parameter if parameter.ndim == 1 else 0
            parameter.copy_(start + 0.4 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(MODEL)
    (MODEL / "generation_config.json").unlink()


def task(style, shots):
    """The configuration of a task of the harness: own questions, and examples from another file."""
    prompt, options = FORMATS[style]
    return {
        "task": f"{style}_{shots}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(QUESTIONS), "examples": str(EXAMPLES)}},
        "test_split": "test",
        "fewshot_split": "examples",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": shots,
        "output_type": "multiple_choice",
        "doc_to_text": prompt,
        "doc_to_choice": options,
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }


def measured(model):
    """What the harness computes with one of its models."""
    record = {"tasks": [], "pairs": [], "texts": [], "prompts": []}
    for style in FORMATS:
        for shots in SHOTS:
            found = lm_eval.simple_evaluate(model, tasks=[task(style, shots)], log_samples=True, bootstrap_iters=100)
            (name,) = found["results"]
            results, samples = found["results"][name], sorted(found["samples"][name], key=lambda each: each["doc_id"])
            record["tasks"].append(
                {
                    "format": style,
                    "shots": shots,
                    **{key: results[f"{key},none"] for key in ("acc", "acc_norm", "acc_stderr", "acc_norm_stderr")},
                    "log_probabilities": [[float(answer[0][0]) for answer in each["resps"]] for each in samples],
                    "correct": [[each["acc"], each["acc_norm"]] for each in samples],
                }
            )
    for kind, name, inputs in (
        ("loglikelihood", "pairs", PAIRS),
        ("loglikelihood_rolling", "texts", [(text,) for text in TEXTS]),
        ("generate_until", "prompts", PROMPTS),
    ):
        requests = [Instance(kind, {}, each, i) for i, each in enumerate(inputs)]
        found = getattr(model, kind)(requests)
        record[name] = [{"args": args, "found": each} for args, each in zip(inputs, found, strict=True)]
    return record


def compare():
    """Print the largest differences between the harness with the adapter of this library and expected.json."""
    from tinyslm.evaluation.lm_eval_adapter import HarnessModel

    found = json.loads(json.dumps(measured(HarnessModel(str(MODEL)))))
    expected = json.loads((HERE / "expected.json").read_text("utf-8"))
    for ours, theirs in zip(found["tasks"], expected["tasks"], strict=True):
        numbers = (list(chain(*each["log_probabilities"])) for each in (ours, theirs))
        largest = max(abs(a - b) for a, b in zip(*numbers, strict=True))
        names = ("acc", "acc_norm", "acc_stderr", "acc_norm_stderr", "correct")
        same = all(ours[name] == theirs[name] for name in names)
        accuracies = f"acc {theirs['acc']:.4f}, acc_norm {theirs['acc_norm']:.4f}"
        print(f"{theirs['format']}, {theirs['shots']} examples: {accuracies}, equal: {same}; nats off by {largest:.1e}")
    for name in ("pairs", "texts", "prompts"):
        for ours, theirs in zip(found[name], expected[name], strict=True):
            print(name, str(theirs["args"])[:40], ours["found"], theirs["found"])


if __name__ == "__main__":
    lm_eval.evaluator.add_env_info = lambda results: None  # takes a minute
    if "--compare" in sys.argv:
        compare()
    else:
        make_model()
        model = HFLM(pretrained=str(MODEL), device="cpu", dtype="float32", batch_size=1)
        record = measured(model) | {"lm_eval": "0.4.13", "transformers": transformers.__version__}
        (HERE / "expected.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
