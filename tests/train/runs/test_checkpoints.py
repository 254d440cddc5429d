from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from oversight.errors import CheckpointError
from oversight.train.runs.checkpoints import Checkpoints
from oversight.train.runs.state import RunState, trained_weights

WHAT = {"config": {"optimizer": {"lr": 0.001}}, "data": "abc"}


def checkpoints(folder: Path, **options: Any) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", WHAT, **options)


@pytest.mark.parametrize("fused", [False, True])
def test_a_resumed_run_goes_on_bit_for_bit(make_toy: Any, tmp_path: Path, fused: bool) -> None:
    random.seed(1)
    np.random.seed(1)
    whole = make_toy(fused=fused)
    losses = [whole.step() for _ in range(3)]
    checkpoints(tmp_path).save(3, whole.state)
    losses += [whole.step() for _ in range(4)]

    random.seed(2)
    np.random.seed(2)
    other = make_toy(seed=9, fused=fused)
    assert checkpoints(tmp_path).resume(other.state).step == 3
    assert [other.step() for _ in range(4)] == losses[3:]
    assert other.memory.values == {"cursor": 7}
    for name, weight in whole.weights().items():
        assert torch.equal(weight, other.weights()[name]), name
    for mine, theirs in zip(
        whole.optimizer.state.values(), other.optimizer.state.values(), strict=True
    ):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_group_options_and_what_was_never_stepped_come_back(make_toy: Any, tmp_path: Path) -> None:
    toy = make_toy()
    toy.optimizer.param_groups[0]["lr"] = 0.1 + 0.2
    checkpoints(tmp_path).save(0, toy.state)
    other = make_toy()
    other.step()
    checkpoints(tmp_path).resume(other.state)
    assert other.optimizer.param_groups[0]["lr"] == 0.1 + 0.2
    assert not other.optimizer.state


def test_nothing_but_json_and_safetensors_is_written(make_toy: Any, tmp_path: Path) -> None:
    folder = checkpoints(tmp_path).save(1, make_toy().state)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    assert "model.0.weight" in load_file(folder / "weights-0-of-1.safetensors")


def test_only_trained_weights_and_buffers_are_kept() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    assert set(trained_weights(m=model)) == {
        *("m.1.weight", "m.1.bias", "m.1.running_mean", "m.1.running_var"),
        "m.1.num_batches_tracked",
    }


def test_bf16_weights_with_float32_states_come_back(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(4, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.state[weight] = {"master": torch.randn(4), "step": 3}
    state = RunState({"w": weight}, optimizer)
    checkpoints(tmp_path).save(1, state)
    kept, master = weight.detach().clone(), optimizer.state[weight]["master"].clone()
    with torch.no_grad():
        weight.zero_()
    optimizer.state.clear()
    checkpoints(tmp_path).resume(state)
    assert torch.equal(weight, kept)
    assert optimizer.state[weight]["master"].dtype is torch.float32
    assert torch.equal(optimizer.state[weight]["master"], master)
    assert optimizer.state[weight]["step"] == 3


def test_the_newest_and_the_best_are_kept(make_toy: Any, tmp_path: Path) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path, keep=2)
    for step, score in ((1, 3.0), (2, 1.0), (3, float("nan")), (4, 2.0), (5, None), (6, 1.0)):
        kept.save(step, toy.state, score)
    assert [path.name for path in kept.paths()] == ["step-000002", "step-000005", "step-000006"]
    best = kept.best()
    assert best is not None
    assert best.name == "step-000002"
    higher = checkpoints(tmp_path, higher_is_better=True)
    higher.save(7, toy.state, 9.0)
    best = higher.best()
    assert best is not None
    assert best.name == "step-000007"


def test_weights_alone_can_be_taken_from_a_checkpoint(make_toy: Any, tmp_path: Path) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path)
    before = toy.weights()
    path = kept.save(1, toy.state, 0.5)
    toy.step()
    kept.read_weights(path, toy.state.weights)
    assert all(torch.equal(w, before[name]) for name, w in toy.state.weights.items())
    assert toy.memory.values == {"cursor": 1}


def test_steps_beyond_six_digits_are_still_in_order(make_toy: Any, tmp_path: Path) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path, keep=5)
    for step in (999_999, 1_000_000):
        kept.save(step, toy.state)
    assert kept.resume(toy.state).step == 1_000_000


