"""What is timed is what is said: one prompt, then one token per pass through the cache. No real time is tested."""

import weakref

import numpy as np
import pytest

from tests.strategies import generic_model
from tinyslm.evaluation import Speed, latency, measure_speeds
from tinyslm.generation import prepare
from tinyslm.models import DecoderConfig

MODEL = generic_model(DecoderConfig("test", 23, 10, 14, 1, 2, 1, 6, 20))


class Counting:
    """A model that notes what it reads, with a clock that moves by a second per token read."""

    config, check_inputs = MODEL.config, MODEL.check_inputs

    def __init__(self):
        self.read, self.time = [], 0.0

    def __call__(self, token_ids, attention_mask, *, cache, last_only):
        self.read.append((cache.length, token_ids.shape))
        self.time += token_ids.shape[1] if cache.length == 0 else 4
        return MODEL(token_ids, cache=cache, last_only=last_only)


@pytest.mark.parametrize(("asked", "expected"), [((6, 3), (6, 3)), ((128, 32), (10, 10))])
def test_the_work_that_is_timed(monkeypatch, asked, expected):
    counting = Counting()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: counting.time)
    speeds = measure_speeds([counting, counting], prompt_length=asked[0], new_tokens=asked[1], rounds=2)
    length, new = expected
    run = [(0, (1, length))] + [(length + i, (1, 1)) for i in range(new)]
    assert counting.read == 3 * 2 * run  # three rounds, the first to warm up, in which the two take turns
    assert speeds == 2 * [(Speed(1.0, 1.0, 1.0), Speed(0.25, 0.25, 0.25))]


def test_a_decoder_is_timed_with_an_engine(monkeypatch):
    made = []
    monkeypatch.setattr(latency, "prepare", lambda model: made.append(model) or prepare(model))
    measure_speeds([MODEL], prompt_length=3, new_tokens=2, rounds=2)
    assert made == [MODEL] * 3


def test_models_that_are_loaded_in_turn_are_in_memory_one_at_a_time():
    class Loading:
        """Loads two models per round, and notes all of them."""

        def __init__(self):
            self.loaded = []

        def __iter__(self):
            for _ in range(2):
                assert all(reference() is None for reference in self.loaded)
                yield self.load()

        def load(self):
            model = Counting()
            self.loaded.append(weakref.ref(model))
            return model

    loading = Loading()
    assert len(measure_speeds(loading, prompt_length=3, new_tokens=2, rounds=3)) == 2
    assert len(loading.loaded) == 2 * (3 + 1)


def test_the_median_and_the_quartiles():
    assert Speed.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Speed(median=3.0, low=2.0, high=4.0)
    assert Speed.of(np.array([7.0])) == Speed(7.0, 7.0, 7.0)
