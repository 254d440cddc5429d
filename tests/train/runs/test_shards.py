from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from oversight.errors import CheckpointError
from oversight.train.runs.shards import Blocks, write_blocks

SCRIPT = Path(__file__).with_name("sharded_run.py")


def start(action: str, num_processes: int, folder: Path, out: Path) -> str:
    """Run the script in processes with the environment that torchrun gives; what the first says."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), action, str(folder), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **world, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(num_processes)
    ]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * num_processes, said
    return said[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_two_processes_saved_one_two_and_three_can_load(tmp_path: Path) -> None:
    start("save", 2, tmp_path / "c", tmp_path / "saved")
    [folder] = (tmp_path / "c").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.json",
        *(f"rank-{r}-of-2.json" for r in range(2)),
        *(f"{k}-{r}-of-2.safetensors" for r in range(2) for k in ("weights", "optimizer", "state")),
    }
    # Each process wrote its own rows, and no more.
    parts = [load_file(folder / f"weights-{r}-of-2.safetensors") for r in range(2)]
    assert [part["model.0.weight"].shape[0] for part in parts] == [4, 3]
    assert "model.1.bias" not in parts[1]

    wanted = load_file(tmp_path / "saved" / "tensors.safetensors")
    for size in (1, 2, 3):
        out = tmp_path / f"loaded-{size}"
        said = start("load", size, tmp_path / "c", out)
        found = load_file(out / "tensors.safetensors")
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), (size, name)
        assert "\n3" in f"\n{said}"
        assert ("random streams begin anew" in said) == (size != 2)
    for rank in range(2):
        drawn = [
            load_file(tmp_path / place / f"drawn-{rank}.safetensors")["drawn"]
            for place in ("saved", "loaded-2")
        ]
        assert torch.equal(*drawn), "every process goes on with its own random stream"


def test_blocks_of_any_cut_are_put_together(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(6, 4)
    files = []
    for i, (rows, columns) in enumerate([(slice(0, 4), slice(0, 4)), (slice(4, 6), slice(0, 4))]):
        path = tmp_path / f"{i}.safetensors"
        index = write_blocks(path, {"w": whole[rows, columns]}, is_first=True)
        index["w"] |= {"shape": [6, 4], "offset": [rows.start, columns.start]}
        files.append((path, index))
    target = torch.zeros(6, 4)
    Blocks(files).read_into("w", target)
    assert torch.equal(target, whole)
    with pytest.raises(CheckpointError, match="do not hold all of it"):
        Blocks(files[:1]).read_into("w", target)


def test_another_type_is_refused(tmp_path: Path) -> None:
    index = write_blocks(tmp_path / "x.safetensors", {"w": torch.zeros(2)}, is_first=True)
    with pytest.raises(CheckpointError, match=r"w is float32 of shape \[2\] .* bfloat16 of shape"):
        Blocks([(tmp_path / "x.safetensors", index)]).read_into(
            "w", torch.zeros(2, dtype=torch.bfloat16)
        )


def test_processes_that_are_not_the_first_write_no_copies(tmp_path: Path) -> None:
    assert write_blocks(tmp_path / "x.safetensors", {"w": torch.zeros(2)}, is_first=False) == {}
