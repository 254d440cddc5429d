"""Measurements of transcripts while they pass by; none of them is kept.

Two processes may each gather a part; what they gathered is put together by `update`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from oversight.aggregation import Ruling, last_words, p_of_lower, rater_rulings, rulings
from oversight.evals.accuracy import OrderReading, reading
from oversight.evals.agreement import RaterCounter
from oversight.evals.answers import (
    EndCounter,
    QuoteCount,
    ResponseCounter,
    quote_counts,
    shortened,
)
from oversight.evals.breakdown import (
    NO_RUNS,
    PromptCounter,
    RunMembership,
    UsageCounter,
)
from oversight.evals.calibration import BeliefPath, path
from oversight.evals.course import CourseCounter, RulingCourse, debate_measures, ruling_course
from oversight.evals.harm import AnswerCounter
from oversight.evals.observations import Arm, Cluster, Observation, cluster_of, observe
from oversight.evals.observations import named as named_agent
from oversight.evals.people import PeopleCounter
from oversight.evals.principles import PrincipleCounter
from oversight.evals.properties import BreakdownCounter, Property
from oversight.evals.stances import StanceCounter
from oversight.evals.winning import Contest, contents_of, contest_of
from oversight.ids import text_id
from oversight.types import PEOPLE, Debate, Feedback, JudgeKind, Role, Task, Transcript, Verdict


@dataclass(frozen=True, slots=True)
class MeasuredRuling:
    """Measurements of one ruling; the transcript itself is not kept."""

    observation: Observation
    reading: OrderReading
    path: BeliefPath | None
    course: RulingCourse
    contest: Contest
    quotes: tuple[QuoteCount, ...]
    unread: tuple[str, ...]
    """Answers that could not be read, shortened."""
    words: str
    """Id of all that the judge was shown, in its order: equal where the same was judged again."""
    sent_at: str
    """Time at which a person sent it: UTC, ISO 8601; empty of a model."""
    debaters: tuple[str, ...]
    """By option the player of a tournament that defended it; empty of other debates."""

    def of_arm(self, arm: Arm) -> MeasuredRuling:
        """The same, counted in another arm."""
        return replace(self, observation=replace(self.observation, arm=arm))


@dataclass(frozen=True, slots=True)
class RatedPair:
    """One rater's word on two responses."""

    protocol: str
    item: str
    rater: str
    is_person: bool
    cluster: Cluster
    p_lower: float
    """Probability that the response of the lower id is better."""


def rated_pairs(transcript: Transcript) -> list[RatedPair]:
    """Each rater's word on each two responses, a model's orders and principles averaged."""
    by_item: dict[str, list[Feedback]] = defaultdict(list)
    for each in last_words(transcript) if transcript.ratings else ():
        if each.task is Task.PAIRS:
            by_item[each.item].append(each)
    cluster, protocol = cluster_of(transcript.question), transcript.debate.protocol.name
    return [
        RatedPair(protocol, item, one.judge, one.is_persons, cluster, ruling.p)
        for item, given in by_item.items()
        for ruling in rater_rulings(given, p_of_lower)
        if ruling.p is not None
        for one in ruling.ratings[:1]
    ]


def measured_rulings(
    transcript: Transcript, found: Sequence[Ruling], group: str
) -> list[MeasuredRuling]:
    """Measurements of every ruling on one debate; what they share is measured once."""
    if not found:
        return []
    contents, quotes = contents_of(transcript), tuple(quote_counts(transcript))
    spoken = [f"{turn.step} {turn.seat}: {turn.text}" for turn in transcript.spoken()]
    debaters = _players(transcript.debate)
    said = text_id(transcript.debate.question_fingerprint, *spoken)
    ruled = []
    for ruling in found:
        observation = observe(transcript, ruling, group)
        ruled.append(
            MeasuredRuling(
                observation=observation,
                reading=reading(transcript, ruling),
                path=path(transcript, ruling),
                course=ruling_course(transcript, ruling, observation),
                contest=contest_of(observation, ruling, contents),
                quotes=quotes,
                unread=tuple(
                    shortened(judgment.final.raw)
                    for judgment in ruling.judgments
                    if judgment.final.verdict is Verdict.INVALID
                ),
                words=text_id(said, *map(str, _shown(ruling))),
                sent_at=max(judgment.sent_at for judgment in ruling.judgments),
                debaters=debaters,
            )
        )
    return ruled


def _players(debate: Debate) -> tuple[str, ...]:
    """Players of a tournament by the option that they defended, of two."""
    spec, defends = debate.agents.get(Role.DEBATER), debate.orders.defends
    if spec is None or sorted(defends) != [0, 1]:
        return ()
    names: dict[int, str] = {}
    for seat, option in zip(debate.protocol.speakers, defends, strict=False):
        told = spec.settings.get(seat.value)
        player = told.get("player") if isinstance(told, dict) else None
        if isinstance(player, str):
            names[option] = player
    return (names[0], names[1]) if len(names) == 2 else ()


