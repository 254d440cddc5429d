"""Bad input stops a trainer before it learns; full disks and cut files cost no good checkpoint."""

from __future__ import annotations

import math
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oversight.errors import CheckpointError, ConfigError, DataError, OversightError
from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.experience_settings import CriticSettings, ImportanceSettings
from oversight.train.runs.folder import RunFolder


class Cut(BaseException):
    """The process is gone."""


class OneBad:
    """Rewards of which one, in a later collection, is no number."""

    def __init__(self, bad: float, at: int) -> None:
        self.metrics: dict[str, float] = {}
        self._bad, self._calls, self._at = bad, 0, at

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        from oversight.train.rollouts.types import grouped

        self._calls += 1
        scores = [float(len(each.token_ids)) for group in sampled for each in group]
        if self._calls == self._at:
            self.blamed = examples[1].id
            scores[len(sampled[0])] = self._bad
        return grouped(scores, examples, sampled, "of the test")


@pytest.mark.parametrize(("trainer", "bad"), [(grpo, math.nan), (ppo, math.inf)])
def test_a_reward_that_is_no_number_stops_before_it_is_learnt_from(
    cases: ModuleType, tmp_path: Path, trainer: Any, bad: float
) -> None:
    settings = cases.common(tmp_path / "run", **cases.rollouts(mini_batches=1, reuse=1))
    rewards = OneBad(bad, at=3)
    with pytest.raises(DataError, match=r"reward 'of the test' is (nan|inf)") as raised:
        trainer.train(trainer.Config(**settings), rows=cases.prompts(), rewards=rewards)
    assert f"{rewards.blamed}#0" in str(raised.value)
    # Two collections were learnt from; what stands is the step before the bad one.
    assert max((tmp_path / "run" / "checkpoints").glob("step-*")).name == "step-000002"
    assert [line["step"] for line in cases.timeless(tmp_path / "run")] == [1, 2]
    assert not (tmp_path / "run" / "model").exists()


def test_a_first_reward_that_is_no_number_leaves_no_step(cases: ModuleType, tmp_path: Path) -> None:
    config = ppo.Config(**cases.common(tmp_path / "run", **cases.rollouts()))
    with pytest.raises(DataError, match="is nan"):
        ppo.train(config, rows=cases.prompts(), rewards=OneBad(math.nan, at=1))
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert cases.timeless(tmp_path / "run") == []


@pytest.fixture
def other_vocabulary(cases: ModuleType, tmp_path: Path) -> Path:
    """A finished model whose tokenizer was made from other texts."""
    rows = [
        {"prompt": f"{i} Fjord", "completion": f" jumps quickly over vexing bogs {i}"}
        for i in range(40)
    ]
    config = sft.Config(**cases.common(tmp_path / "other", steps=1))
    return sft.train(config, rows=rows)


@pytest.mark.parametrize(
    "name",
    [
        "dpo",
        "ppo",
        pytest.param("kto", marks=pytest.mark.slow),
        pytest.param("grpo", marks=pytest.mark.slow),
    ],
)
def test_a_reference_of_another_vocabulary_is_refused(
    cases: ModuleType, other_vocabulary: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=r"reference = .*its vocabulary"):
        cases.CASES[name](tmp_path / "run", reference=str(other_vocabulary))
    assert not (tmp_path / "run").exists()


def test_a_critic_of_another_vocabulary_is_refused(
    cases: ModuleType, other_vocabulary: Path, tmp_path: Path
) -> None:
    critic = CriticSettings(kind="apart", path=str(other_vocabulary))
    with pytest.raises(ConfigError, match=r"critic\.path"):
        cases.CASES["ppo"](tmp_path / "run", critic=critic)


@pytest.mark.parametrize(
    ("trainer", "rows"),
    [(sft, "demonstrations"), (reward, "pairs"), (dpo, "pairs"), (grpo, "prompts")],
)
def test_fewer_rows_than_a_batch_are_refused_with_what_was_left_out(
    cases: ModuleType, tmp_path: Path, trainer: Any, rows: str
) -> None:
    more = cases.rollouts(mini_batches=1) if trainer is grpo else {}
    given = getattr(cases, rows)(3)
    key = {"demonstrations": "completion", "pairs": "chosen", "prompts": "prompt"}[rows]
    given[1][key] = ""
    with pytest.raises(DataError, match=r"2 .* a batch takes 4") as raised:
        trainer.train(trainer.Config(**cases.common(tmp_path / "run", **more)), rows=given)
    assert "row-1" in str(raised.value)
    assert not (tmp_path / "run").exists()


