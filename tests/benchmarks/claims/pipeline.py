"""Claims about techniques together."""

import numpy as np

from tests.benchmarks.claims.claim import Claim, in_order
from tinyslm.evaluation import footprint
from tinyslm.recipes import Factorize, FreshStudent, Quantize, QuantizeGPTQ, Recover, SliceNeurons

SHARE = 1 / 10  # of the bytes of the dense model
STEPS, RATE = 40, 5e-4
