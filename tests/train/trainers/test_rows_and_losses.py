"""Every loss over every kind of row: two steps, or a refusal that names the row; and weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError, DataError, TrainingStopped
from oversight.modeling.scoring.policy import PolicyModel
from oversight.preferences.layouts import pair_row
from oversight.train import dpo, grpo, losses, ppo, reward, sft
from oversight.train.data.formats import FORMATS
from oversight.train.data.rows import of_preference
from oversight.train.settings import DataSettings
from oversight.train.types import Comparison
from oversight.types import Message, Preference, Prompt, Provenance, Response

Row = dict[str, Any]


def ranked(cases: ModuleType, ranks: tuple[int, ...], count: int = 6) -> list[Row]:
    import numpy as np

    rng = np.random.default_rng(5)
    return [
        {
            "id": f"ranked-{i}",
            "prompt": f"{ranks} {i} {cases.said(rng, 2)}:",
            "completions": [f" {cases.said(rng, 2)} {k}" for k in range(len(ranks))],
            "ranks": list(ranks),
        }
        for i in range(count)
    ]


def with_each(rows: list[Row], **columns: list[Any]) -> list[Row]:
    return [
        row | {name: values[i % len(values)] for name, values in columns.items()}
        for i, row in enumerate(rows)
    ]


KINDS: dict[str, Callable[[ModuleType], list[Row]]] = {
    "pair": lambda cases: cases.pairs(),
    "tie": lambda cases: [*ranked(cases, (0, 1), 8), *ranked(cases, (0, 0))],
    "soft": lambda cases: with_each(cases.pairs(), soft_label=[0.9, 0.6, 0.3, 1.0]),
    "kwise": lambda cases: ranked(cases, (0, 1, 2)),
    "kwise-uneven": lambda cases: [*ranked(cases, (0, 1, 1, 2)), *ranked(cases, (0, 1), 4)],
    "weighted": lambda cases: with_each(cases.pairs(), weight=[0.05, 3.0, 0.0]),
    "light": lambda cases: with_each(cases.pairs(), weight=[0.25]),
}
CHANGES: dict[str, dict[str, Any]] = {
    "adjacent": {"pairs_of": "adjacent"},
    "best_worst": {"pairs_of": "best_worst"},
    "sft_weight": {"sft_weight": 0.3},
    "wpo": {"weighted": True},
}
ROWS = {**{kind: (kind, {}) for kind in KINDS}, **{k: ("kwise", v) for k, v in CHANGES.items()}}
SORTING = ("aot", "aot_unpaired")
NOT_SORTED = {"tie": "tied responses", "soft": "the soft label", "kwise-uneven": "weight|tied"}
NOT_SORTED |= {"weighted": "the weight"}
QUICK = ("sigmoid", "davidson", "exo_pair", "aot")


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(
    "loss",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in losses.names("preference")
    ],
)
def test_every_preference_loss_trains_on_every_kind_of_row_or_names_the_row(
    cases: ModuleType, tmp_path: Path, loss: str, kind: str
) -> None:
    made, changes = ROWS[kind]
    config = dpo.Config(**cases.common(tmp_path / "run", loss=loss, steps=2, **changes))
    if loss in SORTING and kind == "wpo":
        with pytest.raises(ConfigError, match="weighted = true"):
            dpo.train(config, rows=KINDS[made](cases))
    elif loss in SORTING and kind in NOT_SORTED:
        with pytest.raises(DataError, match=rf"row '.*' has ({NOT_SORTED[kind]})"):
            dpo.train(config, rows=KINDS[made](cases))
        assert not (tmp_path / "run").exists()
    else:
        dpo.train(config, rows=KINDS[made](cases))
        assert [line["step"] for line in cases.timeless(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("kind", [*KINDS, "labelled"])
@pytest.mark.parametrize("loss", losses.names("unpaired"))
def test_every_unpaired_loss_trains_on_every_kind_of_row(
    cases: ModuleType, tmp_path: Path, loss: str, kind: str
) -> None:
    rows = cases.labelled() if kind == "labelled" else KINDS[kind](cases)
    options = {"undesirable_weight": 0.7}
    config = dpo.Config(**cases.common(tmp_path / "run", loss=loss, steps=2, options=options))
    dpo.train(config, rows=rows)
    assert [line["step"] for line in cases.timeless(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["bradley_terry", "rao_kupper", "davidson", "plackett_luce"])
def test_every_reward_loss_trains_on_every_kind_of_row_or_names_the_row(
    cases: ModuleType, tmp_path: Path, loss: str, kind: str
) -> None:
    config = reward.Config(**cases.common(tmp_path / "run", loss=loss, steps=2))
    if (loss, kind) == ("plackett_luce", "soft"):
        with pytest.raises(DataError, match=r"row 'row-0' has the soft label 0\.9"):
            reward.train(config, rows=KINDS[kind](cases))
        assert not (tmp_path / "run").exists()
        return
    reward.train(config, rows=KINDS[kind](cases))
    assert [line["step"] for line in cases.timeless(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("loss", losses.names("policy"))
def test_every_policy_loss_takes_two_steps(cases: ModuleType, tmp_path: Path, loss: str) -> None:
    cases.CASES["grpo"](tmp_path / "run", loss=loss, steps=2)
    assert [line["step"] for line in cases.timeless(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        ("sigmoid", "kwise", "0.693147"),
        ("sigmoid", "weighted", "0.693147"),
        # 2 ln 2 of wins and ln 2 of ties, or of labels p the mixture: by hand in test_preference.
        ("davidson", "tie", ""),
        ("exo_pair", "soft", ""),
    ],
)
def test_a_wrong_reference_stops_whatever_rows_say(
    cases: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    kind: str,
    expected: str,
) -> None:
    opened = dpo.open_reference

    def changing(name: str, settings: Any, policy: torch.nn.Module, *given: Any, **how: Any) -> Any:
        reference = opened(name, settings, policy, *given, **how)
        with torch.no_grad():
            for weight in policy.parameters():
                weight.mul_(1.5)
        return reference

    monkeypatch.setattr(dpo, "open_reference", changing)
    config = dpo.Config(**cases.common(tmp_path / "run", loss=loss, options={"beta": 0.5}))
    with pytest.raises(TrainingStopped, match=rf"must be {expected}.*other weights") as raised:
        dpo.train(config, rows=KINDS[kind](cases))
    assert (raised.value.guard, raised.value.step) == ("start_loss", 1)


def test_dropout_at_the_start_stops_a_run_of_weighted_rows(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(self: PolicyModel, *given: Any, **named: Any) -> Any:
        scores = forward(self, *given, **named)
        if not self.training:
            return scores
        noise_BR = 4.0 * torch.rand_like(scores.logps_BR) * scores.mask_BR
        object.__setattr__(scores, "logps_BR", scores.logps_BR - noise_BR)
        return scores

    forward = PolicyModel.forward
    monkeypatch.setattr(PolicyModel, "forward", dropping)
    config = dpo.Config(**cases.common(tmp_path / "run", options={"beta": 0.5}))
    with pytest.raises(TrainingStopped, match="dropout") as raised:
        dpo.train(config, rows=KINDS["weighted"](cases))
    assert raised.value.guard == "start_loss"


def test_a_rating_export_weighted_by_its_margin_trains(cases: ModuleType, tmp_path: Path) -> None:
    rows = with_each(cases.pairs(), weight=[1 / 3, 2 / 3, 1.0], soft_label=[2 / 3, 0.75, 1.0])
    config = dpo.Config(**cases.common(tmp_path / "run", steps=3))
    dpo.train(config, rows=rows)
    lines = cases.timeless(tmp_path / "run")
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert len(lines) == 3


WEIGHTED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "sft": (sft, "demonstrations", {}),
    "sft-rows": (sft, "demonstrations", {"per_sequence": True}),
    "reward": (reward, "pairs", {}),
    "dpo": (dpo, "pairs", {}),
    "dpo-sft": (dpo, "pairs", {"sft_weight": 0.3}),
    "kto": (dpo, "labelled", {"loss": "kto"}),
}


def losses_of(
    cases: ModuleType, out: Path, name: str, weights: list[float], **changes: Any
) -> list[tuple[float, float]]:
    """Loss and gradient norm of the first steps, whose rows weigh what is given."""
    trainer, rows, settings = WEIGHTED[name]
    plain = {"steps": 3, "batch_size": 8, "data": DataSettings()}
    config = trainer.Config(**cases.common(out, **(plain | settings | changes)))
    trainer.train(config, rows=with_each(getattr(cases, rows)(), weight=weights))
    return [(line["loss"], line["grad_norm"]) for line in cases.timeless(out)]


@pytest.mark.parametrize("name", WEIGHTED)
def test_rows_of_equal_weight_count_as_rows_without_one(
    cases: ModuleType, tmp_path: Path, name: str
) -> None:
    plain = losses_of(cases, tmp_path / "plain", name, [1.0])
    halves = losses_of(cases, tmp_path / "halves", name, [0.5])
    assert halves == plain


@pytest.mark.parametrize("name", WEIGHTED)
def test_micro_batches_do_not_change_a_weighted_mean(
    cases: ModuleType, tmp_path: Path, name: str
) -> None:
    weights = [0.2, 3.0, 1.0]
    whole = losses_of(cases, tmp_path / "whole", name, weights)
    parts = losses_of(cases, tmp_path / "parts", name, weights, micro_batch_tokens=16)
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_row_of_weight_0_is_left_out_and_counted(
    cases: ModuleType, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    losses_of(cases, tmp_path / "some", name, [1.0, 1.0, 1.0, 0.0], batch_size=4)
    assert "left out: its weight is 0, so that nothing is learnt from it (row-3" in (
        capsys.readouterr().err.replace("\n", " ")
    )


@pytest.mark.parametrize("name", WEIGHTED)
def test_rows_that_all_weigh_0_are_refused(cases: ModuleType, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no usable .*\n  14 left out: its weight is 0"):
        losses_of(cases, tmp_path / "none", name, [0.0])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (-1.0, "the weight is negative"),
        (float("nan"), "a number is not finite"),
        (1e300, "the weight is too large"),
    ],
)
def test_a_weight_that_is_none_is_refused(
    cases: ModuleType, tmp_path: Path, bad: float, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        losses_of(cases, tmp_path / "run", "dpo", [bad], data=DataSettings(on_bad="error"))


def test_a_rows_weight_is_its_share_of_the_mean(cases: ModuleType, tmp_path: Path) -> None:
    """By hand: a batch of two, whose losses are known from runs on each alone."""
    rows = cases.pairs(2)
    config = sft.Config(**cases.common(tmp_path / "a", steps=1, batch_size=1))
    given = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in rows]
    # A tokenizer made of one row alone is another: begin from a finished model of both.
    model = sft.train(config, rows=given)
    told = {"model": cases.TINY.model_copy(update={"path": str(model), "scratch": None})}

    def loss(name: str, weights: list[float], kept: list[Row], size: int) -> float:
        settings = cases.common(tmp_path / name, steps=1, batch_size=size, per_sequence=True)
        sft.train(sft.Config(**(settings | told)), rows=with_each(kept, weight=weights))
        return float(cases.timeless(tmp_path / name)[0]["loss"])

    first, second = (loss(f"one-{i}", [1.0], given[i : i + 1], 1) for i in (0, 1))
    both = loss("both", [3.0, 1.0], given, 2)
    assert both == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)


def test_a_collection_without_answers_needs_no_weight(cases: ModuleType, tmp_path: Path) -> None:
    for trainer in (grpo, ppo):
        out = tmp_path / trainer.__name__
        settings = cases.common(out, steps=1, **cases.rollouts(mini_batches=1, reuse=1))
        rows = with_each(cases.prompts(), weight=[0.0])
        trainer.train(trainer.Config(**settings), rows=rows, rewards=cases.TokenRewards())
        assert len(cases.timeless(out)) == 1


def test_rows_of_two_files_with_the_same_ids_have_references_of_their_own(
    cases: ModuleType, tmp_path: Path
) -> None:
    rows = [*cases.pairs(8, seed=1), *cases.pairs(8, seed=2)]
    assert len({row["id"] for row in rows}) == 8
    lines = {}
    for kept in (True, False):
        out = tmp_path / str(kept)
        dpo.train(dpo.Config(**cases.common(out, precompute=kept, steps=4)), rows=rows)
        lines[kept] = [line["loss"] for line in cases.timeless(out)]
    assert lines[True] == pytest.approx(lines[False], rel=1e-5)


def kto(cases: ModuleType, out: Path, rows: list[Row], **changes: Any) -> Path:
    return dpo.train(dpo.Config(**cases.common(out, loss="kto", **changes)), rows=rows)


def test_kto_refuses_steps_of_one_response(cases: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size = 1: KTO estimates .* take 2 or more"):
        kto(cases, tmp_path / "run", cases.labelled(), batch_size=1)
    assert not (tmp_path / "run").exists()
    settings = cases.common(tmp_path / "other", loss="apo_zero_unpaired", batch_size=1, steps=2)
    dpo.train(dpo.Config(**settings), rows=cases.labelled())


def test_kto_refuses_a_short_last_step_of_one_response(cases: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="step 4 of 1 responses, all to the prompt of row 'row-"):
        kto(cases, tmp_path / "run", cases.labelled(13))
    assert not (tmp_path / "run").exists()
    kto(cases, tmp_path / "before", cases.labelled(13), steps=3)


def test_kto_refuses_steps_of_one_prompt(cases: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"step 1 of 2 responses, all to .* row 'row-0#0'"):
        kto(cases, tmp_path / "run", cases.pairs(), batch_size=2, shuffle=False)


def test_kto_refuses_a_held_out_part_of_one_prompt(cases: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 1 held-out responses are to the prompt"):
        kto(cases, tmp_path / "run", cases.labelled(), data=DataSettings(eval_rows=1), steps=2)


def test_mismatched_responses_are_of_other_prompts() -> None:
    import numpy as np

    from oversight.modeling import TokenRow
    from oversight.train.unpaired import mismatched

    rows = [
        TokenRow(np.array([prompt]), np.array([said]))
        for prompt, said in ((1, 10), (1, 11), (2, 20), (2, 21))
    ]
    found = [(int(r.prompt_ids[0]), int(r.response_ids[0])) for r in mismatched(rows, 10)]
    assert found == [(1, 20), (1, 20), (2, 10), (2, 10)]


@pytest.mark.parametrize(
    ("good", "options", "said"),
    [
        (7, {}, None),
        (8, {}, None),
        (12, {}, "options.undesirable_weight between 4.5 and 6"),
        (12, {"undesirable_weight": 5.0}, None),
        (4, {}, "options.desirable_weight between 2.5 and 3.33"),
        (14, {}, "all are good"),
        (0, {}, "all are bad"),
    ],
)
def test_labels_out_of_balance_are_told_with_the_weights_that_balance_them(
    cases: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    good: int,
    options: dict[str, float],
    said: str | None,
) -> None:
    rows = [row | {"label": i < good} for i, row in enumerate(cases.labelled())]
    kto(cases, tmp_path / "run", rows, options=options, steps=1)
    told = capsys.readouterr().err.replace("\n", "")
    assert ("labels: " in told) == (said is not None)
    assert said is None or said in told


def test_soft_labels_margins_and_weights_of_records_reach_the_reward_loss() -> None:
    """Three rows worked by hand; a file of the same rows gives the same examples."""
    config = reward.Config(out=Path("none"), model={"path": "none"}, data={})
    made = [
        Preference(
            kind="pairs",
            prompt=Prompt(messages=(Message(role="user", parts=(f"{number}",)),)),
            responses=(Response(text=" red"), Response(text=" blue")),
            ranks=(0, 1),
            provenance=Provenance(question_id=f"q{number}", debate_id="d", protocol="p"),
            **told,
        )
        for number, told in enumerate(({"soft_label": 0.75}, {"margin": 2.0}, {"weight": 3.0}))
    ]
    rows = [of_preference(row) for row in made]
    pairs = [
        Comparison(
            row.id,
            np.arange(2),
            (np.arange(1), np.arange(1, 2)),
            (0, 1),
            soft_label=row.soft_label,
            margin=row.margin,
            weight=row.weight,
        )
        for row in rows
    ]
    rewards_BK = torch.tensor([[1.0, 0.0]] * 3, requires_grad=True)
    loss, _ = reward._loss(config, pairs, rewards_BK, 5.0)
    sure, far = math.log1p(math.exp(-1.0)), math.log1p(math.exp(1.0))
    wanted = (
        (0.75 * sure + 0.25 * far) + far + 3.0 * sure
    )  # a lead of 1, asked to be 2, falls short
    assert loss.item() == pytest.approx(wanted / 5.0, rel=1e-6)
    filed = [FORMATS["pair"].read(pair_row(row), row.id) for row in made]
    for read, row in zip(filed, rows, strict=True):
        assert (read.soft_label, read.margin, read.weight) == (
            row.soft_label,
            row.margin,
            row.weight,
        )
