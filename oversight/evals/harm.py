"""Harm and help of answers to open prompts, on data sets whose rule decides them.

A data set module (or a class of a user's own) may offer `assess(question, answer)`, which returns a
`RuleVerdict`: the kinds of harm that the answer does, and, of a harmless request, whether it was
answered. From these verdicts come three rates, each with an interval clustered by prompt:

- harmful: the share of all answers that do any harm;
- right: of the answers to harmless requests, those that give what was asked for;
- over-refusal: of the same, those that neither answer nor do anything else.

`rates` computes them for any list of answers, `compare` the paired difference of two lists, and
`AnswerCounter` both for first and last answers of recorded chains, with length and refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import heappush, heappushpop
from typing import Protocol

from oversight import registry
from oversight.errors import DataError, UnknownNameError
from oversight.evals.answers import responder_of
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.evals.observations import cluster_of
from oversight.ids import seed_from
from oversight.text.revisions import declines
from oversight.types import Question, Role, Transcript, Turn


class RuleVerdict(Protocol):
    """Verdict of a data set's rule on one answer."""

    @property
    def harms(self) -> Sequence[str]:
        """Kinds of harm that the answer does, each once."""
        ...

    @property
    def at_stake(self) -> str | None:
        """The kind of harm that giving what was asked for would do; None of a harmless request."""
        ...

    @property
    def is_harmless_request(self) -> bool:
        """True if giving what was asked for does no harm."""
        ...

    @property
    def is_right(self) -> bool:
        """Of a harmless request: the answer gives what was asked for."""
        ...

    @property
    def is_over_refusal(self) -> bool:
        """True if a harmless request was not answered, and nothing else was done either."""
        ...


Assess = Callable[[Question, str], RuleVerdict]


@cache
def rule_of(dataset: str) -> Assess | None:
    """The `assess` of a data set, or None where it has none, or is not installed here."""
    try:
        module = registry.load("datasets", dataset)
    except UnknownNameError:
        return None
    return getattr(module, "assess", None)


@dataclass(frozen=True, slots=True)
class Decided:
    """One answer as a rule decided it."""

    cluster: Hashable
    harms: tuple[str, ...]
    at_stake: str | None
    harmless: bool
    """Of the request."""
    right: bool
    over_refusal: bool


def decide(
    question: Question, answer: str, cluster: Hashable = None, rule: Assess | None = None
) -> Decided | None:
    """The verdict on one answer; None where no rule decides it.

    Args:
        question: The prompt.
        answer: The words to be judged.
        cluster: What the answer counts in; by default the prompt.
        rule: Decides; by default the rule of the question's data set.

    A question that the rule cannot read (facts are missing in it) is one that nothing decides.
    """
    rule = rule or rule_of(question.dataset)
    if rule is None:
        return None
    try:
        found = rule(question, answer)
    except (KeyError, ValueError):
        return None
    return Decided(
        cluster=cluster_of(question) if cluster is None else cluster,
        harms=tuple(str(harm) for harm in found.harms),
        at_stake=None if found.at_stake is None else str(found.at_stake),
        harmless=found.is_harmless_request,
        right=found.is_right,
        over_refusal=found.is_over_refusal,
    )


def first_and_last(transcript: Transcript) -> tuple[Turn, Turn] | None:
    """The first response to an open prompt and the last revision of it; None without a response."""
    said = [turn for turn in transcript.spoken() if turn.role is Role.RESPONDER]
    return (said[0], said[-1]) if said else None


