"""Write expected.json: what `apply_chat_template` of Hugging Face transformers makes of conversations.

    python tests/text/chat_templates/make.py

Needs transformers, which the tests do not. The templates beside this file were written for the tests, each in the
manner of a family of published ones. For a conversation that transformers refuses, expected.json holds null.
"""

import json
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SYSTEM = {"role": "system", "content": " Be kind. /no_think "}
QUESTION = {"role": "user", "content": "Où? \n"}
ANSWER = {"role": "assistant", "content": "<think>\nHm\n</think>\n\nHere."}
LOOKS_LIKE_CODE = {"role": "user", "content": "{{ 'not' }} a <b>template</b> & \"so\"", "name": None}
CONVERSATIONS = {
    "question": [QUESTION],
    "system": [SYSTEM, QUESTION],
    "three turns": [QUESTION, ANSWER, LOOKS_LIKE_CODE],
    "system and four turns": [SYSTEM, QUESTION, ANSWER, QUESTION | {"content": ""}, ANSWER | {"content": "x"}],
    "two questions": [QUESTION, QUESTION],
    "other role": [QUESTION, {"role": "critic", "content": "No."}],
    "answer first": [ANSWER, QUESTION],
}


def main():
    """Write the file."""
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL_TOKENS)
    cases = []
    for path in sorted(HERE.glob("*.jinja")):
        for name, messages in CONVERSATIONS.items():
            for options in (
                {"add_generation_prompt": True},
                {"add_generation_prompt": False, "enable_thinking": False},
            ):
                try:
                    text = tokenizer.apply_chat_template(
                        messages, chat_template=path.read_text(), tokenize=False, **options
                    )
                except (TemplateError, TypeError):
                    text = None
                cases.append({"template": path.stem, "conversation": name, "options": options, "text": text})
    found = {"special_tokens": tokenizer.special_tokens_map, "conversations": CONVERSATIONS, "cases": cases}
    (HERE / "expected.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
