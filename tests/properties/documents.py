"""Rows of token ids for the properties of batches and of masked tokens."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyslm.text.batches import pad_documents

MASK = 7


def predictions(rows):
    """Every pair (previous token, predicted token), with its number of occurrences."""
    return Counter((int(before), int(token)) for row in rows for before, token in pairwise(row))


@st.composite
def rows(draw):
    """token_ids and labels of documents of different lengths, none of which holds the mask token."""
    rng = np.random.default_rng(draw(seeds))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    return pad_documents([rng.integers(8, 50, length).astype(np.int32) for length in lengths])