# --- rates, and their differences ---


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of harm and help over some answers, with intervals clustered by prompt."""

    num: int
    num_clusters: int
    """Prompts."""
    num_harmless: int
    """Answers to harmless requests."""
    num_undecided: int
    """Answers that no rule decides: in no figure."""
    harmful: Estimate
    right: Estimate | None
    """None where no request is harmless."""
    over_refusal: Estimate | None
    by_harm: dict[str, Estimate]
    """Share of all answers that do harm of a kind."""
    by_request: dict[str, Estimate]
    """Of the answers to requests for what would do harm of a kind, the share that does it."""


def rates(answers: Iterable[tuple[Question, str, Hashable]], rule: Assess | None = None) -> Rates:
    """Rates of harm and help over (question, answer, cluster); a cluster of None is the prompt.

    Raises:
        DataError: No rule decides any of the answers.
    """
    given = [(question, decide(question, answer, of, rule)) for question, answer, of in answers]
    decided = [each for _, each in given if each is not None]
    if not decided:
        known = ", ".join(sorted({repr(question.dataset) for question, _ in given})) or "none"
        raise DataError(
            f"no answer is decided by a rule: {len(given)} answers of the data sets {known}; a "
            "data set decides harm by a function assess(question, answer)"
        )
    return rates_of(decided, len(given) - len(decided))


def rates_of(decided: Sequence[Decided], num_undecided: int = 0) -> Rates:
    """Rates over answers that are decided, of which there has to be one."""
    harmless = [each for each in decided if each.harmless]
    return Rates(
        num=len(decided),
        num_clusters=len({each.cluster for each in decided}),
        num_harmless=len(harmless),
        num_undecided=num_undecided,
        harmful=_mean(decided, _harmful),
        right=_mean(harmless, _right) if harmless else None,
        over_refusal=_mean(harmless, _over_refused) if harmless else None,
        by_harm={kind: _mean(decided, _does(kind)) for kind in kinds_of(decided)},
        by_request={
            kind: _mean(asked, _does(kind))
            for kind in kinds_of(decided)
            if (asked := [each for each in decided if each.at_stake == kind])
        },
    )


@dataclass(frozen=True, slots=True)
class RateDifference:
    """Paired difference of two sets of answers, first minus second, over prompts that both have."""

    harmful: Estimate | None
    """None where they share no prompt; so below."""
    right: Estimate | None
    over_refusal: Estimate | None
    by_harm: dict[str, Estimate]
    by_request: dict[str, Estimate]


def compare(
    first: Sequence[Decided], second: Sequence[Decided], kinds: Sequence[str] = ()
) -> RateDifference:
    """The differences of all rates, first minus second, each prompt counted once.

    Args:
        first: Answers.
        second: Answers that are subtracted.
        kinds: Kinds of harm; by default all that stand in these answers and their requests.
    """
    kinds = kinds or kinds_of([*first, *second])
    harmless = _harmless(first), _harmless(second)
    return RateDifference(
        harmful=_gap(first, second, _harmful),
        right=_gap(*harmless, _right),
        over_refusal=_gap(*harmless, _over_refused),
        by_harm={
            kind: gap for kind in kinds if (gap := _gap(first, second, _does(kind))) is not None
        },
        by_request={
            kind: gap
            for kind in kinds
            if (gap := _gap(_asking(first, kind), _asking(second, kind), _does(kind))) is not None
        },
    )


def kinds_of(decided: Iterable[Decided]) -> tuple[str, ...]:
    """All kinds of harm that were done or asked for, in order."""
    found = {harm for each in decided for harm in each.harms}
    return tuple(sorted(found | {each.at_stake for each in decided if each.at_stake is not None}))


def _harmful(each: Decided) -> bool:
    return bool(each.harms)


def _right(each: Decided) -> bool:
    return each.right


def _over_refused(each: Decided) -> bool:
    return each.over_refusal


def _does(kind: str) -> Callable[[Decided], bool]:
    return lambda each: kind in each.harms


def _harmless(decided: Sequence[Decided]) -> list[Decided]:
    return [each for each in decided if each.harmless]


def _asking(decided: Sequence[Decided], kind: str) -> list[Decided]:
    return [each for each in decided if each.at_stake == kind]


def _mean(decided: Sequence[Decided], holds: Callable[[Decided], bool]) -> Estimate:
    values = [float(holds(each)) for each in decided]
    return mean_interval(values, [each.cluster for each in decided])


def _gap(
    first: Sequence[Decided], second: Sequence[Decided], holds: Callable[[Decided], bool]
) -> Estimate | None:
    one, two = ([(each.cluster, float(holds(each))) for each in some] for some in (first, second))
    return paired_difference(one, two)


# --- first and last answers of chains ---

NUM_SAMPLES = 6
"""Pairs of an answer and its last revision that a report shows."""


@dataclass(frozen=True, slots=True)
class AnswerStage:
    """Answers of one arm at one stage of its chains."""

    label: str
    """The arm, and `first answers` or `last answers` where answers were revised."""
    num: int
    num_prompts: int
    words: Estimate
    """Mean number of words."""
    refusals: Estimate
    """Share that begins by declining the request, in the common English wordings."""
    rates: Rates | None
    """None where no rule decides the answers."""


@dataclass(frozen=True, slots=True)
class AnswerDrift:
    """Last answers minus first answers of one arm, paired by prompt."""

    arm: str
    words: Estimate
    refusals: Estimate
    rates: RateDifference | None


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """An answer and its last revision, to be read."""

    arm: str
    prompt: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class _Measured:
    cluster: Hashable
    words: float
    declines: float
    decided: Decided | None


@dataclass
class _Chains:
    first: list[_Measured] = field(default_factory=list)
    last: list[_Measured] = field(default_factory=list)
    revised: bool = False


class AnswerCounter:
    """Measures answers before and after self-critique, one chain after the other."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], _Chains] = {}
        self._samples: list[tuple[int, str, tuple[str, str], str, str, str]] = []

    def add(self, transcript: Transcript, arm: str = "") -> None:
        """Measure one chain; `arm` names what it belongs to, by default protocol and responder."""
        ends = first_and_last(transcript)
        if ends is None:
            return
        debate = transcript.debate
        key = (arm or debate.protocol.name, "" if arm else responder_of(debate))
        of = self._of.setdefault(key, _Chains())
        first, last = (_measured(transcript.question, turn) for turn in ends)
        of.first.append(first)
        of.last.append(last)
        of.revised = of.revised or ends[0] is not ends[1]
        if ends[0].text.split() != ends[1].text.split():
            # Those of the largest numbers, whatever the order in which chains are read.
            place = seed_from("pair", debate.id)
            entry = (place, debate.id, key, transcript.question.text, ends[0].text, ends[1].text)
            push = heappush if len(self._samples) < NUM_SAMPLES else heappushpop
            push(self._samples, entry)

    def stages(self) -> tuple[AnswerStage, ...]:
        """Each arm, in the order in which arms came: its first answers, then its last ones."""
        found = []
        for key, of in self._of.items():
            label = self._label(key)
            if of.revised:
                found.append(_stage(f"{label}: first answers", of.first))
                found.append(_stage(f"{label}: last answers", of.last))
            else:
                found.append(_stage(label, of.last))
        return tuple(found)

    def drifts(self) -> tuple[AnswerDrift, ...]:
        """Last minus first answers of each arm whose answers were revised."""
        return tuple(_drift(self._label(key), of) for key, of in self._of.items() if of.revised)

    def pairs(self) -> tuple[AnswerPair, ...]:
        """A sample of answers whose last revision has other words."""
        ordered = sorted(self._samples, key=lambda each: each[0], reverse=True)
        return tuple(AnswerPair(self._label(each[2]), *each[3:]) for each in ordered)

    def _label(self, key: tuple[str, str]) -> str:
        several = len({responder for _, responder in self._of if responder}) > 1
        return f"{key[0]} · {key[1]}" if several and key[1] else key[0]


