"""Directories with a chat template that may be valid, damaged, nonsense or hostile.

A conversation becomes tokens, or is refused with one clear error, in bounded time and memory.
"""

import resource
from pathlib import Path

from tests import process_memory
from tests.checkpoints.fuzz_bytes import damage_bytes
from tests.checkpoints.fuzz_json import TEXTS, Pairs, json_bytes, odd_value
from tinyslm.text import train_tokenizer
from tinyslm.text.template_rendering import MOST_BYTES, MOST_SECONDS

TEMPLATES = Path(__file__).parents[1] / "text" / "chat_templates"
MOST_KILOBYTES = (MOST_BYTES >> 10) + 50_000  # of the process that renders: memory, and the files it maps
HOSTILE = [
    "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ 'x' | center(10**9) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{% for i in range(99999) %}{{ messages | tojson }}{% endfor %}",
    "{% macro f(x) %}{{ f(x + x) }}{% endmacro %}{{ f('a') }}",
    "{{ [[]] * 10**9 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{% set x = namespace(y='a') %}{% for i in range(99) %}{% set x.y = x.y + x.y %}{% endfor %}{{ x.y }}",
    "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
    "{{ raise_exception('\\x1b[2J' * 10**4) }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ ''|attr('__class__') }}",
    "{% include '/etc/passwd' %}",
    "{{ messages.clear() }}",
    "{{ strftime_now('%' * 10**6) }}",
    "{{ loop }}{{ self }}{{ caller() }}",
    "{{ 1 / 0 }}",
    "{{ messages[99].content }}",
    "{% break %}",
    "{{ '\\ud800' }}",
    "",
]
PIECES = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    "|",
    "'",
    "(",
    ")",
    "loop",
    "messages",
    "content",
    "[0]",
    " if ",
    "\n",
]
PIECES += [
    "{% endfor %}",
    "{% endif %}",
    "{% else %}",
    "{% generation %}",
    "{% raw %}",
    "namespace",
    "~",
    "none",
    "é",
    "\0",
]
CONVERSATIONS = [
    [{"role": "user", "content": "The cat"}],
    [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
    [{"role": "critic", "content": "{{ 1 }}"}],
]
ODD = [None, [], "a", [1], [{}], [{"role": 1, "content": "a"}], [{"role": "user", "content": 1}], {"role": "user"}]


def damaged_template(rng):
    """The text of a template: one of the tests, changed in a few places, or hostile."""
    text = rng.choice(sorted(TEMPLATES.glob("*.jinja"))).read_text()
    if rng.random() < 0.15:
        return rng.choice(HOSTILE)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 3])):
        start = rng.randrange(len(text) + 1)
        end = rng.choice([start, start, start + 1, start + 10])
        text = text[:start] + rng.choice([*PIECES, "", text[start : start + 40]]) + text[end:]
    return text + rng.choice(HOSTILE) if rng.random() < 0.05 else text


def write_templates(rng, directory):
    """Write the files of a directory; returns their size."""
    train_tokenizer(["The cat saw the dog."], 260).save(str(directory / "tokenizer.json"))
    settings = Pairs([["bos_token", "<s>"], ["eos_token", rng.choice(["</s>", None, Pairs([["content", "</s>"]])])]])
    text = damaged_template(rng)
    kind = rng.random()
    if kind < 0.5:
        settings.append(["chat_template", text])
    elif kind < 0.7:
        named = [Pairs([["name", name], ["template", text]]) for name in rng.sample(["default", "tool_use", "rag"], 2)]
        settings.append(["chat_template", named])
    if rng.random() < 0.15:
        settings.append([rng.choice(["chat_template", "eos_token", "extra_special_tokens", *TEXTS]), odd_value(rng)])
    files = {"tokenizer_config.json": json_bytes(settings)}
    if kind >= 0.7:
        name = rng.choice(["chat_template.jinja", "additional_chat_templates/default.jinja"])
        files[name] = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        name = rng.choice(sorted(files))
        files[name] = damage_bytes(rng, files[name])
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
    return sum(map(len, files.values()))


def conversation(rng):
    """Messages, which are now and then none."""
    return rng.choice(CONVERSATIONS if rng.random() < 0.9 else ODD)


def check_tokens(token_ids, tokenizer):
    """Raise AssertionError unless these are tokens of the tokenizer: (1, T)."""
    assert token_ids.ndim == 2 and token_ids.shape[0] == 1 and token_ids.shape[1] > 0, token_ids.shape
    assert token_ids.min() >= 0 and token_ids.max() < tokenizer.get_vocab_size()


def usage_of_children():
    """(processor time in seconds, the largest memory in kilobytes) of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def check_usage(before):
    """Raise AssertionError if the process that rendered a template took too much time or memory.

    before: `usage_of_children` before it. The largest memory is that of all processes so far, and Linux counts for
    each what this process had when it started it: a larger one of these hides the memory of the template.
    """
    (seconds_before, kilobytes_before), (seconds, kilobytes) = before, usage_of_children()
    assert seconds - seconds_before < MOST_SECONDS + 2, f"{seconds - seconds_before:.1f} s in the other process"
    hidden = max(kilobytes_before, process_memory.peak() >> 10 if process_memory.STATUS.exists() else 0)
    assert kilobytes < max(MOST_KILOBYTES, hidden + 1), f"{kilobytes} kB in the other process"
