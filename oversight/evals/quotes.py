"""Share of the speakers' quotes that stand in the source, by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Cluster, cluster_of, side_of
from oversight.types import QuoteStatus, Transcript


@dataclass(frozen=True, slots=True)
class QuoteCount:
    """The quotes of one speech."""

    cluster: Cluster
    side: str | None
    """`honest`, `dishonest`, or None where the right answer is unknown."""
    by_status: tuple[tuple[QuoteStatus, int], ...]


@dataclass(frozen=True, slots=True)
class QuoteUse:
    """Quotes of a group of speeches: how many, and what share of them is what."""

    num_turns: int
    num_quotes: int
    per_turn: float
    verified: Estimate | None
    """Share of quotes that stand in the source; None without quotes."""
    share_near: float
    share_unverified: float
    share_too_short: float
    verified_checked: Estimate | None = None
    """Share that stands in the source of the quotes that are long enough to be looked for; None
    without any."""


def quote_counts(transcript: Transcript) -> Iterator[QuoteCount]:
    """The quotes of each speech for a side that stands, if there is a source to quote from."""
    question = transcript.question
    if question.source is None:
        return
    for turn in transcript.spoken():
        if turn.argues and turn.seat in transcript.debate.protocol.speakers:
            yield QuoteCount(
                cluster=cluster_of(question),
                side=side_of(transcript.debate, turn.seat, question.correct),
                by_status=tuple(Counter(quote.status for quote in turn.quotes).items()),
            )


def quote_use(counts: Iterable[QuoteCount]) -> QuoteUse | None:
    """Quote use over the speeches of `counts`, or None if there are none."""
    num_turns = 0
    total: Counter[QuoteStatus] = Counter()
    verified: list[float] = []
    clusters: list[Cluster] = []
    checked: list[tuple[float, Cluster]] = []
    for count in counts:
        num_turns += 1
        for status, number in count.by_status:
            total[status] += number
            verified += [float(status is QuoteStatus.VERIFIED)] * number
            clusters += [count.cluster] * number
            if status is not QuoteStatus.TOO_SHORT:
                checked += [(float(status is QuoteStatus.VERIFIED), count.cluster)] * number
    if not num_turns:
        return None
    num = total.total()
    return QuoteUse(
        num_turns=num_turns,
        num_quotes=num,
        per_turn=num / num_turns,
        verified=mean_interval(verified, clusters) if verified else None,
        share_near=total[QuoteStatus.NEAR] / max(num, 1),
        share_unverified=total[QuoteStatus.UNVERIFIED] / max(num, 1),
        share_too_short=total[QuoteStatus.TOO_SHORT] / max(num, 1),
        verified_checked=_mean(checked),
    )


def _mean(found: Sequence[tuple[float, Cluster]]) -> Estimate | None:
    if not found:
        return None
    return mean_interval([value for value, _ in found], [cluster for _, cluster in found])