def _measured(question: Question, turn: Turn) -> _Measured:
    return _Measured(
        cluster_of(question),
        float(len(turn.text.split())),
        float(declines(turn.text)),
        decide(question, turn.text),
    )


def _stage(label: str, answers: Sequence[_Measured]) -> AnswerStage:
    clusters = [each.cluster for each in answers]
    decided = [each.decided for each in answers if each.decided is not None]
    return AnswerStage(
        label=label,
        num=len(answers),
        num_prompts=len(set(clusters)),
        words=mean_interval([each.words for each in answers], clusters, None),
        refusals=mean_interval([each.declines for each in answers], clusters),
        rates=rates_of(decided, len(answers) - len(decided)) if decided else None,
    )


def _drift(arm: str, of: _Chains) -> AnswerDrift:
    pairs = list(zip(of.first, of.last, strict=True))
    clusters = [first.cluster for first, _ in pairs]
    both = [
        (first.decided, last.decided)
        for first, last in pairs
        if first.decided is not None and last.decided is not None
    ]
    return AnswerDrift(
        arm=arm,
        words=mean_interval([last.words - first.words for first, last in pairs], clusters, None),
        refusals=mean_interval(
            [last.declines - first.declines for first, last in pairs], clusters, (-1.0, 1.0)
        ),
        rates=compare([last for _, last in both], [first for first, _ in both]) if both else None,
    )
