"""An optimizer's state by the names of its weights, so that any number of processes can read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from oversight.errors import CheckpointError
from oversight.train.runs.shards import Blocks

HOW = frozenset({"params", "fused", "foreach", "capturable", "differentiable", "maximize"})
"""Options of a group that say how it computes; they stay as this process has them."""


def split(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors shaped like their weights, under `weight/key`, and everything else.

    Raises:
        CheckpointError: The optimizer changes a weight that has no name.
    """
    names = _names(optimizer, weights)
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for weight, state in optimizer.state.items():
        name = names[id(weight)]
        scalars[name] = {}
        for key, value in state.items():
            if key != "step" and isinstance(value, torch.Tensor) and value.shape == weight.shape:
                tensors[f"{name}/{key}"] = value
            else:
                scalars[name][key] = value
    groups = [
        {
            "names": [names[id(weight)] for weight in group["params"]],
            "options": {key: value for key, value in group.items() if key not in HOW},
        }
        for group in optimizer.param_groups
    ]
    return tensors, {"scalars": scalars, "groups": groups}


def join(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, torch.Tensor],
    blocks: Blocks,
    rest: dict[str, Any],
) -> None:
    """Put an optimizer back to the state that `split` took apart.

    Raises:
        CheckpointError: Its groups hold other weights.
    """
    names = _names(optimizer, weights)
    ours = [[names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups]
    if ours != [group["names"] for group in rest["groups"]]:
        raise CheckpointError(
            "the optimizer's groups hold other weights than in the checkpoint; train the same "
            "part of the model (full weights or LoRA, the same modules) as the run began with"
        )
    optimizer.state.clear()
    for group, saved in zip(optimizer.param_groups, rest["groups"], strict=True):
        group.update(saved["options"])
        for weight in group["params"]:
            name = names[id(weight)]
            if name in rest["scalars"]:
                optimizer.state[weight] = _state(name, weight, group, blocks, rest["scalars"][name])


def _state(
    name: str, weight: torch.Tensor, group: dict[str, Any], blocks: Blocks, scalars: dict[str, Any]
) -> dict[str, Any]:
    state = {key: _placed(value, weight, group) for key, value in scalars.items()}
    for full in sorted(blocks.names):
        owner, _, key = full.rpartition("/")
        if owner == name:
            dtype = getattr(torch, blocks.kind(full)[0])
            state[key] = torch.zeros_like(weight, dtype=dtype, requires_grad=False)
            blocks.read_into(full, state[key])
    return state


def _placed(value: Any, weight: torch.Tensor, group: dict[str, Any]) -> Any:
    """A step counter is on the device only where the optimizer computes with it there."""
    on_device = group.get("fused") or group.get("capturable")
    return value.to(weight.device) if isinstance(value, torch.Tensor) and on_device else value


def _names(optimizer: torch.optim.Optimizer, weights: Mapping[str, torch.Tensor]) -> dict[int, str]:
    names = {id(weight): name for name, weight in weights.items()}
    for i, group in enumerate(optimizer.param_groups):
        for weight in group["params"]:
            if id(weight) not in names:
                raise CheckpointError(
                    f"group {i} of the optimizer trains a weight of shape {list(weight.shape)} "
                    "that is not among the run's named weights, so it could not be kept"
                )
    return names
