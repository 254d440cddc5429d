"""Single cells of a row: checked values, or the reason why the row is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NUM_SHOWN_CHARS = 60
MOST = 2**31 - 1
"""No vocabulary is larger, and no array of ids holds more than 64 bits."""


class BadRow(Exception):
    """A row cannot be used; `reason` is what is counted, `detail` what is wrong in this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


MISSING = "a column is missing"
NOT_FINITE = "a number is not finite"
NOT_A_NUMBER = "a number is unreadable"
SOFT_LABEL = "the soft label is no probability"
WEIGHT = "the weight is negative"
WEIGHT_SIZE = "the weight is too large or too small for float32"
WEIGHTS = (1e-30, 1e30)
"""Least and most of a weight that is not 0."""
UNREADABLE_IDS = "token ids are unreadable"
UNREADABLE_TEXT = "a text is unreadable"


def required(row: Mapping[str, Any], name: str) -> Any:
    """The cell `name`, which must not be missing or null."""
    value = row.get(name)
    if value is None:
        raise BadRow(MISSING, name)
    return value


def text(value: Any, name: str) -> str:
    """A string that can be encoded."""
    if not isinstance(value, str):
        raise BadRow(UNREADABLE_TEXT, f"{name} is a {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(UNREADABLE_TEXT, f"{name} holds half of a surrogate pair") from None
    return value


def number(value: Any, name: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(NOT_A_NUMBER, f"{name} = {shown(value)}")
    if not math.isfinite(value):
        raise BadRow(NOT_FINITE, f"{name} = {value}")
    return float(value)


def optional_number(row: Mapping[str, Any], *names: str) -> float | None:
    """The first of the cells `names` that is there, as a finite number."""
    for name in names:
        if row.get(name) is not None:
            return number(row[name], name)
    return None


def soft_label(row: Mapping[str, Any]) -> float | None:
    """The cell `soft_label`: a probability, or None."""
    value = optional_number(row, "soft_label")
    if value is not None and not 0.0 <= value <= 1.0:
        raise BadRow(SOFT_LABEL, f"soft_label = {value}")
    return value


def weight(row: Mapping[str, Any]) -> float:
    """The cell `weight`, 1 where there is none."""
    value = optional_number(row, "weight")
    if value is not None and value < 0.0:
        raise BadRow(WEIGHT, f"weight = {value}")
    if value and not WEIGHTS[0] <= value <= WEIGHTS[1]:
        raise BadRow(WEIGHT_SIZE, f"weight = {value}")
    return 1.0 if value is None else value


def optional_ids(value: Any, name: str) -> tuple[int, ...] | None:
    """A list of token ids, or None where there is none."""
    if value is None:
        return None
    whole = isinstance(value, list | tuple) and all(type(i) is int for i in value)
    if not whole or (value and not -MOST <= min(value) <= max(value) <= MOST):
        raise BadRow(UNREADABLE_IDS, f"{name} = {shown(value)}")
    return tuple(value)


def sequence(value: Any, name: str, reason: str) -> Sequence[Any]:
    """A list of anything."""
    if not isinstance(value, list | tuple):
        raise BadRow(reason, f"{name} is a {type(value).__name__}")
    return value


def shown(value: Any) -> str:
    """A wrong value, shortened."""
    found = repr(value)
    return found if len(found) <= NUM_SHOWN_CHARS else found[:NUM_SHOWN_CHARS] + "…"
