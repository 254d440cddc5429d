"""Effects are found at their size, p-values fit their intervals, and a fair judge shows nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import pytest
from scipy.stats import binom

from oversight.audits.editing import edited, seats_of
from oversight.audits.interventions import BUILT_IN, Intervention
from oversight.audits.measures import (
    InterventionEffect,
    InterventionPair,
    effects_of,
)
from oversight.evals.observations import cluster_of
from oversight.types import Belief, BeliefMethod, Seat, Transcript, Verdict
from tests.audits.biased_judges import p_of_a
from tests.audits.test_interventions import judges_view

EVERY = tuple(BUILT_IN.values())
NAMES = [each.name for each in EVERY]
CLAIMS = [each.name for each in EVERY if not each.is_control]
SHORT, LONG = 25, 400
"""Simulations in CI, and in the slow form."""


def belief(p: float | None, verdict: Verdict = Verdict.DECIDED) -> Belief:
    """A belief in option 0; None cannot be read."""
    if p is None:
        return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED)
    return Belief(verdict=verdict, method=BeliefMethod.PARSED, probs=(p, 1.0 - p))


def pair(
    before: float | None,
    after: float | None,
    *,
    name: str = "authority",
    original: str = "d0",
    seat: str = "a",
    target: int = 0,
    question: str | None = None,
    correct: int | None = 0,
) -> InterventionPair:
    return InterventionPair(
        intervention=name,
        original=original,
        edited=f"{name}-{original}-{seat}",
        seat=seat,
        cluster=("made", question or original),
        target=target,
        num_options=2,
        correct=correct,
        before=belief(before),
        after=belief(after),
    )


def tried(*names: str) -> list[Intervention]:
    return [BUILT_IN[name] for name in names]


def only(pairs: Sequence[InterventionPair], *names: str) -> InterventionEffect:
    return effects_of(pairs, tried(*(names or ("authority",))))[0]


# --- arithmetic ---


def test_no_pair_has_no_p_value() -> None:
    found = only([])
    assert (found.num, found.belief, found.p_holm, found.is_found) == (0, None, None, False)


def test_effects_are_gains_of_the_side_that_was_changed() -> None:
    found = only(
        [
            pair(0.4, 0.6, original="d0"),  # for the right side: decided otherwise
            pair(0.4, 0.7, original="d1", seat="b", target=1),  # the wrong side loses 0.3
            pair(0.6, 0.4, original="d2", seat="b", target=1),  # the wrong side wins 0.2
        ]
    )
    assert found.belief is not None
    assert found.belief.value == pytest.approx((0.2 - 0.3 + 0.2) / 3)
    assert found.decisions is not None
    assert found.decisions.value == pytest.approx((1 - 1 + 1) / 3)
    assert found.flipped is not None
    assert found.flipped.value == 1.0
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx((1 - 1) / 2)
    assert found.accuracy.num == 2


def test_what_cannot_be_read_is_counted_and_in_no_effect() -> None:
    found = only(
        [
            pair(0.4, 0.6, original="d0", target=1),
            pair(0.6, None, original="d1", target=1),
            pair(None, None, original="d2", target=1),
        ]
    )
    assert found.num == 3
    assert found.belief is not None
    assert found.belief.num == 1
    assert (found.invalid_before, found.invalid_after) == (1 / 3, 2 / 3)
    # Of accuracy it is wrong: right to wrong once, wrong to right once, wrong to wrong once.
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx((1 - 1 + 0) / 3)


def test_a_control_is_compared_in_the_same_pairs_alone() -> None:
    pairs = [
        pair(0.5, 0.9, original="d0"),
        pair(0.5, 0.8, original="d1"),
        pair(0.5, 0.7, original="d0", name="neutral_sentence"),
        pair(0.2, 0.2, original="d9", name="neutral_sentence"),
    ]
    found = only(pairs, "authority", "neutral_sentence")
    assert found.of_control is not None
    assert found.beyond is not None
    assert (found.of_control.num, found.beyond.num) == (1, 1)
    assert found.of_control.value == pytest.approx(0.2)
    assert found.beyond.value == pytest.approx(0.2)


def test_a_control_of_one_side_counts_for_the_other_with_its_sign() -> None:
    pairs = [
        pair(0.5, 0.6, original="d0", seat="b", target=1, name="irrelevant_turns"),
        pair(0.5, 0.7, original="d0", seat="a", target=0, name="unchanged"),
    ]
    found = only(pairs, "irrelevant_turns", "unchanged")
    assert found.of_control is not None
    assert found.of_control.value == pytest.approx(-0.2)
    assert found.beyond is not None
    assert found.beyond.value == pytest.approx(-0.1 + 0.2)


def test_pairs_of_one_question_are_one_piece_of_evidence() -> None:
    gains = [random.Random(n).random() for n in range(20)]
    apart = only([pair(0.0, gain, original=f"d{n}") for n, gain in enumerate(gains)])
    together = only(
        [pair(0.0, gains[n // 5], original=f"d{n}", question=f"q{n // 5}") for n in range(20)]
    )
    assert apart.belief is not None
    assert together.belief is not None
    assert (apart.belief.num_clusters, together.belief.num_clusters) == (20, 4)
    assert (together.belief.width or 0) > (apart.belief.width or 0)


# --- planted biases ---


both_forms = pytest.mark.parametrize(
    "num",
    [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
    ids=["short", "long"],
)


class Planted:
    """Transcripts, their edits, and a judge's probability of deciding for seat A in each."""

    def __init__(self, debates: Sequence[Transcript], lean: str, p: float) -> None:
        self.debates = debates
        self.p_before = {d.debate.id: p_of_a(judges_view(d), lean, p) for d in debates}
        self.edits = [
            (each.name, before, seat, p_of_a(judges_view(after), lean, p))
            for before in debates
            for each in EVERY
            for seat in seats_of(before, each, 0)
            if (after := edited(before, each, seat)) is not None
        ]
        gains: dict[str, list[float]] = {name: [] for name in NAMES}
        for name, before, seat, p_after in self.edits:
            gain = p_after - self.p_before[before.debate.id]
            gains[name].append(gain if seat is Seat.A else -gain)
        self.planted = {name: fmean(values) for name, values in gains.items()}

    def audited(self, seed: int) -> dict[str, InterventionEffect]:
        """The effects that an audit finds when the judge decides anew."""
        rng = random.Random(seed)
        first = {id_: rng.random() < p for id_, p in self.p_before.items()}
        pairs = [
            InterventionPair(
                intervention=name,
                original=before.debate.id,
                edited=f"{name}-{before.debate.id}-{seat}",
                seat=seat.value,
                cluster=cluster_of(before.question),
                target=before.debate.orders.defended_by(seat),
                num_options=2,
                correct=before.question.correct,
                before=self._belief(before, for_a=first[before.debate.id]),
                after=self._belief(before, for_a=rng.random() < p),
            )
            for name, before, seat, p in self.edits
        ]
        return {each.name: each for each in effects_of(pairs, EVERY)}

    def _belief(self, before: Transcript, *, for_a: bool) -> Belief:
        chosen = before.debate.orders.defended_by(Seat.A if for_a else Seat.B)
        return belief(1.0 if chosen == 0 else 0.0)


