"""Sentences of a circle's page, made from figures that are hard to speak of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oversight.evals.drawing import LIGHT
from oversight.experiments.selfplay import words
from oversight.experiments.selfplay.pictures import draw_accuracy, draw_curve, write_all
from tests.evals.made_circles import CIRCLES, OUTCOMES, circle, outcome, outcome_of


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [(1, "on those, once."), (2, "twice over."), (3, "three times over."), (5, "5 times over.")],
)
def test_the_circles_page_counts_its_iterations(iterations: int, expected: str) -> None:
    found = " ".join(words.methods(circle(iterations=iterations)))
    assert expected in found


def test_the_circles_page_tells_of_the_methods_that_ran_alone() -> None:
    text = " ".join(words.methods(circle(methods=("grpo",), arenas=("debate",))))
    assert "GRPO is rewarded" in text
    assert not re.search("Expert|DPO|PPO is|reward model|consultan", text)
    assert "with seed 0, and measured on 12 questions" in text
    none = " ".join(words.methods(circle(methods=())))
    assert none.startswith("No policy was trained")
    assert not re.search("Expert|DPO|GRPO|cross-play", none)


def test_methods_that_are_equally_good_are_named_together() -> None:
    found = words.headlines(outcome(circle(methods=("dpo", "grpo")), score=1.0))
    assert any("After training by DPO and GRPO it is right in 100 %" in each for each in found)
    assert any(each.endswith("of debates, both alike.") for each in found)


@pytest.mark.parametrize("made", ["tied", "unreadable"])
def test_a_circle_without_a_decision_claims_no_accuracy(made: str) -> None:
    results = outcome(circle(), **OUTCOMES[made])
    found = " ".join(words.headlines(results))
    why = "nothing decided" if made == "tied" else "nothing could be read"
    assert f"right in: naive: no argument none ({why})" in found
    assert "After training nothing was decided in debates." in found
    [first, *_] = words.tables(results)
    assert {row[1] for row in first.rows} == {"–"}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("one of everything", "More persuasive speakers: a judge more right in debate, not in"),
        ("no control", "More persuasive speakers: a judge more right in debate?"),
        ("control alone", "More persuasive speakers: a judge more right in consultancy?"),
    ],
)
def test_the_circles_curve_asks_of_what_was_played(case: str, expected: str) -> None:
    figure = draw_curve(outcome_of(case, "right", 12), LIGHT)
    assert figure.texts[0].get_text().startswith(expected)


def test_a_circle_without_training_does_not_ask_what_training_does() -> None:
    figure = draw_accuracy(outcome_of("untrained", "right", 12), LIGHT)
    assert figure.texts[0].get_text() == "Judge accuracy"


@pytest.mark.parametrize("made", list(OUTCOMES))
@pytest.mark.parametrize("num", [1, 12])
@pytest.mark.parametrize("case", ["one of everything", "untrained", "no control", "control alone"])
def test_the_circles_page_is_written_from_figures_hard_to_speak_of(
    case: str, num: int, made: str, tmp_path: Path
) -> None:
    settings = CIRCLES[case].model_copy(update={"out": tmp_path})
    write_all(settings, outcome_of(case, made, num))
    text = re.sub(r"<(svg|style).*?</\1>", "", (tmp_path / "report.html").read_text(), flags=re.S)
    said = re.sub(r"<[^>]+>", "\n", text)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", said)
    if made in ("tied", "unreadable"):
        assert "right in 0 %" not in said
        assert "right in 50 %" not in said
        assert "beats" not in said


def test_one_decision_is_no_collapse() -> None:
    assert not any("collapsed" in each for each in outcome(circle(), 1, score=1.0).warnings)
    assert any("collapsed" in each for each in outcome(circle(), 12, score=1.0).warnings)


def test_best_of_four_is_what_the_protocols_sample() -> None:
    from oversight.experiments.selfplay.games import BEST_OF_N
    from oversight.protocols import load

    for name in BEST_OF_N.values():
        slots = [slot for step in load(name).schedule() for slot in step.slots]
        assert {slot.candidates for slot in slots if slot.act.is_spoken} == {4}
