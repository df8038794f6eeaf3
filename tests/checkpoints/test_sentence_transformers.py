"""Files of sentence-transformers with any content: settings that can be used, or one error of the library."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from tinyslm.checkpoints.sentence_transformers import SentenceSettings, read_sentence_settings
from tinyslm.errors import Error

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5) | st.just("mean"),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=3), children, max_size=2),
    max_leaves=4,
)
KEYS = {
    "sentence_bert_config.json": ("max_seq_length", "do_lower_case"),
    "tokenizer_config.json": ("model_max_length",),
    "config_sentence_transformers.json": ("prompts", "default_prompt_name"),
    "1_Pooling/config.json": (
        "pooling_mode",
        *("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens"),
        "include_prompt",
    ),
}
NAMES = ("", "1_Pooling", "2_Normalize", "..", "a/b", "\0", "x" * 300)
ENTRIES = st.fixed_dictionaries(
    {"type": st.sampled_from(("a.Transformer", "a.Pooling", "a.Normalize", "a.Dense")) | VALUES},
    optional={"path": st.sampled_from(NAMES) | VALUES},
)


@st.composite
def contents(draw):
    """{name of a file: JSON value}."""
    files = {
        name: draw(VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(keys, VALUES)))
        for name, keys in KEYS.items()
        if draw(st.booleans())
    }
    return files | ({"modules.json": draw(VALUES | st.lists(ENTRIES, max_size=3))} if draw(st.booleans()) else {})


@given(contents())
def test_any_content_gives_settings_or_one_error(files):
    with TemporaryDirectory() as folder:
        (Path(folder) / "1_Pooling").mkdir()
        for name, value in files.items():
            (Path(folder) / name).write_text(json.dumps(value))
        try:
            settings = read_sentence_settings(folder)
        except Error as problem:
            assert "\n" not in str(problem) and len(str(problem)) < 1000
            return
    assert settings.pooling in ("mean", "cls", "max") and type(settings.normalize) is type(settings.lower_case) is bool
    assert settings.max_length is None or (type(settings.max_length) is int and settings.max_length >= 1)
    assert isinstance(settings.prompt, str)


def test_a_directory_without_the_files_has_the_defaults(tmp_path):
    assert read_sentence_settings(tmp_path) == SentenceSettings()
