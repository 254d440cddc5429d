"""One judge's ruling on one debate as a flat observation: what every measure here counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from oversight.aggregation import Ruling, rulings, top
from oversight.datasets.base import CLUSTER
from oversight.ids import content_id
from oversight.types import (
    AgentSpec,
    Debate,
    JudgeKind,
    OversightProtocol,
    Question,
    Seat,
    Transcript,
    Verdict,
)

UNKNOWN_CAUSE = "other"
"""Of failures whose kind was not written down."""
UNKNOWN = "–"
"""Stands for the value of a debate that has none."""

Cluster = tuple[str, str]
"""All that concerns one underlying question, which is not independent: (data set, key)."""


class Kind(StrEnum):
    """Kind of a protocol, read from its schedule and not from its name."""

    DEBATE = "debate"
    CONSULTANCY = "consultancy"
    NAIVE = "naive"
    EXPERT = "expert"


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """Unit of comparison: a protocol with its speakers and its judge, in one run or store."""

    protocol: str
    speakers: str
    judge: str
    group: str = ""
    """Run or store, where several are compared."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One judge's ruling on one debate. Indices of options are in the question's own order."""

    arm: Arm
    kind: Kind
    judge_kind: JudgeKind
    debate_id: str
    cluster: Cluster
    dataset: str
    family: str
    correct: int | None
    num_options: int
    defends: tuple[int, ...]
    """Options that were argued for: of A and B, of the one consultant, or none."""
    verdict: Verdict
    probs: tuple[float, ...] | None
    """Only of a verdict that can be read: decided, or a tie."""
    mass: float | None
    """Probability that the judge's model gave to any option at all, where it is known."""
    assistance_drawn: str | None
    """The kind of assistance that a study drew for it; None where none drew any."""
    assistance_used: bool
    """True if the judge was shown any assistance."""
    study: str
    active_s: float | None
    """Seconds of active attention, of a person."""
    num_unseen: int | None
    """Turns that had not been on a person's screen completely; None where nobody recorded it."""
    setup_id: str
    """Of the protocol's content and the agents' settings: one arm may pool several."""

    choice: int | None = field(init=False)
    """The option decided on, or None."""
    right: bool | None = field(init=False)
    """True if the decision is right; None where nothing was decided or nobody knows."""

    def __post_init__(self) -> None:
        # Every measure asks for these two, and many more than once.
        decided = self.verdict is Verdict.DECIDED and self.probs is not None
        choice = top(self.probs)[0] if decided and self.probs is not None else None
        known = choice is not None and self.correct is not None
        object.__setattr__(self, "choice", choice)
        object.__setattr__(self, "right", choice == self.correct if known else None)

    @property
    def p_correct(self) -> float | None:
        """Probability that the judge gave to the right option."""
        return None if self.probs is None or self.correct is None else self.probs[self.correct]

    @property
    def honest(self) -> bool | None:
        """Of a consultancy: whether the consultant defended the right answer."""
        if self.kind is not Kind.CONSULTANCY or self.correct is None:
            return None
        return self.defends[0] == self.correct


def observations(transcript: Transcript) -> Iterator[Observation]:
    """One observation for every judge of the debate, its judgments in both orders averaged."""
    for ruling in rulings(transcript):
        yield observe(transcript, ruling)


def observe(transcript: Transcript, ruling: Ruling, group: str = "") -> Observation:
    """The observation of one ruling. A belief held equally in two options decides nothing."""
    debate, question = transcript.debate, transcript.question
    verdict, probs = ruling.final.verdict, ruling.final.probs
    if verdict in (Verdict.ABSTAIN, Verdict.INVALID):
        probs = None
    elif probs is not None and len(top(probs)) > 1:
        verdict = Verdict.TIE
    return Observation(
        arm=Arm(debate.protocol.name, _speakers(debate), ruling.judge, group),
        kind=kind_of(debate),
        judge_kind=ruling.kind,
        debate_id=debate.id,
        cluster=cluster_of(question),
        dataset=question.dataset,
        family=str(question.meta.get("family", "")),
        correct=question.correct,
        num_options=len(question.options),
        defends=tuple(debate.orders.defended_by(seat) for seat in debate.protocol.speakers),
        verdict=verdict,
        probs=probs,
        mass=ruling.final.mass,
        assistance_drawn=ruling.judgments[-1].arm,
        assistance_used=any(judgment.assistance for judgment in ruling.judgments),
        study=ruling.judgments[-1].study,
        active_s=_active_s(ruling),
        num_unseen=ruling.num_unseen,
        setup_id=_setup(debate),
    )


