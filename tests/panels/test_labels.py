"""Labels from many votes: recovered truths, crowd-kit's fit, and data that cannot bear one."""

import json
from pathlib import Path

import numpy as np
import pytest

from oversight.panels.labels import (
    MISSING,
    dawid_skene,
    majority,
    one_coin,
    rater_qualities,
    unfit,
)


def votes_of(accuracy, num_items, num_labels, seed, missing=0.0):
    """Truths and votes of raters of known accuracies, errors spread evenly."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(num_labels, size=num_items)
    votes = np.empty((len(accuracy), num_items), dtype=int)
    for rater, right in enumerate(accuracy):
        wrong = (truth + rng.integers(1, num_labels, size=num_items)) % num_labels
        votes[rater] = np.where(rng.random(num_items) < right, truth, wrong)
    votes[rng.random(votes.shape) < missing] = MISSING
    return truth, votes


def test_majority_gives_shares_and_nothing_of_an_item_without_votes():
    shares = majority(np.array([[0, 1, MISSING], [0, 0, MISSING], [1, MISSING, MISSING]]), 2)
    assert shares[:2].tolist() == [[pytest.approx(2 / 3), pytest.approx(1 / 3)], [0.5, 0.5]]
    assert np.isnan(shares[2]).all()


@pytest.mark.parametrize("fit", [dawid_skene, one_coin])
def test_a_good_rater_outvotes_two_poor_ones(fit):
    truth, votes = votes_of([0.95, 0.9, 0.55, 0.55, 0.55], 3000, 2, seed=1)
    model = fit(votes, 2)
    fitted = (model.posterior_UL.argmax(1) == truth).mean()
    assert model.converged
    assert fitted > (np.nan_to_num(majority(votes, 2)).argmax(1) == truth).mean() + 0.05
    assert model.accuracy_R == pytest.approx([0.95, 0.9, 0.55, 0.55, 0.55], abs=0.07)


def test_a_rater_who_mixes_up_two_labels_has_it_in_its_table():
    truth, votes = votes_of([0.9, 0.9, 0.9, 0.9], 900, 3, seed=2)
    votes[3] = np.where(truth == 2, 1, truth)
    model = dawid_skene(votes, 3)
    assert model.confusion_RLL[3, 2, 1] > 0.9
    assert model.confusion_RLL[3, 0, 0] > 0.9
    assert model.confusion_RLL.sum(2) == pytest.approx(np.ones((4, 3)))


CROWD_KIT = json.loads(Path(__file__).with_name("crowd_kit.json").read_text(encoding="utf-8"))
"""Fits by crowd-kit itself, written by `crowd_kit_values.py` beside this file."""


@pytest.mark.parametrize("case", CROWD_KIT["cases"], ids=lambda case: case["name"])
def test_the_fit_is_crowd_kits(case):
    votes, rounds = np.array(case["votes"]), case["rounds"]
    ours = dawid_skene(votes, case["labels"], max_rounds=rounds, tolerance=-np.inf)
    after = dawid_skene(votes, case["labels"], max_rounds=rounds + 1, tolerance=-np.inf)
    voted = (votes != MISSING).any(0)
    assert ours.posterior_UL[voted] == pytest.approx(np.array(case["posterior"]), abs=1e-8)
    assert after.confusion_RLL == pytest.approx(np.array(case["errors"]), abs=1e-8)


def test_votes_that_cannot_bear_a_fit_are_named():
    assert "fewer than 3 judges" in unfit(np.zeros((2, 20), dtype=int))
    few = np.zeros((3, 20), dtype=int)
    few[2, 2:] = MISSING
    assert "2 votes" in unfit(few)
    apart = np.full((4, 20), MISSING)
    apart[:2, :10] = 0
    apart[2:, 10:] = 0
    assert "2 parts" in unfit(apart)
    with pytest.raises(ValueError, match="2 parts"):
        rater_qualities(apart, 2)
    assert unfit(np.zeros((3, 20), dtype=int)) is None


def test_items_about_one_question_are_resampled_together_and_no_interval_is_a_point():
    _, votes = votes_of([0.85, 0.8, 0.7, 0.6], 150, 2, seed=5)
    (alone, *_) = rater_qualities(votes, 2)
    four = np.tile(votes, (1, 4))
    (together, *_) = rater_qualities(four, 2, clusters=list(range(150)) * 4)
    (naive, *_) = rater_qualities(four, 2)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.25)
    assert naive.high - naive.low < 0.7 * (together.high - together.low)
    same = np.tile(np.arange(20) % 2, (3, 1))
    (sure, *_) = rater_qualities(same, 2)
    assert sure.value == pytest.approx(1.0)
    assert (sure.low, sure.high) == pytest.approx((0.839, 1.0), abs=1e-3)  # Wilson of 20 of 20


def test_a_vote_for_no_label_is_an_error():
    with pytest.raises(ValueError, match="a vote is 2: labels are 0 to 1"):
        dawid_skene(np.array([[0, 2]]), 2)


def covered(num_simulations):
    """Share of intervals of raters' accuracies that hold the known accuracy."""
    known = [0.85, 0.8, 0.7, 0.6]
    hits = []
    for seed in range(num_simulations):
        _, votes = votes_of(known, 300, 2, seed=seed)
        found = rater_qualities(votes, 2, num_resamples=100, seed=seed)
        hits += [each.low <= p <= each.high for each, p in zip(found, known, strict=True)]
    return np.mean(hits)


def test_intervals_of_accuracy_cover_the_known_one_in_short():
    assert covered(12) >= 0.85


@pytest.mark.slow
def test_intervals_of_accuracy_cover_the_known_one():
    assert 0.92 <= covered(400) <= 0.98
