"""What was left out or changed, for people; and the errors that stop a run over it."""

from __future__ import annotations

from collections.abc import Sequence

from oversight.errors import DataError
from oversight.text.terminal import visible
from oversight.train.types import Refused

BROKEN = "the line is broken"
DUPLICATE = "a duplicate of an earlier example"
IN_EVALUATION = "its prompt or question is in the held-out part"
NO_WEIGHT = "its weight is 0, so that nothing is learnt from it"
NO_FAULT = frozenset({DUPLICATE, IN_EVALUATION, NO_WEIGHT})
"""Reasons that are no fault of the row itself: they never stop a run."""

MAX_ID_CHARS = 160


def table(refused: Refused) -> list[tuple[str, int, str, str]]:
    """Rows for a table: left out or changed, how many, why, and the first ids."""
    kinds = (("left out", refused.dropped), ("changed", refused.cut))
    return [
        (kind, number, reason, _ids(refused, reason))
        for kind, counts in kinds
        for reason, number in counts.most_common()
    ]


def lines(refused: Refused) -> list[str]:
    """The same as lines of text."""
    return [f"{number:,} {kind}: {reason} ({ids})" for kind, number, reason, ids in table(refused)]


def require_none_bad(refused: Refused) -> None:
    """Stop if a row could not be used.

    Raises:
        DataError: It lists how many, why, and the first of them.
    """
    bad = [reason for reason in refused.dropped if reason not in NO_FAULT]
    if bad:
        number = sum(refused.dropped[reason] for reason in bad)
        raise DataError(
            f"{number:,} rows cannot be used:\n{_joined(lines(refused))}\n"
            "Mend them, or set data.on_bad = 'drop' to go on without them."
        )


def require_enough(num_examples: int, num_needed: int, refused: Refused, what: str) -> None:
    """Stop if there are fewer examples than a batch takes.

    Raises:
        DataError: It shows what there is and what was left out.
    """
    if num_examples >= max(num_needed, 1):
        return
    found = f"{num_examples:,} usable {what}" if num_examples else f"no usable {what}"
    left_out = lines(refused)
    because = f":\n{_joined(left_out)}" if left_out else "; nothing was left out"
    raise DataError(f"there are {found}, and a batch takes {num_needed:,}{because}")


def note(row_id: str, detail: str) -> str:
    """A row's id with what is wrong in it, as it is kept in `Refused.ids`."""
    return f"{row_id} ({detail})" if detail else row_id


def _joined(found: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in found)


def _ids(refused: Refused, reason: str) -> str:
    number = refused.dropped[reason] + refused.cut[reason]
    noted = [_short(visible(row_id, newlines=False)) for row_id in refused.ids.get(reason, [])]
    return ", ".join(noted + ["…"] * (number > len(noted)))


def _short(text: str) -> str:
    return text if len(text) <= MAX_ID_CHARS else text[:MAX_ID_CHARS] + "…"
