"""The course of debates by protocol: rounds, characters and quotes, and belief by judge turn.

A debate that three judges judged is one debate here; rows are protocols with their speakers, not
arms. A judge's turn is a belief that was asked for on the way: turn 0 is the one before anybody has
spoken, where there is one, and turn k the k-th behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from oversight.aggregation import Ruling, readable
from oversight.evals.accuracy import Accuracy, accuracy
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Arm, Cluster, Observation, cluster_of, labels, named
from oversight.text.numbers import Table, decimal, decimals, share
from oversight.text.quotes import strip_quotes
from oversight.types import Act, Seat, Transcript


@dataclass(frozen=True, slots=True)
class DebateMeasures:
    """Size of one debate."""

    debate_id: str
    cluster: Cluster
    rounds: int
    characters: int
    quotes: int


@dataclass(frozen=True, slots=True)
class DebateSizes:
    """Means over debates, each counted once; intervals are clustered by question."""

    num_debates: int
    rounds: Estimate
    """Rounds in which somebody spoke; the opening is one."""
    characters: Estimate
    """Of all speeches of a debate that stand, quotes included."""
    quotes: Estimate


@dataclass(frozen=True, slots=True)
class DebateCourse:
    """Means over the debates of one protocol; all intervals are clustered by question."""

    label: str
    """The protocol, with its speakers where they vary."""
    num_questions: int
    accuracy: Accuracy | None
    """Of the judges who sat in the debates: those who gave beliefs on the way, or where none did
    all judges together. None if no answer is known."""
    judge_turns: Estimate
    """The judge's turns with a belief, without the one before anybody has spoken."""
    sizes: DebateSizes


@dataclass(frozen=True, slots=True)
class TurnBelief:
    """Mean belief in the right answer at one judge turn, over the debates that came to it."""

    label: str
    turn: int | None
    """None: the final judgment."""
    belief: Estimate


def turns_of(
    beliefs: Sequence[tuple[int, float | None]], first_speech: int | None
) -> list[tuple[int, float]]:
    """(judge turn, belief in the right answer) of one judge, from (step, belief) in order.

    Args:
        beliefs: By step; None where a belief could not be read, which is a turn all the same.
        first_speech: The first step at which anybody spoke; None if nobody did.
    """
    begins_before = bool(beliefs) and (first_speech is None or beliefs[0][0] < first_speech)
    start = 0 if begins_before else 1
    return [(turn, p) for turn, (_, p) in enumerate(beliefs, start) if p is not None]


def belief_by_turn(
    beliefs: Sequence[Sequence[tuple[int, float]]], clusters: Sequence[Hashable]
) -> list[tuple[int, Estimate]]:
    """Mean belief at each turn with an interval, over those that came to it.

    Args:
        beliefs: Of each ruling, (turn, belief in the right answer).
        clusters: The question of each ruling.
    """
    by_turn: dict[int, list[tuple[Hashable, float]]] = defaultdict(list)
    for some, cluster in zip(beliefs, clusters, strict=True):
        for turn, p in some:
            by_turn[turn].append((cluster, p))
    return [
        (turn, mean_interval([p for _, p in found], [cluster for cluster, _ in found]))
        for turn, found in sorted(by_turn.items())
    ]


@dataclass(frozen=True, slots=True)
class RulingCourse:
    """The way of one judge through one debate."""

    observation: Observation
    seated: bool
    """True if the judge gave beliefs on the way."""
    num_turns: int
    by_turn: tuple[tuple[int, float], ...]


def debate_measures(transcript: Transcript) -> DebateMeasures:
    """The size of one debate: the speeches that stand, of those who argue before the judge."""
    speakers = transcript.debate.protocol.speakers
    said = [turn for turn in transcript.spoken() if turn.seat in speakers and turn.act.is_spoken]
    return DebateMeasures(
        debate_id=transcript.debate.id,
        cluster=cluster_of(transcript.question),
        rounds=len({turn.round for turn in said}),
        characters=sum(len(strip_quotes(turn.text)) for turn in said),
        quotes=sum(len(turn.quotes) for turn in said),
    )


def debate_sizes(measured: Sequence[DebateMeasures]) -> DebateSizes:
    """Means over different debates."""
    clusters = [each.cluster for each in measured]

    def mean(values: Iterable[int]) -> Estimate:
        return mean_interval([float(value) for value in values], clusters, bounds=None)

    return DebateSizes(
        num_debates=len(measured),
        rounds=mean(each.rounds for each in measured),
        characters=mean(each.characters for each in measured),
        quotes=mean(each.quotes for each in measured),
    )


def ruling_course(transcript: Transcript, ruling: Ruling, observation: Observation) -> RulingCourse:
    """The way of one ruling."""
    correct = transcript.question.correct
    path = [
        (
            step,
            belief.probs[correct]
            if correct is not None and readable(belief) and belief.probs is not None
            else None,
        )
        for step, belief in ruling.trajectory
    ]
    first = _first_speech(transcript)
    by_turn = turns_of(path, first)
    num = len(path) - bool(path and first is not None and path[0][0] < first)
    return RulingCourse(observation, bool(path), num, tuple(by_turn) if correct is not None else ())


def _first_speech(transcript: Transcript) -> int | None:
    steps = [
        step.index
        for step in transcript.debate.protocol.schedule()
        if any(slot.seat is not Seat.JUDGE and slot.act is not Act.BELIEVE for slot in step.slots)
    ]
    return steps[0] if steps else None


