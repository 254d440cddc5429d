"""No pauses of the garbage collector while a person reads.

A full collection goes through everything that is in memory, a tenth of a second for the libraries
alone, and is due every few seconds while words stream in. What is there when an item is opened
stays while it is open, so that the collector need not look at it.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect once, and leave out from now on all that is in memory."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
