"""A finished run is summed up in no more words than its metrics have."""

from __future__ import annotations

from typing import Any

import pytest

from oversight.train.runs.curves import outcome


def line(step: int, split: str = "train", **values: float | None) -> dict[str, Any]:
    return {"step": step, "split": split, **values}


RISEN = [
    line(1, loss=0.5, reward=0.1, kl=0.0, entropy=2.0, response_length=40.0),
    line(2, loss=0.1, reward=0.9, kl=7.0, entropy=3.0, response_length=30.0),
    line(3, loss=0.3, reward=0.4, kl=5.0, entropy=1.0, response_length=50.0),
]


def rows(lines: list[dict[str, Any]], trainer: str) -> dict[str, tuple[str, ...]]:
    return {name: rest for name, *rest in outcome(lines, trainer)}


@pytest.mark.parametrize("metric", ["kl", "entropy", "response_length"])
@pytest.mark.parametrize("trainer", ["sft", "dpo", "ppo", "grpo"])
def test_no_best_value_is_claimed_of_a_metric_that_has_no_better_side(
    metric: str, trainer: str
) -> None:
    assert rows(RISEN, trainer)[metric][2:] == ["–", "–"]


def test_first_and_last_are_told_of_every_metric() -> None:
    assert {name: row[:2] for name, row in rows(RISEN, "ppo").items()} == {
        "loss": ["0.5", "0.3"],
        "reward": ["0.1", "0.4"],
        "kl": ["0", "5"],
        "entropy": ["2", "1"],
        "response_length": ["40", "50"],
    }


@pytest.mark.parametrize(
    ("trainer", "metric", "best"),
    [
        ("sft", "loss", ["0.1", "2"]),
        ("dpo", "loss", ["0.1", "2"]),
        ("reward", "loss", ["0.1", "2"]),
        ("ppo", "reward", ["0.9", "2"]),
        ("grpo", "reward", ["0.9", "2"]),
        ("ppo", "loss", ["–", "–"]),
        ("grpo", "loss", ["–", "–"]),
        ("reward", "reward", ["–", "–"]),
    ],
)
def test_the_best_is_told_where_the_trainer_aims_at_it(
    trainer: str, metric: str, best: list[str]
) -> None:
    assert rows(RISEN, trainer)[metric][2:] == best


def test_nothing_logged_is_nothing_told() -> None:
    assert outcome([], "sft") == []
    assert outcome([line(1, loss=None)], "sft") == []


def test_one_step_is_its_own_first_last_and_best() -> None:
    assert rows([line(1, loss=0.5)], "sft") == {"loss": ["0.5", "0.5", "0.5", "1"]}


def test_a_tie_is_best_at_the_first_of_its_steps() -> None:
    assert rows([line(1, loss=0.5), line(2, loss=0.5)], "sft")["loss"][2:] == ["0.5", "1"]


def test_held_out_results_are_told_apart_from_those_of_training() -> None:
    found = rows([line(1, loss=0.5), line(1, "eval", accuracy=0.75)], "reward")
    assert found == {
        "held out accuracy": ["0.75", "0.75", "0.75", "1"],
        "loss": ["0.5", "0.5", "0.5", "1"],
    }
