from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oversight.errors import ConfigError, DataError
from oversight.train.runs.curves import Curve, choose, draw, panels, plot, read_curves


def make_run(path: Path, num: int = 40, **metrics: float) -> Path:
    path.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for step in range(1, num + 1):
        line = {"step": step, "split": "train", "time": 0.0, "wall_s": 0.0}
        lines.append(line | {name: value + step for name, value in metrics.items()})
        if step % 10 == 0:
            lines.append(line | {"split": "eval", "loss": 1.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_known_metrics_come_in_their_order_and_others_only_when_named(tmp_path: Path) -> None:
    curves = read_curves([make_run(tmp_path / "a", margin=1.0, kl=2.0, loss=3.0)])
    assert choose(curves) == ["loss", "kl"]
    assert choose(curves, ["margin"]) == ["margin"]
    with pytest.raises(ConfigError, match=r"no run has it\. Did you mean 'margin'"):
        choose(curves, ["margn"])
    assert choose(read_curves([make_run(tmp_path / "b", num=9, margin=1.0)])) == ["margin"]


def test_runs_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / place / "run", loss=1.0) for place in ("a", "b")]
    assert {curve.run for curve in read_curves(runs)} == {"a/run", "b/run"}


def test_missing_and_null_values_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", num=3, loss=1.0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "train", "wall_s": 0, "loss": null, "kl": 1.0}\n')
    found = {curve.metric: curve.steps.tolist() for curve in read_curves([run])}
    assert found == {"loss": [1.0, 2.0, 3.0], "kl": [4.0]}


def test_a_smoothed_curve_is_not_pulled_to_zero_and_keeps_a_constant() -> None:
    flat = Curve("r", "loss", "train", np.arange(50.0), np.full(50, 7.0))
    smooth = flat.smoothed()
    assert smooth is not None
    assert smooth == pytest.approx(np.full(50, 7.0))
    assert Curve("r", "loss", "train", np.arange(5.0), np.ones(5)).smoothed() is None


def test_a_run_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no metrics"):
        plot([tmp_path], tmp_path / "x.png")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="has no metrics yet"):
        plot([tmp_path], tmp_path / "x.png")


def test_each_metric_has_a_panel_and_each_run_an_entry(tmp_path: Path) -> None:
    metrics = {"loss": 1.0, "kl": 0.0, "reward": 2.0, "grad_norm": 0.0}
    runs = [make_run(tmp_path / name, **metrics) for name in ("a_$x$", "b")]
    curves = read_curves(runs)
    figure = draw(curves, choose(curves))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Loss", "Reward", "KL from the reference", "Gradient norm"]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a_$x$", "b"]
    assert figure.axes[3].get_yscale() == "log"
    single = draw([curve for curve in curves if curve.run == "b"], ["loss"])
    assert [text.get_text() for text in single.legends[0].get_texts()] == ["train", "held out"]


@pytest.mark.parametrize(
    ("num", "metric", "note"),
    [
        (1, "loss", "1 step"),
        (29, "loss", "29 steps"),
        (40, "lr", "40 steps"),
        (40, "loss", "40 steps; smoothed over raw values"),
    ],
)
def test_the_note_tells_of_smoothing_where_a_curve_is_smoothed(
    num: int, metric: str, note: str, tmp_path: Path
) -> None:
    curves = read_curves([make_run(tmp_path / "run", num=num, **{metric: 1.0})])
    assert draw(curves, [metric]).texts[1].get_text() == note


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    out = tmp_path / "new" / "curves.png"
    plot([make_run(tmp_path / "東京", num=1, loss=1.0)], out)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_what_measures_different_things_has_a_picture_of_its_own(tmp_path: Path) -> None:
    runs = []
    for name, trainer, config in (
        ("a", "dpo", {"loss": "sigmoid", "options": {"beta": 0.1}}),
        ("b", "dpo", {"loss": "sigmoid", "options": {"beta": 0.1}}),
        ("c", "dpo", {"loss": "sigmoid", "options": {"beta": 0.5}}),
        ("d", "grpo", {"loss": "grpo", "reward": {"source": "length", "target_tokens": 9}}),
        ("e", "grpo", {"loss": "grpo", "reward": {"source": "length", "target_tokens": 8}}),
        ("f", "sft", {}),
    ):
        runs.append(make_run(tmp_path / name, loss=1.0, kl=0.0, reward=0.0))
        about = {"trainer": trainer, "config": config}
        (tmp_path / name / "config.json").write_text(json.dumps(about))
    curves = read_curves(runs)
    found = [
        (metric, title, sorted({curve.run for curve in mine}))
        for metric, title, mine in panels(curves, ["loss", "reward", "kl"])
    ]
    assert found == [
        ("loss", "Loss: dpo, sigmoid, beta 0.1", ["a", "b"]),
        ("loss", "Loss: dpo, sigmoid, beta 0.5", ["c"]),
        ("loss", "Loss: grpo, grpo", ["d", "e"]),
        ("loss", "Loss: sft", ["f"]),
        ("reward", "Reward: dpo, sigmoid, beta 0.1", ["a", "b"]),
        ("reward", "Reward: dpo, sigmoid, beta 0.5", ["c"]),
        ("reward", "Reward: length, target_tokens 9", ["d"]),
        ("reward", "Reward: length, target_tokens 8", ["e"]),
        ("reward", "Reward: sft", ["f"]),
        ("kl", "KL from the reference", ["a", "b", "c", "d", "e", "f"]),
    ]
    assert [title for _, title, _ in panels(read_curves(runs[:2]), ["loss"])] == ["Loss"]
    assert len(draw(curves, ["loss", "reward", "kl"]).axes) == 10


def test_the_parts_of_a_sum_of_rewards_have_curves(tmp_path: Path) -> None:
    parts = {"rewards/quotes": 1.0, "rewards/short": 2.0}
    run = make_run(tmp_path / "a", loss=1.0, reward=0.0, reward_std=0.0, kl=0.0, **parts)
    assert choose(read_curves([run])) == ["loss", "reward", *parts, "kl"]
