"""Text generation: the key/value cache, the inference engine, sampling, and the loop over tokens."""

from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.engine import Engine
from tinyslm.generation.engine_preparation import prepare, reason_against
from tinyslm.generation.generate import end_tokens, generate, stream
from tinyslm.generation.log_probabilities import ScoredTokens, generate_with_log_probabilities
from tinyslm.generation.quantized_cache import QuantizedKeyValueCache
from tinyslm.generation.sampling import next_token_probabilities, sample

__all__ = [
    "Engine",
    "KeyValueCache",
    "QuantizedKeyValueCache",
    "ScoredTokens",
    "end_tokens",
    "generate",
    "generate_with_log_probabilities",
    "next_token_probabilities",
    "prepare",
    "reason_against",
    "sample",
    "stream",
]
