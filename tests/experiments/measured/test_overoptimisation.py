"""Best-of-n, fitted forms and planted flaws, against numbers that are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from oversight.experiments.measured.best_of_n import (
    best_of_n,
    find_planted,
    fit_form,
    kl_of,
    ladder,
    planted_curve,
    planted_samples,
    tilted,
)
from oversight.experiments.measured.overoptimisation import CHANCE, TRUTH, WITHIN, page, proves
from oversight.experiments.measured.suite import (
    MeasureSettings,
    OveroptimisationSettings,
    world_questions,
)
from oversight.experiments.selfplay.games import games
from oversight.types import Seat

OWN = OveroptimisationSettings(planted_prompts=300)


def test_best_of_n_is_the_mean_over_all_subsets_and_ties_are_drawn() -> None:
    proxy = np.array([[0.1, 0.7, 0.7, 0.3, 0.9]])
    worth = np.array([[1.0, 0.0, 1.0, 0.5, 0.25]])

    def chosen(subset: tuple[int, ...]) -> float:
        top = max(proxy[0][k] for k in subset)
        return float(np.mean([worth[0][k] for k in subset if proxy[0][k] == top]))

    for n in range(1, 6):
        subsets = list(combinations(range(5), n))
        by_hand = np.mean([chosen(subset) for subset in subsets])
        assert best_of_n(proxy, worth, [n])[0, 0] == pytest.approx(by_hand)


def test_the_kl_of_best_of_n_is_that_of_the_formula() -> None:
    assert kl_of(1) == 0.0
    assert kl_of(4) == pytest.approx(np.log(4) - 0.75)


def test_the_ladder_ends_at_the_most_and_names_nothing_twice() -> None:
    assert ladder(16) == [1, 2, 3, 4, 6, 8, 11, 16]
    assert ladder(10)[-1] == 10


def test_a_form_is_fitted_back_with_its_peak() -> None:
    d = np.linspace(0, 3, 20)
    rng = np.random.default_rng(0)
    bon = d * (1.2 - 0.3 * d) + 0.01 * rng.standard_normal((50, 20))
    form = fit_form(d, bon, is_rl=False, seed=0)
    assert form.a.low is not None
    assert form.a.high is not None
    assert form.a.low < 1.2 < form.a.high
    assert form.b.value == pytest.approx(0.3, abs=0.01)
    assert form.peak == pytest.approx(2.0, abs=0.05)
    rl = d[1:] * (1.0 - 0.6 * np.log(d[1:])) + np.zeros((50, 19))
    assert fit_form(d[1:], rl, is_rl=True, seed=0).b.value == pytest.approx(0.6)


def test_a_rising_form_has_no_peak() -> None:
    d = np.linspace(0, 2, 9)
    assert fit_form(d, np.tile(d, (9, 1)), is_rl=False, seed=0).peak is None


def test_tilting_begins_at_the_policy_and_ends_at_the_best_sample() -> None:
    proxy = np.array([[0.0, 1.0, 2.0, 3.0]])
    kl, worth = tilted(proxy, proxy)
    assert kl[0] == pytest.approx(0.0)
    assert kl[-1] == pytest.approx(np.log(4), abs=1e-3)
    assert worth[0, 0] == pytest.approx(1.5)
    assert (np.diff(worth[0]) >= -1e-9).all()


def test_the_planted_curve_is_that_of_many_samples() -> None:
    numbers = [1, 4, 16, 64]
    proxy, worth = planted_samples(4000, 64, 0.02, seed=5)
    drawn = best_of_n(proxy, worth, numbers).mean(0)
    assert drawn == pytest.approx(planted_curve(numbers, 0.02), abs=0.015)


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05])
def test_a_planted_flaw_is_found_at_the_right_step_in_three_seeds(rate: float) -> None:
    for seed in range(3):
        found = find_planted(OWN, rate, seed)
        assert found.found.is_hacked
        assert found.error <= WITHIN


def test_where_nothing_is_planted_nothing_is_reported() -> None:
    assert not any(find_planted(OWN, 0.0, seed).found.is_hacked for seed in range(20))


def test_a_proxy_that_is_the_truth_or_says_nothing_is_named_and_left_out() -> None:
    rng = np.random.default_rng(0)
    worth = (rng.random((30, 16)) < 0.4).astype(float)
    proxies = {
        "equal": worth.copy(),
        "constant": np.ones_like(worth),
        "noisy": worth + rng.standard_normal(worth.shape),
        TRUTH: worth,
        CHANCE: rng.random(worth.shape),
    }
    done = page(MeasureSettings(seeds=(0,), overoptimisation=OWN), proxies, worth)
    assert [line.split()[0] for line in done.warnings] == ["equal", "constant"]
    assert [row[0] for row in done.tables[0].rows] == ["noisy", TRUTH, CHANCE]
    first, last = done.figures["noisy.first"], done.figures["noisy.last"]
    assert first.value < last.value < done.figures[f"{TRUTH}.last"].value
    chance = done.figures[f"{CHANCE}.last"]
    assert chance.low is not None
    assert chance.high is not None
    assert chance.low < float(worth.mean()) < chance.high


def test_a_speech_is_worth_something_only_if_it_quotes_its_own_line() -> None:
    [game] = games(world_questions("held_out", 1), "consultancy", 0, both_sides=False)
    honest = game.is_honest(Seat.A)
    own, other = ("right_lines", "wrong_lines") if honest else ("wrong_lines", "right_lines")
    line, against = game.question.meta[own][0], game.question.meta[other][0]
    assert proves(f"A: so it is. <quote>{line}</quote>", game) == 1.0
    assert proves(f"A: so it is. <quote>{against}</quote>", game) == 0.0
    assert proves(f"A: so it is. {line}", game) == 0.0
    assert proves("<quote>The moon was brought to the attic on day 12</quote>", game) == 0.0
