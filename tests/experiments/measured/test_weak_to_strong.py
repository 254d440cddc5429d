"""The gap recovered where it is planted, what is named and left out, and what a learner reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oversight.errors import ConfigError
from oversight.experiments.measured.learners import save_learner, second_of
from oversight.experiments.measured.suite import WeakToStrongSettings, world_questions
from oversight.experiments.measured.weak_to_strong import (
    ARMS,
    CEILING,
    SHOWN,
    SHUFFLED,
    START,
    Graded,
    page,
    read_as,
    recovered,
)
from oversight.text.quotes import find_quotes

SEEDS = (0, 1, 2)


def planted(rate: float, num: int = 400, seed: int = 0) -> Graded:
    """Answers to `num` questions that are right at that rate, a question's being alike."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.0, 0.05, num)
    hits = [
        (f"q{q}", s, float(rng.random() < np.clip(rate + ease[q], 0, 1)))
        for s in SEEDS
        for q in range(num)
    ]
    return Graded(tuple(hits))


def test_a_planted_gap_is_recovered_within_its_interval() -> None:
    inside = 0
    for draw in range(15):
        weak, arm, ceiling = (
            planted(rate, seed=10 * draw + k) for k, rate in enumerate((0.6, 0.75, 0.9))
        )
        found = recovered(arm, weak, ceiling, SEEDS)
        assert found.estimate is not None
        assert found.estimate.low is not None
        assert found.estimate.high is not None
        assert len(found.by_seed) == len(SEEDS)
        inside += found.estimate.low <= 0.5 <= found.estimate.high
    assert inside >= 12, "of 15, at a level of 95 %"


def test_the_ends_are_nothing_and_all_of_the_gap() -> None:
    weak, ceiling = planted(0.6), planted(0.9, seed=1)
    for arm, value in ((weak, 0.0), (ceiling, 1.0)):
        found = recovered(arm, weak, ceiling, SEEDS)
        assert found.estimate is not None
        assert found.estimate.value == pytest.approx(value)
        assert found.by_seed == pytest.approx([value] * len(SEEDS))


@pytest.mark.parametrize(
    ("weak", "reason"),
    [(0.9, "as good as the ceiling"), (0.5, "at chance"), (0.3, "at chance")],
)
def test_a_supervisor_that_leaves_nothing_to_say_is_named(weak: float, reason: str) -> None:
    found = recovered(planted(0.7), planted(weak, seed=2), planted(0.9, seed=3), SEEDS)
    assert found.estimate is None
    assert reason in found.reason


def made(own: WeakToStrongSettings, weak: float, ceilings: dict[int, float]) -> dict:
    """Answers of all arms: learners half way between supervisor and ceiling, where they learn."""
    graded = {(0, shown): planted(weak, seed=k) for k, shown in enumerate(SHOWN)}
    for k, (units, ceiling) in enumerate(ceilings.items()):
        for j, arm in enumerate((*ARMS, CEILING, START)):
            rate = {CEILING: ceiling, START: 0.5, SHUFFLED: 0.5}.get(arm, (weak + ceiling) / 2)
            graded[units, arm] = planted(rate, seed=100 * (k + 1) + j)
    return graded


def test_a_rung_without_gap_is_named_and_in_no_headline() -> None:
    own = WeakToStrongSettings(learners=(8, 16, 32))
    sizes = {8: 8_000, 16: 16_000, 32: 32_000}
    graded = made(own, 0.65, {8: 0.65, 16: 0.9, 32: 0.9})
    done = page(own, SEEDS, sizes, graded)
    assert [line for line in done.warnings if line.startswith("8,000 weights")]
    assert not any("8,000" in line for line in done.headlines)
    assert done.headlines[1].startswith(
        "Plain: a gap above zero, in every seed too, is recovered on 2 of 2 rungs"
    )
    assert "8000.plain.gap" not in done.figures
    low = done.figures["16000.plain.gap"].low
    assert low is not None
    assert low > 0
    shuffled = done.figures[f"16000.{SHUFFLED}.gap"]
    assert shuffled.high is not None
    assert shuffled.high < 0


def test_a_supervisor_at_chance_and_a_ladder_of_two_rungs_are_named() -> None:
    own = WeakToStrongSettings(learners=(8, 16))
    done = page(own, (0, 1), {8: 8_000, 16: 16_000}, made(own, 0.5, {8: 0.9, 16: 0.9}))
    assert any("2 rungs" in line for line in done.warnings)
    assert any("2 seeds" in line for line in done.warnings)
    assert any("shown nothing is at chance" in line for line in done.warnings)
    assert not any(name.endswith(".gap") for name in done.figures)
    assert all("0 of 0 rungs" in line for line in done.headlines[1:])


def test_only_the_supervisor_is_shown_what_was_said() -> None:
    [question] = world_questions("train", 1)
    bare, debated, criticised = (read_as(question, shown, 1.0, 0) for shown in SHOWN)
    lines = [question.meta[side][-1] for side in ("right_lines", "wrong_lines")]
    assert sorted(bare.text.splitlines()) == sorted([*lines, question.text])
    assert len(find_quotes(debated.text, question.source)) == 2
    assert len(find_quotes(criticised.text, question.source)) == 1
    assert debated.answers == bare.answers
    assert bare.correct == question.correct


def test_a_learner_is_smaller_and_answers_with_a_probability(tmp_path: Path) -> None:
    whole = save_learner("seedling", tmp_path / "whole", 384)
    cut = save_learner("seedling", tmp_path / "cut", 16)
    assert whole - cut == 4 * 3 * 128 * (384 - 16)
    cases = [read_as(each, SHOWN[0], 1.0, 0) for each in world_questions("train", 6)]
    one, again = second_of(tmp_path / "cut", cases), second_of(tmp_path / "cut", cases[::-1])
    assert one.shape == (6,)
    assert ((one > 0) & (one < 1)).all()
    assert again[::-1] == pytest.approx(one, abs=1e-5)
    with pytest.raises(ConfigError, match="385 units"):
        save_learner("seedling", tmp_path / "more", 385)


@pytest.mark.parametrize("learners", [(16, 16), (32, 16), (0, 16), ()])
def test_a_ladder_that_does_not_rise_is_refused(learners: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="learners"):
        WeakToStrongSettings.parse({"learners": learners})
