"""Another draw than the library's, and a plain tuple."""

import random

import numpy as np

from tinyslm.ops import IGNORED
from tinyslm.recipes.tasks import HIDDEN_SHARE


def hide_tokens(token_ids, labels, mask_token_id):
    inputs, targets = np.array(token_ids), np.full(labels.shape, IGNORED)
    for row, length in enumerate(np.sum(labels != IGNORED, axis=1)):
        draw = random.Random(str(token_ids[row, :length].tolist()))
        chosen = [i for i in range(length) if draw.random() < HIDDEN_SHARE] or [draw.randrange(length)]
        inputs[row, chosen] = mask_token_id
        targets[row, chosen] = labels[row, chosen]
    return {"token_ids": inputs, "attention_mask": labels != IGNORED}, targets
