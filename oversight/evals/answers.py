"""Counts of what was said: unreadable answers, endings of responses, quotes checked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from oversight.aggregation import TIE_TOLERANCE, last_words, p_of_revision, rater_rulings
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import UNKNOWN_CAUSE, Cluster, cluster_of, named, side_of
from oversight.types import (
    Act,
    Debate,
    Defect,
    FinishReason,
    OutcomeStatus,
    Purpose,
    QuoteStatus,
    RevisionIs,
    Role,
    Sample,
    Task,
    Transcript,
)

Ends = dict[str, Counter[str]]
"""Of each model, how often its calls ended in which way; `unanswered` counts those that
gave no whole answer and were made again, whatever their end."""


@dataclass(frozen=True, slots=True)
class AnswerEnds:
    """Counts of how the calls of one model ended."""

    model: str
    num: int
    finish_reasons: dict[str, int]
    """By each of `FinishReason`."""
    num_unanswered: int
    """Calls that gave no whole answer; each has one of the reasons above as well."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Debates that failed for one kind of cause."""

    cause: str
    """One of `NoAnswer`, `timeout`, `unavailable`, `refused_by_server`, `prompt_too_long`,
    `unexpected`, `other`."""
    num: int
    error: str
    """The message of one of them."""


@dataclass
class EndCounter:
    """Counts how calls ended, one transcript after the other."""

    _ends: Ends = field(default_factory=lambda: defaultdict(Counter))

    def add(self, transcript: Transcript) -> None:
        """Count the calls of a debate: those of its turns, of its judgments and of its ratings."""
        for sample in _samples(transcript):
            self._ends[sample.model][sample.finish_reason.value] += 1
            self._ends[sample.model][Purpose.UNANSWERED.value] += (
                sample.purpose is Purpose.UNANSWERED
            )

    def update(self, other: EndCounter) -> None:
        """Add what another one counted."""
        for model, counts in other._ends.items():
            self._ends[model].update(counts)

    def counted(self) -> tuple[AnswerEnds, ...]:
        """The counts so far, by model."""
        reasons = [reason.value for reason in FinishReason]
        return tuple(
            AnswerEnds(
                model,
                sum(found[reason] for reason in reasons),
                {reason: found[reason] for reason in reasons},
                found[Purpose.UNANSWERED.value],
            )
            for model, found in sorted(self._ends.items())
        )


def count_failures(transcripts: Iterable[Transcript]) -> tuple[FailureCount, ...]:
    """Causes of failed debates with their counts, the most frequent first."""
    counts: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for transcript in transcripts:
        outcome = transcript.outcome
        if outcome is not None and outcome.status is OutcomeStatus.FAILED:
            cause = outcome.cause or UNKNOWN_CAUSE
            counts[cause] += 1
            errors.setdefault(cause, outcome.error)
    ordered = sorted(counts, key=lambda cause: (-counts[cause], cause))
    return tuple(FailureCount(cause, counts[cause], errors[cause]) for cause in ordered)


def _samples(transcript: Transcript) -> Iterator[Sample]:
    for turn in transcript.turns:
        yield from turn.samples
    for judgment in transcript.judgments:
        yield from judgment.samples
    for rating in transcript.ratings:
        yield from rating.samples


@dataclass(frozen=True, slots=True)
class ResponseCount:
    """Counts of answers to open prompts in one protocol by one responder."""

    protocol: str
    responder: str
    num_runs: int
    num_prompts: int
    num_responses: int
    """Candidates that were not chosen included."""
    num_critiques: int
    num_revisions: int
    """Chosen ones."""
    num_unchanged: int
    """Revisions among these that found nothing to change."""
    num_rated: int
    """Ratings of revisions, of people or models, each one's last word."""
    num_better: int
    num_same: int
    num_worse: int
    num_other_ratings: int
    """Ratings of pairs and by principles."""
    defects: dict[str, int] = field(default_factory=dict)
    """Chosen responses, critiques and revisions with a fault of form, by each of `Defect`; one may
    have several."""
    num_defective: int = 0
    """Chosen ones that have any."""


@dataclass
class _Counts:
    prompts: set[Cluster] = field(default_factory=set)
    of: Counter[str] = field(default_factory=Counter)
    defects: Counter[Defect] = field(default_factory=Counter)


