"""Abstention, calibration and detection, on streams of which it is known what they are."""

from __future__ import annotations

import numpy as np
import pytest

from oversight.experiments.measured.detection import (
    POWERS,
    WordModel,
    alarm_at,
    detect,
    log_wealth,
    online_ranks,
)
from oversight.experiments.measured.shift import (
    CONTROL,
    SHIFTS,
    calibration_error,
    conformal_threshold,
    debates,
    fitted_temperature,
    tempered,
)
from oversight.experiments.measured.suite import ShiftSettings

OWN = ShiftSettings(reference=300, stream=200, items=40, streams=5, share=0.3)


def drawn_probs(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two options that mean what they say, and the right options."""
    rng = np.random.default_rng(seed)
    first = rng.beta(0.7, 0.7, num)
    right = (rng.random(num) > first).astype(int)
    return np.stack([first, 1 - first], axis=1), right


def test_conformal_sets_miss_the_right_answer_no_more_than_is_allowed() -> None:
    missed = []
    for seed in range(200):
        probs, right = drawn_probs(100, seed)
        bound = conformal_threshold(probs, right, 0.1)
        fresh, truth = drawn_probs(100, 1000 + seed)
        missed.append(float((1 - fresh[np.arange(100), truth] > bound).mean()))
    assert 0.07 < np.mean(missed) <= 0.105


def test_too_few_calibration_debates_keep_every_option() -> None:
    probs, right = drawn_probs(5, 0)
    assert conformal_threshold(probs, right, 0.1) == 1.0


def test_a_temperature_takes_back_what_overconfidence_did() -> None:
    probs, right = drawn_probs(4000, 1)
    bold = tempered(probs, 0.4)
    assert fitted_temperature(bold, right) == pytest.approx(2.5, rel=0.15)
    assert calibration_error(bold, right) > 2 * calibration_error(tempered(bold, 2.5), right)


def test_ranks_are_uniform_where_nothing_shifts_and_small_where_scores_rise() -> None:
    rng = np.random.default_rng(0)
    ranks = online_ranks(rng.standard_normal(500), rng.standard_normal(4000), rng)
    assert np.quantile(ranks, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    risen = online_ranks(rng.standard_normal(500), 3 + rng.standard_normal(50), rng)
    assert np.median(risen) < 0.06


def test_equal_scores_are_ranked_by_chance() -> None:
    rng = np.random.default_rng(0)
    ranks = online_ranks(np.ones(100), np.ones(2000), rng)
    assert ranks.mean() == pytest.approx(0.5, abs=0.03)


def test_a_bet_is_fair_where_nothing_shifts() -> None:
    """Its integral over uniform ranks, from 1e-12 on, where the bets' densities are cut off."""
    ranks = np.geomspace(1e-12, 1.0, 20_001)
    density = np.exp(log_wealth(ranks[None, :])[0])
    left_out = np.mean([1e-12**power for power in POWERS])
    assert np.trapezoid(density, ranks) == pytest.approx(1.0 - left_out, abs=1e-3)


def test_no_alarm_without_shift_in_as_many_streams_as_the_promise_is_about() -> None:
    rng = np.random.default_rng(4)
    alarms = sum(alarm_at(rng.random((200, 4)), 0.01) is not None for _ in range(1500))
    assert alarms <= 15


def test_an_alarm_comes_soon_where_ranks_are_small() -> None:
    rng = np.random.default_rng(5)
    ranks = rng.random((500, 4))
    shifted = rng.random(500) < 0.1
    ranks[shifted, 0] *= 0.002
    at = alarm_at(ranks, 1e-4)
    assert at is not None
    assert at < 300


@pytest.fixture(scope="module")
def plain() -> list[str]:
    return [each.text for each in debates(SHIFTS[0], 900, 0)]


def test_another_telling_is_detected_and_the_same_world_is_not(plain: list[str]) -> None:
    model, known = WordModel(plain[500:]), plain[:500]
    shifts = {shift.name: shift for shift in SHIFTS}
    found = {}
    for name in (CONTROL, "other telling"):
        texts = [each.text for each in debates(shifts[name], 40, 0, start=5000)]
        found[name] = detect(model, known, texts, OWN, 0)
    assert found[CONTROL].found.value == 0.0
    assert found["other telling"].found.value == 1.0
    assert found["other telling"].median_at is not None


def test_every_shift_changes_what_it_names() -> None:
    texts = {shift.name: [d.text for d in debates(shift, 12, 0)] for shift in SHIFTS}
    assert len({tuple(each) for each in texts.values()} - {tuple(texts[CONTROL])}) >= 5
    quotes = {name: sum(text.count("verified_quote>") for text in t) for name, t in texts.items()}
    assert quotes["other debaters"] < quotes[CONTROL]
    assert any("<near_quote" in t for t in texts["attacked"])
    assert not any("<near_quote" in t for t in texts[CONTROL])
    assert all(text.count("<turn") == 1 for text in texts["one side"])
