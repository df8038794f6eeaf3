"""Prompts of multiple-choice questions, in two formats.

    text                              letters
    Question: What is frozen water?   What is frozen water?
    Answer: ice                       A. ice
                                      B. steam
                                      Answer: A

The first is that of the task arc_easy of lm-evaluation-harness, the second that of its task mmlu (Hendrycks et al.
2021). The model reads the prompt up to "Answer:", and an option continues it. Solved examples stand before the prompt,
separated by empty lines.
"""

from collections.abc import Sequence
from string import ascii_uppercase as LETTERS

from tinyslm.text.questions import WrittenQuestion

FORMATS = ("text", "letters")


def prompt_of(question: WrittenQuestion, style: str = "text", examples: Sequence[WrittenQuestion] = ()) -> str:
    """The text that the model reads before an option. style: one of FORMATS;  examples: solved questions before it."""
    solved = (f"{prompt_of(each, style)} {continuations_of(each, style)[each.answer]}\n\n" for each in examples)
    if style == "letters":
        listed = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, question.options, strict=False))
        return f"{''.join(solved)}{question.question.strip()}\n{listed}Answer:"
    return f"{''.join(solved)}Question: {question.question}\nAnswer:"


def continuations_of(question: WrittenQuestion, style: str = "text") -> tuple[str, ...]:
    """Continuation of the prompt and a space for each option: its text or its letter. style: one of FORMATS."""
    return tuple(LETTERS[: len(question.options)]) if style == "letters" else question.options
