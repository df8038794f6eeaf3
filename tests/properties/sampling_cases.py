"""Logits and temperatures for the tests of sampling."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.strategies import seeds

temperatures = st.floats(0.05, 20)


@st.composite
def logit_rows(draw):
    """(B, V) logits: generic, or small integers with many ties."""
    if draw(st.booleans()):
        return np.random.default_rng(draw(seeds)).standard_normal((3, 11)) * 4
    return draw(hnp.arrays(np.float64, (2, 7), elements=st.integers(-3, 3).map(float)))
