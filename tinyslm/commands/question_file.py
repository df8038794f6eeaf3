"""The options of `tinyslm evaluate` for a file of multiple-choice questions, and what it prints of them."""

import json
import sys
from pathlib import Path

import numpy as np

from tinyslm.commands.parser import check_minimum, write_text
from tinyslm.commands.progress import Progress
from tinyslm.errors import ConfigError
from tinyslm.evaluation.option_scores import accuracy, score_questions
from tinyslm.reporting.number_format import percent
from tinyslm.reporting.terminal_table import fitted, table_lines
from tinyslm.text.question_prompts import FORMATS
from tinyslm.text.questions import read_questions

FORMS = (
    "A file of questions has one JSON object per line with question, options and answer; or it is CSV with the "
    "columns question, A, B, ..., and answer, or in the form of MMLU. The answer is the index of an option from 0, its "
    "letter or its text. Options are scored as in lm-evaluation-harness: acc chooses the one with the highest "
    "log-probability, acc_norm the one with the highest log-probability per character."
)
OPTIONS = ("format", "shots", "examples", "json")  # only for a file of questions


def add_arguments(parser):
    """The options for questions."""
    questions = (
        "exam questions per subject of the built-in corpus, or a file of multiple-choice questions (.jsonl, .csv)"
    )
    parser.option("--questions", 200, questions, "N|FILE", type=_number_or_path)
    style = "an option follows the prompt as its text, or as its letter after a list of all options (MMLU)"
    parser.option("--format", None, f"{style} (default: text)", choices=FORMATS)
    shots = "solved examples before each question, from --examples or else the first N of FILE, which are not judged"
    parser.option("--shots", None, f"{shots} (default: all of --examples)", "N", type=int)
    parser.option("--examples", None, "file of questions for solved examples", "FILE")
    parser.epilog = FORMS
    parser.option("--json", None, "also write the results, with the log-probabilities of every option", "FILE")


def open_questions(arguments):
    """(questions to judge, solved examples) of the file --questions, or None if it is a number of exam questions."""
    if isinstance(arguments.questions, int):
        check_minimum(arguments, questions=0)
        given = [name for name in OPTIONS if getattr(arguments, name) is not None]
        if given:
            raise ConfigError(f"--{given[0]} can only be used with --questions FILE")
        return None
    if arguments.per_token:
        raise ConfigError("--per-token is for the exam of the built-in corpus; acc_norm is the score by length")
    check_minimum(arguments, shots=0)
    questions, shots = read_questions(arguments.questions), arguments.shots
    if arguments.examples is None:
        examples, questions = questions[: shots or 0], questions[shots or 0 :]
        source, rest = arguments.questions, "; at least one more must remain to be judged"
    else:
        examples = read_questions(arguments.examples)[:shots]
        source, rest = arguments.examples, ""
    if len(examples) < (shots or 0) or not questions:
        raise ConfigError(f"--shots is {shots}, but {source} has {len(examples)} questions{rest}")
    return questions, examples


def _number_or_path(text):
    return int(text) if text.removeprefix("-").isdecimal() else text


def judge(arguments, model, tokenizer, marks, questions, examples):
    """Score the questions, and print accuracies by subject. marks: of documents;  the rest as of `open_questions`."""
    style = arguments.format or "text"
    with Progress(len(questions), "question", leave=False) as progress:
        options = {"style": style, "examples": examples, "progress": progress.advance}
        scored = score_questions(model, tokenizer, questions, marks, **options)
    cut = sum(each.is_cut for each in scored)
    if cut:
        context = f"the model's context of {model.config.max_position_embeddings} tokens"
        print(
            f"tinyslm: {cut} of {len(scored)} prompts exceed {context}; their beginning was left out", file=sys.stderr
        )
    results = {"acc": accuracy(scored)}
    if style == "text":  # letters have one length
        results["acc_norm"] = accuracy(scored, by_length=True)
    chance = float(np.mean([1 / len(question.options) for question in questions]))
    counts = f"{len(questions)} question{'s' * (len(questions) != 1)}, {_option_counts(questions)}"
    prompts = f"{style} format, {len(examples)} example{'s' * (len(examples) != 1)}"
    print(fitted(f"{Path(arguments.questions).name}: {counts}; {prompts}"))
    print("\n".join(table_lines(_rows(results, chance), right=(1, 2, 3))))
    if len(results["acc"].asked) > 1:
        print("\n" + "\n".join(table_lines(_subject_rows(results), right=range(1, 2 + len(results)))))
    if arguments.json:
        record = _record(results, chance, scored)
        settings = {"model": str(arguments.model), "questions": str(arguments.questions), "format": style}
        write_text(arguments.json, json.dumps(settings | {"shots": len(examples)} | record, indent=1) + "\n")


def _option_counts(questions):
    counts = sorted({len(question.options) for question in questions})
    return f"{counts[0]} options" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} options"


def _rows(results, chance):
    rows = [["", "correct", "95 % interval", "standard error"]]
    for name, result in results.items():
        interval = " to ".join(percent(bound, 1) for bound in result.interval())
        rows.append([name, percent(result.accuracy, 1), interval, percent(result.standard_error, 1)])
    return [*rows, ["chance", percent(chance, 1), "", ""]]


def _subject_rows(results):
    first = results["acc"]
    by_subject = {name: result.by_subject() for name, result in results.items()}
    rows = [["subject", "questions", *results]]
    for subject in sorted(first.asked):
        shares = [percent(shares[subject], 1) for shares in by_subject.values()]
        rows.append([subject or "(none)", str(first.asked[subject]), *shares])
    return rows


def _record(results, chance, scored):
    """The results as plain values."""
    record = {}
    for name, result in results.items():
        low, high = result.interval()
        shares = {"accuracy": result.accuracy, "low": low, "high": high, "standard_error": result.standard_error}
        record[name] = shares | {"by_subject": result.by_subject()}
    answers = [
        {
            "question": each.question.question,
            "options": each.question.options,
            "answer": each.question.answer,
            "chosen": each.chosen,
            "chosen_by_length": each.chosen_by_length,
            "is_cut": each.is_cut,
            "log_probabilities": each.log_probabilities,
        }
        for each in scored
    ]
    return record | {"chance": chance, "asked": len(scored), "answers": answers}
