"""Examples for trainers as token ids, made once and never rendered again; rows that became none.

`data/` makes examples from files and stores, `rollouts/` makes token rows from
an engine's samples, `oversight.modeling.scoring` scores these, `losses/` takes scores.

Ids are 1-D numpy arrays of int64. A prompt ends and its response begins at a
token border; a response that ended by itself carries its EOS as its last id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from oversight.errors import DataError
from oversight.modeling import Ids, TokenRow
from oversight.text.terminal import visible


@dataclass(frozen=True, slots=True, eq=False)
class Demonstration:
    """An example of SFT: one sequence, and which of its tokens are responses."""

    row: TokenRow
    weight: float = 1.0

    @property
    def id(self) -> str:
        """Source of the example, for messages."""
        return self.row.id


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two or more responses to one prompt, ranked: a pair, a tie, or a K-wise ranking."""

    id: str
    prompt_ids: Ids
    responses: tuple[Ids, ...]
    """The best first, equals in the order of the source."""
    ranks: tuple[int, ...]
    """Dense, 0 is best, never falling; equal ranks are a tie."""
    soft_label: float | None = None
    """Of a pair: probability that the first is the better one; None where the ranks say it all."""
    margin: float | None = None
    """Of a pair: by how much the first is better, in units of reward, where the data says."""
    weight: float = 1.0

    def rows(self) -> tuple[TokenRow, ...]:
        """One row for each response, in their order."""
        return tuple(
            TokenRow(self.prompt_ids, ids, id=f"{self.id}#{i}")
            for i, ids in enumerate(self.responses)
        )

    @property
    def is_pair(self) -> bool:
        """True where there are two responses."""
        return len(self.responses) == 2

    @property
    def is_tie(self) -> bool:
        """True where all responses are equally good."""
        return self.ranks[0] == self.ranks[-1]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledExample:
    """One response that was called good or bad, compared with no other (KTO)."""

    row: TokenRow
    desirable: bool
    weight: float = 1.0

    @property
    def id(self) -> str:
        """Source of the example, for messages."""
        return self.row.id


@dataclass(frozen=True, slots=True, eq=False)
class PromptExample:
    """A prompt to sample responses to (PPO, GRPO)."""

    id: str
    prompt_ids: Ids
    fields: dict[str, object] = field(default_factory=dict)
    """The source row's other columns, for reward functions: an answer, a label."""


Example = Demonstration | Comparison | LabelledExample | PromptExample


@dataclass
class RefusedRows:
    """Rows left out or cut before training, by reason, with the ids of the first few."""

    MAX_IDS = 5

    dropped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by reason."""
    cut: Counter[str] = field(default_factory=Counter)
    """Rows kept but shortened, by reason."""
    ids: dict[str, list[str]] = field(default_factory=dict)
    """The first few row ids of each reason."""

    def drop(self, reason: str, row_id: str) -> None:
        """Count a row that was left out."""
        self.dropped[reason] += 1
        self._note(reason, row_id)

    def shorten(self, reason: str, row_id: str) -> None:
        """Count a row that was cut."""
        self.cut[reason] += 1
        self._note(reason, row_id)

    def _note(self, reason: str, row_id: str) -> None:
        noted = self.ids.setdefault(reason, [])
        if len(noted) < self.MAX_IDS:
            noted.append(row_id)


BROKEN = "the line is broken"


DUPLICATE = "a duplicate of an earlier example"


IN_EVALUATION = "its prompt or question is in the held-out part"


NO_WEIGHT = "its weight is 0, so that nothing is learnt from it"


NO_FAULT = frozenset({DUPLICATE, IN_EVALUATION, NO_WEIGHT})
"""Reasons that are no fault of the row itself: they never stop a run."""


MAX_ID_CHARS = 160


def left_out_table(refused: RefusedRows) -> list[tuple[str, int, str, str]]:
    """Rows for a table: left out or changed, how many, why, and the first ids."""
    kinds = (("left out", refused.dropped), ("changed", refused.cut))
    return [
        (kind, number, reason, _first_ids(refused, reason))
        for kind, counts in kinds
        for reason, number in counts.most_common()
    ]


def left_out_lines(refused: RefusedRows) -> list[str]:
    """The same as lines of text."""
    return [
        f"{number:,} {kind}: {reason} ({ids})"
        for kind, number, reason, ids in left_out_table(refused)
    ]


def require_none_bad(refused: RefusedRows) -> None:
    """Stop if a row could not be used.

    Raises:
        DataError: It lists how many, why, and the first of them.
    """
    bad = [reason for reason in refused.dropped if reason not in NO_FAULT]
    if bad:
        number = sum(refused.dropped[reason] for reason in bad)
        raise DataError(
            f"{number:,} rows cannot be used:\n{_joined(left_out_lines(refused))}\n"
            "Mend them, or set data.on_bad = 'drop' to go on without them."
        )


def require_enough(
    num_examples: int, num_needed: int, refused: RefusedRows, what: str, before: Sequence[str] = ()
) -> None:
    """Stop if there are fewer examples than a batch takes.

    Args:
        num_examples: How many there are.
        num_needed: How many a batch takes.
        refused: What was left out of the rows.
        what: What the examples are called.
        before: Lines on what became no row.

    Raises:
        DataError: It shows what there is and what was left out.
    """
    if num_examples >= max(num_needed, 1):
        return
    found = f"{num_examples:,} usable {what}" if num_examples else f"no usable {what}"
    left_out = [*before, *left_out_lines(refused)]
    because = f":\n{_joined(left_out)}" if left_out else "; nothing was left out"
    raise DataError(f"there are {found}, and a batch takes {num_needed:,}{because}")


def with_detail(row_id: str, detail: str) -> str:
    """A row's id with what is wrong in it, as it is kept in `RefusedRows.ids`."""
    return f"{row_id} ({detail})" if detail else row_id


def _joined(found: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in found)


def _first_ids(refused: RefusedRows, reason: str) -> str:
    number = refused.dropped[reason] + refused.cut[reason]
    noted = [_short(visible(row_id, newlines=False)) for row_id in refused.ids.get(reason, [])]
    return ", ".join(noted + ["…"] * (number > len(noted)))


def _short(text: str) -> str:
    return text if len(text) <= MAX_ID_CHARS else text[:MAX_ID_CHARS] + "…"
