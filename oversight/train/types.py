"""Examples for trainers as token ids, made once and never rendered again.

`data/` makes examples from files and stores, `rollouts/` makes token rows from
an engine's samples, `oversight.modeling.scoring` scores these, `losses/` takes scores.

Ids are 1-D numpy arrays of int64. A prompt ends and its response begins at a
token border; a response that ended by itself carries its EOS as its last id.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from oversight.modeling.rows import Ids, TokenRow


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
class Refused:
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
