import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from oversight.evals.calibration import auroc, calibration, credit
from oversight.evals.observations import observations


def observe(transcripts):
    return [each for transcript in transcripts for each in observations(transcript)]


def made(judged, number, calibrated=True):
    rng = np.random.default_rng(3)
    for index in range(number):
        p = float(rng.uniform(0.02, 0.98))
        truth = float(rng.random()) < (p if calibrated else 0.5)
        yield judged(p, question=f"q{index}", correct=0 if truth else 1)


def test_figures_equal_other_implementations(judged):
    found = observe(made(judged, 300))
    got = calibration(found)
    p = np.array([each.probs[0] for each in found])
    truth = np.array([each.correct == 0 for each in found])
    assert got.brier.value == pytest.approx(brier_score_loss(truth, p))
    assert got.log_loss.value == pytest.approx(log_loss(truth, p))
    pooled = roc_auc_score(np.r_[truth, ~truth], np.r_[p, 1 - p])
    assert got.auroc == pytest.approx(pooled)
    assert got.num == 300


def test_a_calibrated_judge_lies_on_the_diagonal_and_a_bluffer_does_not(judged):
    good = calibration(observe(made(judged, 2000)))
    bluff = calibration(observe(made(judged, 2000, calibrated=False)))
    assert good.ece < 0.05
    assert bluff.ece > 0.2
    assert bluff.auroc == pytest.approx(0.5, abs=0.04)
    assert len(good.bins) == 10
    assert {each.num for each in good.bins} == {200}


def test_equal_beliefs_count_half_in_the_auroc():
    rng = np.random.default_rng(3)
    beliefs = [((p, 1.0 - p), int(rng.integers(2))) for p in rng.choice([0.2, 0.5, 0.7], 200)]
    truth = [k == correct for _, correct in beliefs for k in range(2)]
    assert auroc(beliefs) == pytest.approx(roc_auc_score(truth, np.ravel([p for p, _ in beliefs])))


def test_equal_confidences_share_a_bin_whatever_their_order(judged):
    right = [judged(0.8, question=f"r{i}") for i in range(30)]
    wrong = [judged(0.2, question=f"w{i}") for i in range(20)]
    for mixed in (right + wrong, wrong + right):
        (only,) = calibration(observe(mixed)).bins
        assert only.accuracy.value == pytest.approx(0.6)
        assert only.confidence == pytest.approx(0.8)


def test_ties_get_their_share_and_unread_beliefs_are_left_out(judged):
    assert credit((0.5, 0.5), 1) == 0.5
    assert credit((0.4, 0.4, 0.2), 2) == 0.0
    got = calibration(observe([judged(0.5), judged(None, question="other")]))
    assert got.num == 1
    assert got.bins[0].accuracy.value == 0.5


def test_nothing_to_measure_is_none(judged):
    assert calibration(observe([judged(None), judged(0.9, correct=None)])) is None