def _shown(ruling: Ruling) -> tuple[object, ...]:
    """Orders in which a judge was shown a debate."""
    return tuple(
        (each.orders.options, each.orders.shown, each.orders.defends) for each in ruling.judgments
    )


MAX_PEOPLE_APART = 5
"""Persons who judged one protocol and are still measured one by one."""


class GatheredDebates:
    """Counts and measurements of transcripts that passed by; none of them is kept."""

    def __init__(self, by: Sequence[Property], runs: Mapping[str, RunMembership]) -> None:
        self.taken_apart = BreakdownCounter(by)
        self._runs = runs
        self.by_arm: dict[Arm, list[MeasuredRuling]] = defaultdict(list)
        self.ends, self.usage, self.own = EndCounter(), UsageCounter(), PromptCounter()
        self.raters, self.people, self.course = RaterCounter(), PeopleCounter(), CourseCounter()
        self.responses, self.answers = ResponseCounter(), AnswerCounter()
        self.principles, self.stances = PrincipleCounter(), StanceCounter()
        self.rated_pairs: list[RatedPair] = []
        self.questions: set[Cluster] = set()
        self.prompts: set[Cluster] = set()
        self.models: set[str] = set()
        self.seeds: set[int] = set()
        self.num_debates = self.num_unjudged = 0

    def add(self, transcript: Transcript, group: str) -> None:
        """Take in one transcript of a run or store."""
        debate, cluster = transcript.debate, cluster_of(transcript.question)
        self.num_debates += 1
        self.ends.add(transcript)
        self.usage.add(transcript, group)
        self.own.add(transcript, group)
        self.models |= {named_agent(spec) for spec in debate.agents.values()}
        self.seeds.add(debate.seed)
        self.raters.add(transcript)
        self.rated_pairs += rated_pairs(transcript)
        self.people.add(transcript)
        self.questions.add(cluster)
        if transcript.question.is_open:
            self.prompts.add(cluster)
            self.responses.add(transcript)
            self.answers.add(transcript, group)
            self.principles.add(transcript)
            return
        found = rulings(transcript)
        ruled = measured_rulings(transcript, found, group)
        for ruling, one in zip(found, ruled, strict=True):
            self.stances.add(transcript, ruling, one.observation)
        self.num_unjudged += not ruled
        measured = debate_measures(transcript)
        self.course.add(transcript, measured, [one.course for one in ruled], group)
        runs = self._runs.get(group, NO_RUNS)
        for one in ruled:
            self.by_arm[one.observation.arm].append(one)
            self.taken_apart.add(transcript.question, measured, one.course, runs)

    def __getstate__(self) -> dict[str, Any]:
        """Without the runs, which are looked up in a store and stay in their process."""
        return self.__dict__ | {"_runs": {}}

    @staticmethod
    def is_mergeable(transcript: Transcript) -> bool:
        """True of what `update` takes over from another process: judged debates without ratings."""
        return not transcript.question.is_open and not transcript.ratings

    def update(self, other: GatheredDebates) -> None:
        """Take in what another process gathered, all of it mergeable."""
        self.taken_apart.update(other.taken_apart)
        for arm, ruled in other.by_arm.items():
            self.by_arm[arm] += ruled
        self.ends.update(other.ends)
        self.usage.update(other.usage)
        self.own.update(other.own)
        self.course.update(other.course)
        self.stances.update(other.stances)
        self.questions |= other.questions
        self.models |= other.models
        self.seeds |= other.seeds
        self.num_debates += other.num_debates
        self.num_unjudged += other.num_unjudged

    def pool_people(self) -> None:
        """Measure the persons who judged one arm together where they are many.

        A study with twenty judges has twenty arms of a few debates each, of which none says
        anything by itself.
        """
        judges: dict[Arm, list[Arm]] = defaultdict(list)
        for arm, ruled in self.by_arm.items():
            if ruled[0].observation.judge_kind is JudgeKind.HUMAN:
                judges[replace(arm, judge=PEOPLE)].append(arm)
        for together, apart in judges.items():
            if len(apart) > MAX_PEOPLE_APART:
                pooled = [
                    one.of_arm(together) for arm in sorted(apart) for one in self.by_arm.pop(arm)
                ]
                self.by_arm[together] += pooled
                self.taken_apart.pool(apart, together)

    def rulings(self) -> dict[Arm, list[MeasuredRuling]]:
        """Rulings by arm, in an order that does not depend on that of reading."""
        return {
            arm: sorted(self.by_arm[arm], key=lambda one: one.observation.debate_id)
            for arm in sorted(self.by_arm)
        }