class ResponseCounter:
    """Counts answers to open prompts, one transcript after the other."""

    def __init__(self) -> None:
        self._by_arm: dict[tuple[str, str], _Counts] = {}

    def add(self, transcript: Transcript) -> None:
        """Count what one run answered."""
        debate = transcript.debate
        key = (debate.protocol.name, responder_of(debate))
        counts = self._by_arm.setdefault(key, _Counts())
        counts.prompts.add(cluster_of(transcript.question))
        counts.of["runs"] += 1
        for turn in transcript.turns:
            counts.of["responses"] += turn.act is Act.RESPOND
            if turn.chosen:
                counts.of["critiques"] += turn.act is Act.CRITIQUE
                counts.of["revisions"] += turn.act is Act.REVISE
                counts.of["unchanged"] += turn.unchanged and turn.act is Act.REVISE
                counts.of["defective"] += bool(turn.defects)
                counts.defects.update(turn.defects)
        given = last_words(transcript)
        for item in {each.item: None for each in given}:
            of_item = [each for each in given if each.item == item]
            for ruling in rater_rulings(of_item, p_of_revision):
                if of_item[0].task is not Task.REVISIONS:
                    counts.of["others"] += 1
                elif ruling.p is not None:
                    counts.of[_said(ruling.p)] += 1

    def counted(self) -> tuple[ResponseCount, ...]:
        """The counts so far, by protocol and responder."""
        return tuple(
            ResponseCount(
                protocol=protocol,
                responder=responder,
                num_runs=counts.of["runs"],
                num_prompts=len(counts.prompts),
                num_responses=counts.of["responses"],
                num_critiques=counts.of["critiques"],
                num_revisions=counts.of["revisions"],
                num_unchanged=counts.of["unchanged"],
                num_rated=sum(counts.of[each.value] for each in RevisionIs),
                num_better=counts.of[RevisionIs.BETTER.value],
                num_same=counts.of[RevisionIs.SAME.value],
                num_worse=counts.of[RevisionIs.WORSE.value],
                num_other_ratings=counts.of["others"],
                defects={
                    each.value: counts.defects[each] for each in Defect if counts.defects[each]
                },
                num_defective=counts.of["defective"],
            )
            for (protocol, responder), counts in sorted(self._by_arm.items())
        )


def _said(p: float) -> str:
    """The word for a probability that a revision is better."""
    if abs(p - 0.5) <= TIE_TOLERANCE:
        return RevisionIs.SAME.value
    return (RevisionIs.BETTER if p > 0.5 else RevisionIs.WORSE).value


def responder_of(debate: Debate) -> str:
    """Name of the responder: the model by its last name, or the agent where it has none."""
    return named(debate.agents[Role.RESPONDER])


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


# --- answers that could not be read ---

HEAD_CHARS, TAIL_CHARS = 100, 60
"""Characters shown of either end of a long answer: its statement stands at the end."""

MAX_READ = 2000
"""Characters at either end of an answer that are looked at."""


def shortened(answer: str) -> str:
    """The answer in one line; of a long one its beginning and its end."""
    if len(answer) > 2 * MAX_READ:
        answer = f"{answer[:MAX_READ]} {answer[-MAX_READ:]}"
    line = " ".join(answer.split())
    if len(line) <= HEAD_CHARS + TAIL_CHARS + 3:
        return line
    return f"{line[:HEAD_CHARS].rstrip()} … {line[-TAIL_CHARS:].lstrip()}"


@dataclass(frozen=True, slots=True)
class Unread:
    """One kind of answer of an arm's judge that could not be read."""

    label: str
    num: int
    num_unread: int
    """Of the arm, of all kinds."""
    answer: str
    """The first answer of the kind as it was written, in one line and shortened."""


MAX_KINDS = 3
"""Kinds of unreadable answers that are shown of an arm."""
KIND_CHARS = 60
"""Answers that begin alike, apart from numbers, are of one kind."""


def unread_kinds(label: str, answers: Iterable[str]) -> list[Unread]:
    """The most frequent kinds of an arm's unreadable answers, which are shortened already."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for answer in answers:
        kind = re.sub(r"\d+", "0", answer.casefold())[:KIND_CHARS]
        counts[kind] += 1
        first.setdefault(kind, answer)
    return [
        Unread(label, num, counts.total(), first[kind])
        for kind, num in counts.most_common(MAX_KINDS)
    ]