def cut_at(cases: ModuleType, name: str, run: Path, step: int, **changes: Any) -> None:
    """A run that ends when `step` is to be saved."""
    with pytest.MonkeyPatch.context() as patch:
        save = RunFolder.save

        def ending(self: RunFolder, at: int, *given: Any) -> Any:
            if at == step:
                raise Cut
            return save(self, at, *given)

        patch.setattr(RunFolder, "save", ending)
        with pytest.raises(Cut):
            cases.CASES[name](run, **changes)


@pytest.mark.parametrize(
    "part", ["weights", "state", pytest.param("optimizer", marks=pytest.mark.slow)]
)
def test_a_truncated_checkpoint_is_put_aside_for_the_one_before(
    cases: ModuleType,
    whole_run: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
) -> None:
    run = tmp_path / "cut"
    cut_at(cases, "ppo", run, 7)
    newest = run / "checkpoints" / "step-000006"
    (broken,) = newest.glob(f"{part}*.safetensors")
    broken.write_bytes(broken.read_bytes()[:-40])
    capsys.readouterr()
    cases.CASES["ppo"](run, resume=True)
    said = "".join(capsys.readouterr())
    assert broken.name in said.replace("\n", "")
    assert "going on from step-000005, the newest good one" in said
    assert (run / "checkpoints" / "step-000006.damaged").is_dir()
    assert cases.same(whole_run("ppo"), run)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes past `size` bytes of one file fail, as they do on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_a_disk_that_is_full_costs_no_checkpoint(
    cases: ModuleType, whole_run: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    run = tmp_path / "cut"
    cut_at(cases, name, run, 4)
    before = {p.name: p.read_bytes() for p in (run / "checkpoints" / "step-000003").iterdir()}
    (weights,) = (run / "checkpoints" / "step-000003").glob("weights-*.safetensors")
    with (
        files_of_at_most(weights.stat().st_size // 2),
        pytest.raises(CheckpointError, match="step-000003 stays the last good one") as raised,
    ):
        cases.CASES[name](run, resume=True)
    assert "--resume" in str(raised.value)
    kept = {p.name: p.read_bytes() for p in (run / "checkpoints" / "step-000003").iterdir()}
    assert kept == before
    assert not list((run / "checkpoints").glob("*.part"))
    cases.CASES[name](run, resume=True)
    assert cases.same(whole_run(name), run)


def test_a_disk_that_is_full_at_the_end_leaves_the_last_checkpoint(
    cases: ModuleType, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    cut_at(cases, "sft", run, 10)
    # The last checkpoint's write fails first: the model is never begun.
    size = max(p.stat().st_size for p in run.rglob("*.safetensors"))
    with files_of_at_most(size - 1), pytest.raises(CheckpointError):
        cases.CASES["sft"](run, resume=True)
    assert not (run / "model").exists()
    cases.CASES["sft"](run, resume=True)
    assert (run / "model" / "model.safetensors").is_file()


def test_bad_settings_are_told_before_anything_is_read(cases: ModuleType, tmp_path: Path) -> None:
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("mini_batches", lambda: cases.CASES["grpo"](tmp_path, mini_batches=5)),
        ("samples", lambda: cases.CASES["grpo"](tmp_path, samples=1)),
        ("ahead", lambda: cases.CASES["grpo"](tmp_path, ahead=True)),
    ]
    for named, begin in refused:
        with pytest.raises(ValueError, match=named):
            begin()
    with pytest.raises(OversightError, match="clip_hgih"):
        cases.CASES["grpo"](tmp_path / "run", options={"clip_hgih": 0.2})
    with pytest.raises(OversightError, match="sft_weight"):
        cases.CASES["kto"](tmp_path / "run", sft_weight=1.0)
    assert not (tmp_path / "run").exists()


def test_importance_bounds_that_leave_nothing_between_them_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low = 2\.0 has to be below high = 2\.0"):
        ImportanceSettings(low=2.0)
