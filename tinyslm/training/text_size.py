"""Training settings that follow from the size of a text.

The rule is for texts of 30 kB to some tens of MB and models of about a million parameters:

- Vocabulary: 3 times the root of the number of characters. A larger one has tokens that the text hardly contains.
- Batch: 3 times the root of the number of tokens. With larger batches a short text gives too few steps.
- Passes: 6, because repeated tokens are worth almost as much as new ones for about 4 passes (Muennighoff et al. 2023,
  "Scaling Data-Constrained Language Models"), and the best model is kept. Long texts are passed over less often, down
  to twice, so that the training does not take hours.
- Learning rate: inversely proportional to the width of the model.

Measured with `tinyslm train --text FILE --threads 1` (best: step and loss of the model that is written):

| text                        | vocabulary | batch | steps | best | bits per byte |
|-----------------------------|------------|-------|-------|------|---------------|
| 35 kB of plays              | 556        | 7     | 228   | 117  | 2.73          |
| 35 kB of documentation      | 556        | 4     | 234   | 234  | 2.16          |
| 200 kB of plays             | 1331       | 17    | 497   | 323  | 2.26          |
| 200 kB of documentation     | 1328       | 13    | 455   | 378  | 1.92          |

Other settings, on the plays, in bits per byte: 35 kB, vocabulary 400, with a rate of 0.001, 0.002 and 0.004: 3.13, 2.93
and 2.78; in batches of 1,600, 800 and 400 tokens: 3.07, 2.93 and 2.85. 200 kB in 4 passes, with a vocabulary of 512
and 1536: 2.36 and 2.29; in batches of 1,600 and 800 tokens: 2.37 and 2.29.
"""

import math

RECOMMENDED_TOKENS = 100_000  # with fewer, the validation loss rises before the text has been learned
LEAST_VOCABULARY, LARGEST_VOCABULARY = 512, 4096
ROOTS = 3  # vocabulary and batch, in roots of the size
MOST_PASSES, FEWEST_PASSES, PROCESSED_TOKENS = 6, 2, 3_000_000
LARGEST_RATE, RATE_TIMES_WIDTH = 4e-3, 0.512
MICRO_BATCH, MICRO_BATCH_LOGITS = 5, 2**25  # rows of a micro-batch at most, and numbers in its logits


def vocabulary_for(characters: int) -> int:
    """Maximum size of the vocabulary for a text.

    Examples
    --------
    >>> [vocabulary_for(characters) for characters in (20_000, 200_000, 20_000_000)]
    [512, 1341, 4096]
    """
    return min(max(int(ROOTS * math.sqrt(characters)), LEAST_VOCABULARY), LARGEST_VOCABULARY)


def batch_for(tokens: int, rows: int) -> int:
    """Rows per step for training data of `rows` rows and `tokens` predicted tokens.

    Examples
    --------
    >>> batch_for(tokens=90_000, rows=900)
    9
    """
    return max(round(ROOTS * math.sqrt(tokens) * rows / tokens), 1)


def steps_for(tokens: int, rows: int, batch: int) -> int:
    """Training steps of `batch` rows.

    Examples
    --------
    >>> steps_for(tokens=90_000, rows=900, batch=9), steps_for(tokens=9_000_000, rows=90_000, batch=90)
    (600, 2000)
    """
    passes = min(max(PROCESSED_TOKENS / tokens, FEWEST_PASSES), MOST_PASSES)
    return max(round(passes * rows / batch), 1)


def rate_for(hidden_size: int) -> float:
    """Peak learning rate for the width C of a model.

    Examples
    --------
    >>> rate_for(128), rate_for(256)
    (0.004, 0.002)
    """
    return min(RATE_TIMES_WIDTH / hidden_size, LARGEST_RATE)


def micro_batch_for(batch: int, threads: int, context: int, vocab_size: int) -> int:
    """Rows per gradient: a share for each thread, and few enough that the logits of (rows, T, V) fit in memory.

    Examples
    --------
    >>> micro_batch_for(40, 2, 256, 1536), micro_batch_for(6, 2, 256, 1536), micro_batch_for(40, 2, 512, 50_000)
    (5, 3, 1)
    """
    most = min(MICRO_BATCH, MICRO_BATCH_LOGITS // (context * vocab_size))
    return max(min(most, -(-batch // threads)), 1)
