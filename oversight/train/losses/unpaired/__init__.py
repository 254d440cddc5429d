"""Losses on single responses that were called good or bad, compared with no other.

A file's docstring writes u = log pi(y|x) - log ref(y|x).
"""

from oversight.train.losses.unpaired.rows import UnpairedLogps

__all__ = ["UnpairedLogps"]
