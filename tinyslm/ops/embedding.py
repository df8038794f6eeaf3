"""Looking up rows of a table: how a token becomes a vector."""

import numpy as np
import scipy

from tinyslm.autodiff import differentiable


@differentiable
def embedding(token_ids, table):
    """y[..., :] = table[token_ids[...], :].

    token_ids: (...) integers;  table: (V, C);  returns (..., C).
    The lookup is a product with a one-hot matrix, y = O E, so its gradient is O^T dy: rows of tokens that occur
    several times receive a sum. The sparse product does that sum 5 to 10 times faster than `np.add.at`.
    """

    def vjp(dy):
        flat = token_ids.reshape(-1)
        one_hot = scipy.sparse.csr_array(
            (np.ones(flat.size, dy.dtype), flat, np.arange(flat.size + 1)), shape=(flat.size, table.shape[0])
        )
        return None, one_hot.T @ dy.reshape(flat.size, -1)  # (V, C)

    return table[token_ids], vjp
