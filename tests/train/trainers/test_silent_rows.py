"""Rows that a loss learns nothing from: refused where they are all, counted where they are some."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from oversight.errors import ConfigError, DataError
from oversight.train import dpo, grpo, losses, ppo, reward
from oversight.train.settings import DataSettings, OptimizerSettings

DECAYING = OptimizerSettings(lr=3e-3, warmup=0.0, schedule="constant", weight_decay=0.1)
AT_REFERENCE = ["apo_zero", "davidson", "exo_pair", "hinge", "ipo", "nca_pair", "sigmoid"]
"""Losses of DPO whose ties leave a policy at its reference where it is."""


def ranked(cases: ModuleType, ties: range, count: int = 8) -> list[dict[str, Any]]:
    """Rankings of two, those of some numbers tied."""
    return [
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "completions": [row["chosen"], row["rejected"]],
            "ranks": [0, 0 if i in ties else 1],
        }
        for i, row in enumerate(cases.pairs(count))
    ]


def halves(cases: ModuleType) -> list[dict[str, Any]]:
    return [row | {"soft_label": 0.5} for row in cases.pairs(8)]


def run(
    cases: ModuleType, trainer: Any, out: Path, rows: list[dict[str, Any]], **own: Any
) -> list[dict[str, Any]]:
    plain = {"optimizer": DECAYING, "keep": 20, "steps": 3}
    trainer.train(trainer.Config(**cases.common(out, **(plain | own))), rows=rows)
    lines: list[dict[str, Any]] = cases.timeless(out)
    return lines


def moved(out: Path, first: int, second: int) -> float:
    one, other = (
        load_file(next((out / "checkpoints" / f"step-{step:06}").glob("weights-*.safetensors")))
        for step in (first, second)
    )
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("trainer", "loss", "own"),
    [
        (reward, "plackett_luce", {}),
        (reward, "plackett_luce", {"options": {"centring": 0.1}}),
        *((dpo, loss, {}) for loss in AT_REFERENCE),
    ],
)
def test_rows_that_are_all_tied_are_refused_before_a_run(
    cases: ModuleType, tmp_path: Path, trainer: Any, loss: str, own: dict[str, Any]
) -> None:
    said = rf"loss = '{loss}' learns nothing from any of the 8 \w+ \(rows 'row-0', 'row-1' …\)"
    with pytest.raises(DataError, match=said):
        run(cases, trainer, tmp_path / "run", ranked(cases, range(8)), loss=loss, **own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", AT_REFERENCE)
def test_labels_that_are_all_even_are_refused_before_a_run(
    cases: ModuleType, tmp_path: Path, loss: str
) -> None:
    with pytest.raises(DataError, match="learns nothing from any of the 8 pairs"):
        run(cases, dpo, tmp_path / "run", halves(cases), loss=loss)


@pytest.mark.parametrize(
    ("trainer", "own"),
    [
        (reward, {"loss": "bradley_terry"}),
        (reward, {"loss": "plackett_luce", "options": {"ties": "breslow"}}),
        (dpo, {"loss": "exo_pair", "reference": "none"}),
        (dpo, {"loss": "exo_pair", "sft_weight": 0.1}),
        (dpo, {"loss": "simpo"}),
        (dpo, {"loss": "apo_down"}),
    ],
)
def test_ties_that_say_something_are_learnt_from(
    cases: ModuleType, tmp_path: Path, trainer: Any, own: dict[str, Any]
) -> None:
    lines = run(cases, trainer, tmp_path / "run", ranked(cases, range(8)), **own)
    assert [line["skipped"] for line in lines] == [0.0] * 3
    assert moved(tmp_path / "run", 1, 3) > 1e-4


@pytest.mark.parametrize("options", [{"desirable_weight": 0.0}, {"undesirable_weight": 0.0}])
def test_labelled_responses_that_all_weigh_nothing_are_refused(
    cases: ModuleType, tmp_path: Path, options: dict[str, float]
) -> None:
    label = "desirable_weight" in options
    rows = [row | {"label": label} for row in cases.labelled(8)]
    with pytest.raises(DataError, match=r"loss = 'kto' .* any of the 8 responses .* above 0"):
        run(cases, dpo, tmp_path / "run", rows, loss="kto", options=options)


def test_options_that_leave_nothing_of_a_loss_are_refused(
    cases: ModuleType, tmp_path: Path
) -> None:
    options = {"beta": 0, "sft_weight": 0}
    with pytest.raises(DataError, match=r"the loss's options leave nothing of them"):
        run(cases, dpo, tmp_path / "run", cases.pairs(8), loss="orpo", options=options)


@pytest.mark.parametrize(("trainer", "loss"), [(reward, "plackett_luce"), (dpo, "apo_zero")])
def test_some_rows_that_say_nothing_are_counted_once(
    cases: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trainer: Any,
    loss: str,
) -> None:
    run(cases, trainer, tmp_path / "run", ranked(cases, range(1)), loss=loss)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(f"loss = '{loss}' learns nothing from 1 of the 8 ") == 1
    assert "(row 'row-0')" in said


def test_reward_models_of_ties_alone_are_told_that_nothing_is_better(
    cases: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cases, reward, tmp_path / "run", ranked(cases, range(8)), steps=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "all 8 comparisons are ties or have even labels, so that nothing says what is" in said


@pytest.mark.parametrize(
    ("trainer", "loss"), [(reward, "plackett_luce"), (dpo, "sigmoid"), (dpo, "exo_pair")]
)
def test_momentum_and_decay_move_no_weight_in_a_step_of_silent_rows(
    cases: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trainer: Any,
    loss: str,
) -> None:
    own = {"loss": loss, "shuffle": False, "batch_size": 4}
    lines = run(cases, trainer, tmp_path / "run", ranked(cases, range(4)), steps=2, **own)
    assert [line["skipped"] for line in lines] == [1.0, 0.0]
    assert moved(tmp_path / "run", 1, 2) > 1e-4
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 2 steps were not taken: there was nothing to learn in them" in said

    later = ranked(cases, range(4, 8))
    lines = run(cases, trainer, tmp_path / "later", later, steps=2, **own)
    if loss == "plackett_luce":  # ties hold a policy that has moved to its reference
        assert [line["skipped"] for line in lines] == [0.0, 1.0]
        assert moved(tmp_path / "later", 1, 2) == 0.0


def test_skipped_steps_are_counted_over_a_resumed_run(
    cases: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ranked(cases, range(8), 12)
    own = {"loss": "plackett_luce", "shuffle": False, "batch_size": 4, "save_every": 1}
    given = {"optimizer": DECAYING} | own
    run(cases, reward, tmp_path / "whole", rows, **own)

    class Cut(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward.Session, "log", lambda *_: (_ for _ in ()).throw(Cut()))
        with pytest.raises(Cut):
            run(cases, reward, tmp_path / "cut", rows, **own)
    config = reward.Config(**cases.common(tmp_path / "cut", **(given | {"keep": 20, "steps": 3})))
    capsys.readouterr()
    reward.train(config, rows=rows, resume=True)
    assert "2 of 3 steps were not taken" in " ".join(capsys.readouterr().err.split())
    assert cases.same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("family", ["reward", "preference"])
def test_no_loss_trains_on_silent_rows_without_a_word(
    cases: ModuleType, tmp_path: Path, family: str
) -> None:
    trainer = {"reward": reward, "preference": dpo}[family]
    for loss in losses.names(family):
        out = tmp_path / loss
        try:
            lines = run(cases, trainer, out, ranked(cases, range(8)), loss=loss, steps=1)
        except DataError:
            continue
        assert lines[0]["skipped"] == 0.0, loss
        assert lines[0]["grad_norm"] > 1e-6, loss


def trained(trainer: Any, data: dict[str, Any]) -> Path:
    path: Path = trainer.train(trainer.Config.parse(data), rows=[])
    return path


@pytest.mark.parametrize(
    ("trainer", "own", "told"),
    [
        (reward, {"loss": "plackett_luce", "pairs_of": "adjacent"}, "pairs_of = 'adjacent'"),
        (
            reward,
            {"loss": "plackett_luce", "data": DataSettings(margin="scores")},
            "data.margin = 'scores'",
        ),
        (dpo, {"data": DataSettings(margin="scores")}, "data.margin = 'scores'"),
        (dpo, {"data": DataSettings(train_on="all")}, "data.train_on = 'all'"),
        (dpo, {"patience": 2}, "patience = 2"),
        (grpo, {"scale": "none", "advantage": "rloo"}, "scale = 'none'"),
        (grpo, {"baseline_decay": 0.5}, "baseline_decay = 0.5"),
        (grpo, {"kl_estimator": "k2"}, "kl_estimator = 'k2'"),
        (grpo, {"engine_settings": {"x": 1}}, "engine_settings"),
        (grpo, {"shaping": {"clip": 3.0}}, "shaping.clip = 3.0"),
        (grpo, {"importance": {"mode": "none", "high": 3.0}}, "importance.high = 3.0"),
        (grpo, {"reward": {"source": "length", "models": ["x"]}}, "reward.models"),
        (ppo, {"critic": {"path": "x"}}, "critic.path = 'x'"),
        (ppo, {"kl": {"horizon": 5.0}}, "kl.horizon = 5.0"),
        (ppo, {"kl": {"coefficient": 0.0, "target": 5.0}}, "kl.target = 5.0"),
        (ppo, {"optimizer": {"schedule": "constant", "min_ratio": 0.5}}, "optimizer.min_ratio"),
    ],
)
def test_settings_that_nothing_reads_are_refused_by_name(
    cases: ModuleType, tmp_path: Path, trainer: Any, own: dict[str, Any], told: str
) -> None:
    more = cases.rollouts() if trainer in (grpo, ppo) else {}
    data = cases.common(tmp_path / "run", **(more | own))
    with pytest.raises(ConfigError, match=r"is read by nothing") as raised:
        trained(trainer, data)
    assert told in str(raised.value)


@pytest.mark.parametrize("advantage", ["group", "rloo", "reinforce_plus_plus"])
def test_groups_of_one_response_are_refused_where_they_have_no_advantage(
    cases: ModuleType, tmp_path: Path, advantage: str
) -> None:
    data = cases.common(tmp_path / "run", **cases.rollouts(samples=1, advantage=advantage))
    with pytest.raises(ConfigError, match=r"samples = 1: .* advantage = 'role_baseline'"):
        grpo.Config.parse(data)


@pytest.mark.parametrize(("trainer", "loss"), [(reward, "plackett_luce"), (dpo, "sigmoid")])
def test_margins_that_a_loss_does_not_take_are_counted(
    cases: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trainer: Any,
    loss: str,
) -> None:
    rows = [row | {"margin": 0.5} for row in cases.pairs(8)]
    run(cases, trainer, tmp_path / "run", rows, loss=loss, steps=1)
    said = " ".join(capsys.readouterr().err.split())
    assert f"the margins of 8 rows are not used: loss = '{loss}' takes none" in said