BIASES = {
    "longer": ("verbosity", "neutral_paragraph"),
    "eminent": ("authority",),
    "ordered": ("instructions",),
    "quoting": ("fabricated_quotes", "borrowed_quotes"),
    "verified": ("marks_removed",),
}
"""By bias: interventions with an effect, and a size that is planted."""


@pytest.mark.parametrize("lean", BIASES)
@both_forms
def test_a_planted_bias_is_found_at_its_size(
    debates: list[Transcript], lean: str, num: int
) -> None:
    planted = Planted(debates, lean, 0.8)
    covered: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for seed in range(num):
        for name, effect in planted.audited(seed).items():
            assert effect.belief is not None
            low, high = effect.belief.low, effect.belief.high
            assert low is not None
            assert high is not None
            covered[name] += low <= planted.planted[name] <= high
            found[name] += effect.is_found
    for name in BIASES[lean]:
        assert abs(planted.planted[name]) > 0.2, name
        if name in CLAIMS:
            assert found[name] / num > 0.7, name
    rates = {name: covered[name] / num for name in NAMES}
    # True coverage of 94 % falls below this once in a thousand runs of all biases and rows.
    least = binom.ppf(1e-3 / (len(NAMES) * len(BIASES)), num, 0.94) / num
    assert min(rates.values()) >= least, rates
    if num == LONG:
        assert 0.93 <= fmean(rates.values()) <= 0.985, rates


@both_forms
def test_a_fair_judge_shows_nothing(debates: list[Transcript], num: int) -> None:
    planted = Planted(debates, "nothing", 0.8)
    assert set(planted.planted.values()) == {0.0}
    falsely = 0
    for seed in range(num):
        effects = planted.audited(seed)
        falsely += any(each.is_found or each.is_beyond for each in effects.values())
    # Two corrected families, each with a chance of 5 % of any false finding.
    assert falsely <= binom.ppf(0.999, num, 0.10), falsely


def test_what_does_not_move_the_biased_judge_is_not_found(debates: list[Transcript]) -> None:
    planted = Planted(debates, "eminent", 0.8)
    assert {name for name, size in planted.planted.items() if size} == {"authority"}
    falsely = sum(
        any(each.is_found for name, each in planted.audited(seed).items() if name != "authority")
        for seed in range(SHORT)
    )
    assert falsely <= binom.ppf(0.999, SHORT, 0.05)
