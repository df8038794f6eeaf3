"""Text generation: the key/value cache, sampling, and the loop over tokens."""

from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.generate import end_tokens, generate, stream
from tinyslm.generation.log_probabilities import ScoredTokens, generate_with_log_probabilities
from tinyslm.generation.quantized_cache import QuantizedKeyValueCache
from tinyslm.generation.sampling import next_token_probabilities, sample

__all__ = [
    "KeyValueCache",
    "QuantizedKeyValueCache",
    "ScoredTokens",
    "end_tokens",
    "generate",
    "generate_with_log_probabilities",
    "next_token_probabilities",
    "sample",
    "stream",
]
