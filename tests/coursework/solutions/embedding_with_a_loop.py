"""A loop over the tokens for the gradient."""

import numpy as np

from tinyslm.autodiff import differentiable


@differentiable
def embedding(token_ids, table):
    def vjp(dy):
        gradient = np.zeros_like(table)
        for index in np.ndindex(token_ids.shape):
            gradient[token_ids[index]] += dy[index]
        return None, gradient

    return np.take(table, token_ids, axis=0), vjp