def _active_s(ruling: Ruling) -> float | None:
    """Over the orders in which the debate was judged."""
    known = [each.active_s for each in ruling.judgments if each.active_s is not None]
    return sum(known) if known else None


def cluster_of(question: Question) -> Cluster:
    """Cluster that the question counts in: rows about one underlying question are one cluster."""
    return _cluster(question.dataset, str(question.meta.get(CLUSTER, question.id)))


@lru_cache(maxsize=1 << 16)
def _cluster(dataset: str, key: str) -> Cluster:
    """One and the same object for all rulings on a question: they are looked up millions of times,
    and a large report would else go through its whole memory for each measure."""
    return (dataset, key)


def difficulty_of(question: Question) -> str:
    """The difficulty that a data set gives, or whether its question counts as hard."""
    if "difficulty" in question.meta:
        return str(question.meta["difficulty"])
    hard = question.meta.get("hard")
    return UNKNOWN if hard is None else "hard" if hard else "not hard"


def kind_of(debate: Debate) -> Kind:
    """Kind of protocol that a debate ran."""
    num_speakers = len(debate.protocol.speakers)
    if num_speakers:
        return Kind.DEBATE if num_speakers > 1 else Kind.CONSULTANCY
    return Kind.EXPERT if debate.protocol.judge_sees_source else Kind.NAIVE


def side_of(debate: Debate, seat: Seat, correct: int | None) -> str | None:
    """`honest` or `dishonest` for a speaker's seat, or None where that cannot be said."""
    if correct is None or seat not in debate.protocol.speakers:
        return None
    return "honest" if debate.orders.defended_by(seat) == correct else "dishonest"


def labels(arms: Iterable[Arm]) -> dict[Arm, str]:
    """Short names that tell `arms` apart: the protocol, with speakers and judge where they vary."""
    every = sorted(set(arms))
    with_speakers = len({arm.speakers for arm in every if arm.speakers}) > 1
    with_judge = len({arm.judge for arm in every}) > 1
    with_group = len({arm.group for arm in every}) > 1
    named = {}
    for arm in every:
        extra = [arm.speakers] * (with_speakers and bool(arm.speakers)) + [arm.judge] * with_judge
        extra += [arm.group] * (with_group and bool(arm.group))
        named[arm] = " · ".join([arm.protocol, *extra])
    return named


def _setup(debate: Debate) -> str:
    agents = ((role.value, spec.model_dump_json()) for role, spec in debate.agents.items())
    return _setup_id(debate.protocol, tuple(agents))


@lru_cache(maxsize=1024)
def _setup_id(protocol: OversightProtocol, agents: tuple[tuple[str, str], ...]) -> str:
    """Id of a set-up, of which there are few for many debates."""
    specs = {role: json.loads(spec) for role, spec in agents}
    return content_id(protocol.model_dump(mode="json", exclude={"description"}), specs)


def _speakers(debate: Debate) -> str:
    """Name of the speakers: the model by its last name, or the agent where it has none.

    A debater and a consultant of one model are the same speakers, so that
    protocols which differ in nothing else are compared.
    """
    spec = debate.agents.get(debate.protocol.speaker_role)
    if not debate.protocol.speakers or spec is None:
        return ""
    return named(spec)


def named(spec: AgentSpec) -> str:
    """The model of an agent by its last name, or the agent where it has none."""
    if spec.engine is None:
        return spec.agent
    model = str(spec.engine.settings.get("model") or spec.engine.engine)
    return model.rstrip("/").rsplit("/", 1)[-1]
