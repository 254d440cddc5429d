"""Shares as words: rounded, but never to all or to none unless they are."""

from __future__ import annotations

EXACT = 1e-9
"""Distance at which a share counts as 0 or 1: sums of fractions end a last bit beside it."""


def percent(value: float | None) -> str:
    """A share as whole per cent, such as `76 %`; a dash where there is none.

    One that would round to 0 or 100 keeps the decimals that tell it apart: 0.996 is `99.6 %`.
    """
    return "–" if value is None else f"{per_cent(value)} %"


def per_cent(value: float) -> str:
    """The number of `percent`, for intervals and columns that have the unit elsewhere."""
    size = 0.0 if abs(value) < EXACT else abs(value)
    whole = size == 0.0 or abs(size - 1.0) < EXACT
    shown = next(
        text
        for digits in range(12)
        if (text := f"{100 * size:.{digits}f}") and (whole or float(text) not in (0.0, 100.0))
    )
    return f"−{shown}" if value < 0 and size else shown
