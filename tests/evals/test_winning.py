"""Properties that go with winning: sides, seats, places, what honesty gains, length and quotes."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from oversight.aggregation import rulings
from oversight.evals.calibration import FLOOR
from oversight.evals.observations import observe
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.evals.winning import (
    agent_score_difference,
    clustered_correlation,
    contents_of,
    contest_of,
    score_difference,
    win_rates,
)
from oversight.types import QuoteStatus, Seat


def contests(transcripts):
    return [
        contest_of(observe(each, ruling), ruling, contents_of(each))
        for each in transcripts
        for ruling in rulings(each)
    ]


def with_words(transcript, words):
    """The same debate with so many letters in each speech, by seat."""
    turns = tuple(
        turn.model_copy(update={"text": "x" * words[turn.seat]}) for turn in transcript.turns
    )
    return replace(transcript, turns=turns)


def shown(report):
    return {table.title: table for table in tables(report)}


def test_what_a_side_puts_forward_is_counted(judged):
    statuses = [QuoteStatus.VERIFIED, QuoteStatus.TOO_SHORT, QuoteStatus.NEAR]
    made = with_words(judged(0.9, quotes={Seat.B: statuses}), {Seat.A: 10, Seat.B: 4})
    a, b = contents_of(made)
    assert (a.characters, a.quotes, a.verified_share) == (30, 0, None)
    assert (b.characters, b.quotes, b.verified_share) == (12, 9, 0.5)


def test_win_rates_are_told_apart_by_seat_and_order(judged):
    """The honest side wins as A and loses as B; it is shown first in half of each."""
    made = []
    for number in range(40):
        as_a, first = number % 2 == 0, number % 4 < 2
        a_first = as_a == first
        made.append(
            judged(
                0.9 if as_a else 0.2,
                question=f"q{number}",
                defends=(0, 1) if as_a else (1, 0),
                shown=(Seat.A, Seat.B) if a_first else (Seat.B, Seat.A),
            )
        )
    found = {each.place: each.share.value for each in win_rates("debate", contests(made))}
    assert found == {
        "any": 0.5,
        "seat A": 1.0,
        "seat B": 0.0,
        "shown first": 0.5,
        "shown last": 0.5,
        "listed first": 0.5,
    }


def test_a_judge_of_both_orders_has_no_place_in_them(judged):
    found = {each.place for each in win_rates("debate", contests([judged(0.8, swapped=0.6)]))}
    assert found == {"any", "seat A"}


def test_consultants_win_by_the_side_that_they_were_given(judged, protocols):
    made = [
        judged(0.8, protocol=protocols["consultancy"], question=f"q{i}", defends=(i % 2,))
        for i in range(20)
    ]
    found = {(e.side, e.place): e.share.value for e in win_rates("consultancy", contests(made))}
    assert found["honest", "any"] == 1.0
    assert found["dishonest", "any"] == 0.0
    assert ("honest", "seat A") not in found


def test_the_score_difference_of_a_debate_is_the_log_odds_of_the_truth(judged):
    made = [judged(p, question=f"q{p}") for p in (0.9, 0.8, 0.6, 0.3)]
    found = score_difference("debate", contests(made))
    odds = [math.log(p / (1 - p)) for p in (0.9, 0.8, 0.6, 0.3)]
    assert found.log.value == pytest.approx(np.mean(odds))
    assert found.belief.value == pytest.approx(np.mean([2 * p - 1 for p in (0.9, 0.8, 0.6, 0.3)]))
    assert found.num_pairs == 4


def test_consultants_of_both_sides_are_paired_by_question(judged, protocols):
    made = []
    for number in range(12):
        for side, p in ((0, 0.9), (1, 0.4)):
            made.append(
                judged(
                    p,
                    protocol=protocols["consultancy"],
                    question=f"q{number}",
                    defends=(side,),
                    seed=side,
                )
            )
    made.append(judged(0.1, protocol=protocols["consultancy"], question="alone", defends=(0,)))
    found = score_difference("consultancy", contests(made))
    # The right one is believed with 0.9, the wrong one with 1 - 0.4.
    assert found.log.value == pytest.approx(math.log(0.9 / 0.6))
    assert found.belief.value == pytest.approx(0.3)
    assert found.num_pairs == 12


def test_a_sure_judge_has_a_finite_score_difference():
    log, belief = agent_score_difference([("a", 1.0), ("b", 1.0)], [("a", 0.0), ("b", 0.0)])
    assert log.value == pytest.approx(-math.log(FLOOR))
    assert belief.value == 1.0


def test_consultants_of_one_side_have_no_score_difference_and_a_reason(judged, protocols):
    made = [
        judged(0.9, protocol=protocols["consultancy"], question=f"q{i}", defends=(0,))
        for i in range(5)
    ]
    report = build_report(made)
    [found] = report.score_differences
    assert (found.log, found.belief) == (None, None)
    assert found.flag == "0 questions with both sides; two are the least"
    assert shown(report)["What honesty gains"].rows[0][-1] == found.flag


def long_winded(judged, pull, num=150, seed=0):
    """Debates that the longer side wins the more often, the stronger the pull."""
    rng = random.Random(seed)
    made = []
    for number in range(num):
        lengths = {seat: rng.randint(50, 500) for seat in (Seat.A, Seat.B)}
        gap = (lengths[Seat.A] - lengths[Seat.B]) / 450
        p = 0.9 if rng.random() < 0.5 + 0.5 * pull * gap else 0.1
        made.append(with_words(judged(p, question=f"q{number}"), lengths))
    return made


def test_length_that_wins_is_found_and_length_that_does_not_is_not(judged):
    def characters(pull):
        report = build_report(long_winded(judged, pull))
        return next(e for e in report.feature_effects if e.feature == "characters")

    wins, fair = characters(1.0), characters(0.0)
    assert wins.more_wins.low > 0.5
    assert wins.correlation.low > 0.1
    assert wins.test.holm < 0.05
    assert not fair.more_wins.excludes(0.5)
    assert fair.test.holm > 0.05


def test_an_advantage_that_only_the_right_side_has_is_taken_out(judged):
    """The right side speaks longer and wins; among equals length does nothing."""
    rng = random.Random(3)
    made = []
    for number in range(200):
        as_a = rng.random() < 0.5
        right, wrong = rng.randint(250, 500), rng.randint(50, 300)
        wins = rng.random() < 0.8
        p = 0.9 if wins else 0.1
        lengths = {Seat.A: right, Seat.B: wrong} if as_a else {Seat.A: wrong, Seat.B: right}
        defends = (0, 1) if as_a else (1, 0)
        made.append(with_words(judged(p, question=f"q{number}", defends=defends), lengths))
    report = build_report(made)
    found = next(e for e in report.feature_effects if e.feature == "characters")
    assert found.correlation.low > 0.3
    assert not found.given_side.excludes(0.0)


def test_features_on_few_questions_are_flagged_and_have_no_number(judged):
    quotes = {Seat.A: [QuoteStatus.VERIFIED], Seat.B: [QuoteStatus.NEAR]}
    report = build_report([judged(0.9, question=f"q{i}", quotes=quotes) for i in range(4)])
    for each in report.feature_effects:
        assert each.correlation is each.more_wins is each.test is None
        assert each.flag == "4 questions; 10 are the least"
    assert "why not" in shown(report)["What goes with winning"].columns
    assert not [each for each in report.families if each.name == "what goes with winning"]


def test_the_correlation_is_spearmans_and_the_p_value_of_independent_units_that_of_scipy():
    rng = np.random.default_rng(1)
    xs = rng.normal(size=300)
    ys = 0.3 * xs + rng.normal(size=300)
    found, p = clustered_correlation(xs.tolist(), ys.tolist(), range(300))
    known = stats.spearmanr(xs, ys)
    assert found.value == pytest.approx(known.statistic)
    assert found.low == pytest.approx(
        math.tanh(math.atanh(known.statistic) - 1.96 / 297**0.5), abs=0.03
    )
    assert math.log10(p) == pytest.approx(math.log10(known.pvalue), abs=1.5)


def test_a_correlation_that_cannot_be_is_none_and_lengths_have_to_fit():
    assert clustered_correlation([1.0] * 20, list(range(20)), range(20)) is None
    assert clustered_correlation(list(range(9)), list(range(9)), range(9)) is None
    with pytest.raises(ValueError, match="need as many"):
        clustered_correlation([1.0], [1.0, 2.0], [0, 1])