def damage(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif how == "flipped":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_text("{")


@pytest.mark.parametrize("how", ["gone", "truncated", "flipped"])
@pytest.mark.parametrize("file", ["weights-0-of-1.safetensors", "rank-0-of-1.json"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_taken(
    make_toy: Any, tmp_path: Path, how: str, file: str
) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path)
    kept.save(1, toy.state)
    before = toy.weights()
    toy.step()
    damage(kept.save(2, toy.state) / file, how)
    resumed = kept.resume(toy.state)
    assert resumed.step == 1
    assert file in resumed.notes[0]
    assert "damaged" in resumed.notes[0]
    assert "going on from step-000001" in resumed.notes[1]
    assert all(torch.equal(w, before[name]) for name, w in toy.weights().items())
    # And step 2 can be written again.
    kept.save(2, toy.state)
    assert kept.resume(toy.state).step == 2
    assert kept.resume(toy.state).notes == ()


@pytest.mark.parametrize("how", ["gone", "half"])
def test_a_checkpoint_without_its_manifest_is_damaged(
    make_toy: Any, tmp_path: Path, how: str
) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path)
    damage(kept.save(1, toy.state) / "checkpoint.json", how)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is good.*Remove the folder"):
        kept.resume(toy.state)


def test_a_checkpoint_of_other_settings_is_refused_by_the_setting(
    make_toy: Any, tmp_path: Path
) -> None:
    toy = make_toy()
    checkpoints(tmp_path).save(1, toy.state)
    other = {"config": {"optimizer": {"lr": 0.5}}, "data": "abc"}
    with pytest.raises(CheckpointError, match=r"config\.optimizer\.lr was 0\.001 and is now 0\.5"):
        Checkpoints(tmp_path / "checkpoints", other).resume(toy.state)
    with pytest.raises(CheckpointError, match=r"data was 'abc' and is now 'x'"):
        Checkpoints(tmp_path / "checkpoints", WHAT | {"data": "x"}).resume(toy.state)


def test_a_checkpoint_of_other_shapes_or_weights_is_refused(make_toy: Any, tmp_path: Path) -> None:
    checkpoints(tmp_path).save(1, make_toy(width=3).state)
    with pytest.raises(CheckpointError, match=r"float32 of shape \[3, 5\] in the checkpoint and"):
        checkpoints(tmp_path).resume(make_toy(width=4).state)
    weight = torch.nn.Parameter(torch.zeros(1))
    other = RunState({"w": weight}, torch.optim.AdamW([weight]))
    with pytest.raises(CheckpointError, match="other parts"):
        checkpoints(tmp_path).resume(other)


def test_a_weight_without_a_name_is_refused_before_it_is_lost(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(CheckpointError, match="not among the run's named weights"):
        checkpoints(tmp_path).save(1, RunState({}, torch.optim.AdamW([weight])))
    assert checkpoints(tmp_path).paths() == []


def test_what_writes_that_were_cut_short_left_is_cleaned(make_toy: Any, tmp_path: Path) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path)
    kept.save(1, toy.state)
    for name in (".step-000002.part", ".gone-step-000000"):
        (kept.folder / name).mkdir()
        (kept.folder / name / "weights-0-of-1.safetensors").write_bytes(b"half")
    assert kept.resume(toy.state).step == 1
    assert [path.name for path in kept.folder.iterdir()] == ["step-000001"]


def test_a_value_that_cannot_be_kept_leaves_the_last_checkpoint(
    make_toy: Any, tmp_path: Path
) -> None:
    toy, kept = make_toy(), checkpoints(tmp_path)
    kept.save(1, toy.state)
    toy.memory.values["engine"] = object()
    with pytest.raises(CheckpointError, match=r"state\.parts\.memory\.engine"):
        kept.save(2, toy.state)
    assert [path.name for path in kept.folder.iterdir()] == ["step-000001"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from oversight.errors import CheckpointError
from oversight.train.runs.checkpoints import Checkpoints
from oversight.train.runs.state import RunState

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
small = torch.nn.Parameter(torch.ones(4))
kept = Checkpoints(Path(sys.argv[1]), {}, keep=1)
kept.save(1, RunState({"w": small}, torch.optim.AdamW([small])))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
large = torch.nn.Parameter(torch.ones(1_000_000))
try:
    kept.save(2, RunState({"w": large}, torch.optim.AdamW([large])))
except CheckpointError as error:
    print(error)
"""


def test_a_write_that_the_disk_cuts_leaves_the_last_checkpoint(
    make_toy: Any, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "step 2" in done.stdout
    assert "could not be written" in done.stdout
    assert "step-000001 stays the last good one" in done.stdout
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-000001"]
    weight = torch.nn.Parameter(torch.zeros(4))
    state = RunState({"w": weight}, torch.optim.AdamW([weight]))
    assert Checkpoints(tmp_path / "c", {}).resume(state).step == 1
    assert torch.equal(weight, torch.ones(4))
