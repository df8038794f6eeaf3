"""Conversations: each prompt gives what it gives alone, and known tokens are not read again."""

import numpy as np
import pytest

from tests.golden import DIRECTORY
from tests.strategies import generic_model
from tinyslm.checkpoints import load_model
from tinyslm.errors import DataError
from tinyslm.generation import generate
from tinyslm.generation.conversation import Conversation
from tinyslm.generation.decoding_steps import Sampling, decoding_steps
from tinyslm.generation.engine import BlockStep, Engine
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope

CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 40, ropes=(Rope(100.0, 6),) * 2, windows=(5, None))
GENERATOR = np.random.default_rng(0)


def continued(conversation, prompt, count):
    """Greedy tokens of a prompt, through the conversation."""
    state = conversation.start(np.array([prompt]), count)
    return [int(step.tokens[0]) for step in decoding_steps(state, count, Sampling(), GENERATOR)]


def alone(model, prompt, count, **options):
    return generate(model, [prompt], count, **options)[0].tolist()


@pytest.fixture
def read(monkeypatch):
    """The number of tokens of every pass, of the model or of an engine."""
    counts = []
    hidden_states, step = type(generic_model(CONFIG)).hidden_states, Engine.step

    def counted(self, token_ids, *arguments, **options):
        counts.append(np.shape(token_ids)[1])
        return hidden_states(self, token_ids, *arguments, **options)

    def counted_step(self, tokens):
        counts.append(1)
        return step(self, tokens)

    monkeypatch.setattr("tinyslm.models.decoder.Decoder.hidden_states", counted)
    monkeypatch.setattr(Engine, "step", counted_step)
    return counts


@pytest.mark.parametrize("cache", ["exact", "int8"])
def test_turns_of_a_conversation(read, cache):
    """The last token of an answer has not been read, so it is read with the next question."""
    model = generic_model(CONFIG, seed=2)
    conversation, prompt, unread = Conversation(model, cache), [3, 1, 4], 3
    for question in ([1, 5], [9], [2, 6, 5]):
        del read[:]
        answer = continued(conversation, prompt, 5)
        assert read == [unread, 1, 1, 1, 1]
        assert answer == alone(model, prompt, 5, cache=cache)
        prompt, unread = prompt + answer + question, 1 + len(question)


@pytest.mark.parametrize(
    ("other", "unread"), [([3, 1, 4, 1, 9, 2, 6], 3), ([3, 1, 4], 1), ([3, 1, 4, 1, 5, 9], 1), ([7], 1), ([7, 1, 4], 3)]
)
def test_of_a_past_that_changed_the_equal_begin_is_kept(read, other, unread):
    model = generic_model(CONFIG, seed=2)
    conversation = Conversation(model)
    continued(conversation, [3, 1, 4, 1, 5, 9], 6)
    del read[:]
    assert continued(conversation, other, 8) == alone(model, other, 8)
    assert read[0] == unread


@pytest.mark.parametrize("layer", [0, 1])
def test_an_interrupted_pass_leaves_the_conversation_intact(monkeypatch, layer):
    model = generic_model(CONFIG, seed=2)
    conversation, prompt = Conversation(model), [3, 1, 4, 1, 5, 9]
    answer, passes = [], []
    call = BlockStep.__call__

    def interrupted(self, *arguments, **options):
        passes.append(self)
        if len(passes) == 2 * 3 + layer + 1:  # the prompt is read by the model, then the engine reads three tokens
            raise KeyboardInterrupt
        return call(self, *arguments, **options)

    monkeypatch.setattr(BlockStep, "__call__", interrupted)
    state = conversation.start(np.array([prompt]), 20)
    with pytest.raises(KeyboardInterrupt):
        answer += (int(step.tokens[0]) for step in decoding_steps(state, 20, Sampling(), GENERATOR))
    prompt = [*prompt, *state.sequence[0, len(prompt) : state.length].tolist(), 7, 8]
    assert len(prompt) == 6 + 4 + 2
    assert continued(conversation, prompt, 6) == alone(model, prompt, 6)


def test_keys_of_other_rotation_angles_are_computed_again(read):
    """longrope: the factors change within the first answer, and change back for a shorter prompt."""
    model = load_model(DIRECTORY / "phi3_longrope")
    original = model.config.ropes[0].original_length
    conversation, prompt = Conversation(model), list(range(4, original))
    answer = continued(conversation, prompt, 3)
    assert answer == alone(model, prompt, 3)
    for longer in ([*prompt, *answer, 5, 6, 7, 8, 9], prompt[:5]):
        del read[:]
        assert continued(conversation, longer, 3) == alone(model, longer, 3)
        assert read[0] == len(longer)


def test_a_prompt_that_does_not_fit():
    conversation = Conversation(generic_model(CONFIG))
    with pytest.raises(DataError, match="context"):
        conversation.start(np.ones((1, 39), int), 3)
