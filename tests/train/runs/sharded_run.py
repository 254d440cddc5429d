"""Saves or loads a sharded run; started by torchrun from `test_shards.py`.

Arguments: what to do (save, load), folder of checkpoints, where weights and
optimizer state go whole, for comparison.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from oversight.train.distributed import World
from oversight.train.runs.checkpoints import Checkpoints
from oversight.train.runs.state import RunState, trained_weights


class Rank:
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def state_dict(self) -> dict[str, Any]:
        return {"rank": self.rank}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rank = state_dict["rank"]


def whole(tensor: Any) -> torch.Tensor:
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().clone()


def main(action: str, folder: Path, out: Path) -> None:
    world = World.join(torch.device("cpu"))
    torch.manual_seed(0 if action == "save" else 99)
    # 7 rows on 2 processes: an uneven split, with a process that holds nothing of the last bias.
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 1), torch.nn.Linear(1, 3))
    if world.size > 1:
        mesh = init_device_mesh("cpu", (world.size,))
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    part = Rank(world.rank)
    state = RunState(trained_weights(model=model), optimizer, {"rank": part})
    kept = Checkpoints(folder, {}, world=world)
    if action == "save":
        for _ in range(3):
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.manual_seed(world.rank)
        kept.save(3, state)
    else:
        part.rank = -1
        resumed = kept.resume(state)
        print(resumed.step, *resumed.notes)
        assert part.rank in (world.rank, 0)
    tensors = {name: whole(weight) for name, weight in state.weights.items()}
    for name, weight in state.weights.items():
        for key, value in optimizer.state[weight].items():
            tensors[f"{name}/{key}"] = whole(value)
    drawn = torch.rand(4)
    if world.is_first:
        save_file(tensors, out / "tensors.safetensors")
    save_file({"drawn": drawn}, out / f"drawn-{world.rank}.safetensors")
    if dist.is_initialized():
        # After this one process may leave before the other has heard of it.
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)
