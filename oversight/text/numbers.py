"""Numbers as words, and tables of them: shares, intervals, counts, sizes and times, written alike.

Shares are rounded, but never to all or to none unless they are. A minus is a sign of its own width,
and what is not known is a dash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

EXACT = 1e-9
"""Distance at which a share counts as 0 or 1: sums of fractions end a last bit beside it."""
NONE = "–"
"""Stands where there is no number."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Estimated(Protocol):
    """A value with the ends of its interval, as far as there is one."""

    @property
    def value(self) -> float:
        """The estimate itself."""
        ...

    @property
    def low(self) -> float | None:
        """The lower end."""
        ...

    @property
    def high(self) -> float | None:
        """The upper end."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of plain strings; the first column names the rows."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_WITHIN = re.compile(r"(?<=\d) (?=%)|(?<=[\d%]) (?=\[[−+]?\d)|(?<=\d,) (?=[−+]?\d[\d.]*\])")


def unbroken(text: str) -> str:
    """The text with no-break spaces within what `percent`, `share`, `points` and the like write, so
    that a page breaks no line between an estimate and its interval."""
    return _WITHIN.sub("\N{NO-BREAK SPACE}", text)


# --- shares --------------------------------------------------------------------


def percent(value: float | None, digits: int = 0) -> str:
    """A share as whole per cent, such as `76 %`, or with so many decimals; a dash for none.

    One that would round to 0 or 100 keeps the decimals that tell it apart: 0.996 is `99.6 %`.
    """
    return NONE if value is None else f"{per_cent(value, digits)} %"


def per_cent(value: float, digits: int = 0) -> str:
    """The number of `percent`, for intervals and columns that have the unit elsewhere."""
    size = 0.0 if abs(value) < EXACT else abs(value)
    whole = size == 0.0 or abs(size - 1.0) < EXACT
    shown = next(
        text
        for places in range(digits, digits + 12)
        if (text := f"{100 * size:.{places}f}") and (whole or float(text) not in (0.0, 100.0))
    )
    return f"−{shown}" if value < 0 and size else shown


def interval(estimate: Estimated | None) -> str:
    """`[71, 81]`, in per cent, both ends with as many decimals as either needs: `[0.1, 99.0]`."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    ends = (estimate.low, estimate.high)
    digits = max(len(per_cent(end).partition(".")[2]) for end in ends)
    low, high = (per_cent(end, digits) for end in ends)
    return f"[{low}, {high}]"


def share(estimate: Estimated | None) -> str:
    """`76 % [71, 81]`."""
    return NONE if estimate is None else f"{percent(estimate.value)} {interval(estimate)}".strip()


def points(estimate: Estimated) -> str:
    """A difference in percentage points, `+12 [5, 19]`; an end that only rounds to 0 is shown."""
    value = per_cent(estimate.value)
    shown = value if value == "0" or value.startswith("−") else f"+{value}"
    return f"{shown} {interval(estimate)}".rstrip()


# --- other numbers -------------------------------------------------------------


def decimal(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals, `−0.25`; a dash for none."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def decimals(estimate: Estimated | None) -> str:
    """An estimate that is no share, `0.21 [0.15, 0.28]`; a dash where it has no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return NONE
    return f"{decimal(estimate.value)} [{decimal(estimate.low)}, {decimal(estimate.high)}]"


def signed(value: float, scale: int = 100) -> str:
    """A whole number with its sign, which 0 has not: of a share in percentage points."""
    shown = f"{scale * value:+.0f}"
    return shown[1:] if shown in ("+0", "-0") else shown.replace("-", "−")


def compact(number: float) -> str:
    """Three digits of a number, `12.3k`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def memory(num_bytes: float) -> str:
    """Bytes for people, `1.5 GiB`."""
    for unit in UNITS:
        if num_bytes < 1024 or unit == UNITS[-1]:
            break
        num_bytes /= 1024
    return f"{num_bytes:.3g} {unit}" if num_bytes < 1000 else f"{num_bytes:.0f} {unit}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it, `5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int, noun: str) -> str:
    """`1 debate`, `1,204 debates`."""
    if number == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {plural}"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