class CourseCounter:
    """Gathers the course of debates, one transcript after the other."""

    def __init__(self) -> None:
        self._debates: dict[Arm, list[tuple[DebateMeasures, int]]] = defaultdict(list)
        self._rulings: dict[Arm, list[RulingCourse]] = defaultdict(list)

    def add(
        self,
        transcript: Transcript,
        measured: DebateMeasures,
        found: Sequence[RulingCourse],
        group: str = "",
    ) -> None:
        """Take in one debate with the ways of its judges; without speakers it has no course."""
        debate = transcript.debate
        if not debate.protocol.speakers:
            return
        spec = debate.agents.get(debate.protocol.speaker_role)
        arm = Arm(debate.protocol.name, named(spec) if spec else "", "", group)
        judge_turns = max((each.num_turns for each in found), default=0)
        self._debates[arm].append((measured, judge_turns))
        seated = [each for each in found if each.seated]
        self._rulings[arm] += seated or found

    def update(self, other: CourseCounter) -> None:
        """Add what another one gathered."""
        for arm, debates in other._debates.items():
            self._debates[arm] += debates
        for arm, found in other._rulings.items():
            self._rulings[arm] += found

    def courses(self) -> tuple[DebateCourse, ...]:
        """The means of each protocol."""
        names = labels(self._debates)
        found = []
        for arm in sorted(self._debates):
            debates = sorted(self._debates[arm], key=lambda each: each[0].debate_id)
            clusters = [each.cluster for each, _ in debates]
            turns = [float(judge_turns) for _, judge_turns in debates]
            found.append(
                DebateCourse(
                    label=names[arm],
                    num_questions=len(set(clusters)),
                    accuracy=accuracy(each.observation for each in self._sorted(arm)),
                    judge_turns=mean_interval(turns, clusters, bounds=None),
                    sizes=debate_sizes([each for each, _ in debates]),
                )
            )
        return tuple(found)

    def _sorted(self, arm: Arm) -> list[RulingCourse]:
        """Rulings in an order that does not depend on that of reading."""
        return sorted(
            self._rulings[arm],
            key=lambda each: (each.observation.debate_id, each.observation.arm.judge),
        )

    def turn_beliefs(self) -> tuple[TurnBelief, ...]:
        """Mean belief in the right answer by judge turn, and in the final judgment."""
        names = labels(self._debates)
        found = []
        for arm in sorted(self._rulings):
            seated = [each for each in self._sorted(arm) if each.by_turn]
            clusters = [each.observation.cluster for each in seated]
            by_turn = belief_by_turn([each.by_turn for each in seated], clusters)
            found += [TurnBelief(names[arm], turn, belief) for turn, belief in by_turn]
            final = [
                (each.observation.cluster, p)
                for each in seated
                if (p := each.observation.p_correct) is not None
            ]
            if final:
                values, of = [p for _, p in final], [cluster for cluster, _ in final]
                found.append(TurnBelief(names[arm], None, mean_interval(values, of)))
        return tuple(found)


# --- tables ----------------------------------------------------------------------


def course_table(found: Sequence[DebateCourse]) -> Table:
    """Rounds, characters and quotes per debate by protocol."""
    return Table(
        title="Debates",
        note="Means per debate. Accuracy is of the judges who gave beliefs on the way, all judges "
        "of a protocol together. Turns: the judge's, with a belief, after somebody spoke.",
        columns=(
            *("protocol", "debates", "questions", "accuracy", "rounds", "judge turns"),
            *("characters", "quotes"),
        ),
        rows=tuple(
            (
                each.label,
                f"{each.sizes.num_debates:,}",
                f"{each.num_questions:,}",
                share(each.accuracy.accuracy if each.accuracy else None),
                _mean_cell(each.sizes.rounds),
                _mean_cell(each.judge_turns),
                _mean_cell(each.sizes.characters),
                _mean_cell(each.sizes.quotes),
            )
            for each in found
        ),
    )


def _mean_cell(estimate: Estimate) -> str:
    """A mean with its interval, in as many decimals as its size asks for."""
    digits = 0 if estimate.value >= 100 else 1 if estimate.value >= 10 else 2
    shown = f"{estimate.value:,.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return shown
    return f"{shown} [{estimate.low:,.{digits}f}, {estimate.high:,.{digits}f}]".replace("-", "−")


def turn_table(found: Sequence[TurnBelief]) -> Table:
    """Belief by judge turn."""
    by_label: dict[str, dict[int | None, Estimate]] = defaultdict(dict)
    for each in found:
        by_label[each.label][each.turn] = each.belief
    turns = sorted({each.turn for each in found if each.turn is not None})
    rows = []
    for label, by_turn in by_label.items():
        cells = (
            f"{decimal(by_turn[turn].value)} ({by_turn[turn].num:,})" if turn in by_turn else "–"
            for turn in turns
        )
        rows.append((label, *cells, decimals(by_turn.get(None))))
    return Table(
        title="Belief by judge turn",
        note="Mean belief in the right answer at each of the judge's turns, over the debates that "
        "came to it (so many); turn 0: before anybody spoke. Then in the judgment.",
        columns=("protocol", *(f"turn {turn}" for turn in turns), "judgment"),
        rows=tuple(rows),
    )
