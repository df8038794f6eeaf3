"""Threads of the matrix library that have nothing to do give their core back soon.

After a product, the threads of OpenBLAS wait for the next one actively, for a tenth of a second, on the cores where our
own threads (see `parallel`) then want to work: these get half a core. Asked to, they go to sleep earlier; not at once,
since waking them for each of the products that follow one another takes longer than a small product.

OpenBLAS reads this once, when NumPy is loaded. Hence `tinyslm` imports this module before all others; in a program that
imported NumPy earlier it changes nothing. What is computed does not change.
"""

import os

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")  # 2^20 cycles of the processor, instead of 2^28
