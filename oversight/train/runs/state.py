"""State of a run that changes from step to step, written to and read from one folder.

Files of process R of W: `weights-R-of-W.safetensors` and
`optimizer-R-of-W.safetensors` with its blocks, `state-R-of-W.safetensors` with
the tensors of everything else, and `rank-R-of-W.json` with that everything
else and the places of the blocks.

An optimizer's state goes by the names of its weights, so that any number of processes can read it;
random streams are those of Python, numpy, torch and the accelerator.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file

from oversight.errors import CheckpointError
from oversight.files import sync, write_json
from oversight.ids import seed_from
from oversight.train.distributed import World
from oversight.train.runs.shards import Blocks, pack, unpack, write_blocks, write_tensors

HOW = frozenset({"params", "fused", "foreach", "capturable", "differentiable", "maximize"})
"""Options of a group that say how it computes; they stay as this process has them."""


def split_optimizer(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors shaped like their weights, under `weight/key`, and everything else.

    Raises:
        CheckpointError: The optimizer changes a weight that has no name.
    """
    names = _weight_names(optimizer, weights)
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


def join_optimizer(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, torch.Tensor],
    blocks: Blocks,
    rest: dict[str, Any],
) -> None:
    """Put an optimizer back to the state that `split_optimizer` took apart.

    Raises:
        CheckpointError: Its groups hold other weights.
    """
    names = _weight_names(optimizer, weights)
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
                optimizer.state[weight] = _weight_state(
                    name, weight, group, blocks, rest["scalars"][name]
                )


def _weight_state(
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


def _weight_names(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, torch.Tensor]
) -> dict[int, str]:
    names = {id(weight): name for name, weight in weights.items()}
    for i, group in enumerate(optimizer.param_groups):
        for weight in group["params"]:
            if id(weight) not in names:
                raise CheckpointError(
                    f"group {i} of the optimizer trains a weight of shape {list(weight.shape)} "
                    "that is not among the run's named weights, so it could not be kept"
                )
    return names


Generator = torch.Generator | np.random.Generator | random.Random
"""A random stream of one's own."""


def random_streams() -> dict[str, Any]:
    """The state of the global streams of Python, numpy, torch and the accelerator, if any."""
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "torch": torch.get_rng_state(),
    }
    if device := _accelerator():
        found[device.type] = torch.get_device_module(device).get_rng_state()
    return found


def restore_streams(found: dict[str, Any]) -> tuple[str, ...]:
    """Put the global streams back; gives notes on what could not be."""
    random.setstate(found["python"])
    np.random.set_state(found["numpy"])
    torch.set_rng_state(found["torch"])
    device = _accelerator()
    kinds = set(found) - {"python", "numpy", "torch"}
    if device is not None and device.type in kinds:
        torch.get_device_module(device).set_rng_state(found[device.type])
        kinds.discard(device.type)
    return tuple(
        f"the checkpoint holds the random state of a {kind} device and there is none here: "
        "what is drawn from now on differs from the uninterrupted run"
        for kind in sorted(kinds)
    )


def seed_all(*parts: object) -> None:
    """Seed the global streams from the text of `parts`."""
    seed = seed_from(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def state_of(generator: Generator) -> Any:
    """The state of a stream of one's own."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def set_state(generator: Generator, state: Any) -> None:
    """Put a stream of one's own back to a state that `state_of` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


class Part(Protocol):
    """Anything that can say its state in values that `pack` takes, and take it back."""

    def state_dict(self) -> dict[str, Any]:
        """Its state now."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Be as it was then."""
        ...


@dataclass
class RunState:
    """A checkpoint's content as live objects: they are read at `save` and set at `load`."""

    weights: Mapping[str, torch.Tensor]
    """Every tensor that training changes, by name; see `trained_weights`."""
    optimizer: torch.optim.Optimizer
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Everything else: the data's cursor, a rollout buffer, controllers, guards, early stop."""
    generators: Mapping[str, Generator] = field(default_factory=dict)
    """Random streams of the trainer's own; the global ones are always kept."""


def trained_weights(**models: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of `models` that are trained, and their buffers, by name."""
    found: dict[str, torch.Tensor] = {}
    for prefix, model in models.items():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                found[f"{prefix}.{name}"] = weight
        kept = model.state_dict(keep_vars=True)
        for name, buffer in model.named_buffers():
            if name in kept:
                found[f"{prefix}.{name}"] = buffer
    return found


def write(folder: Path, state: RunState, world: World) -> None:
    """Write this process's part of `state` into `folder`, down to the disk."""
    tag = f"{world.rank}-of-{world.size}"
    tensors, rest = split_optimizer(state.optimizer, state.weights)
    # Group options and step counters are the same in all processes; each keeps its own copy.
    plain, own = pack(
        {
            "optimizer": rest,
            "random": random_streams(),
            "generators": {name: state_of(it) for name, it in state.generators.items()},
            "parts": {name: part.state_dict() for name, part in state.parts.items()},
        }
    )
    index = {
        "weights": write_blocks(
            folder / f"weights-{tag}.safetensors", state.weights, world.is_first
        ),
        "optimizer": write_blocks(folder / f"optimizer-{tag}.safetensors", tensors, world.is_first),
    }
    write_tensors(folder / f"state-{tag}.safetensors", own)
    for kind in ("weights", "optimizer", "state"):
        sync(folder / f"{kind}-{tag}.safetensors")
    write_json(folder / f"rank-{tag}.json", {"state": plain, "index": index})


def read(folder: Path, size: int, state: RunState, world: World) -> tuple[str, ...]:
    """Set `state` to what `size` processes wrote into `folder`; gives notes on what is not exact.

    Raises:
        CheckpointError: It holds other weights, shapes or parts.
    """
    ranks = [json.loads((folder / f"rank-{r}-of-{size}.json").read_text()) for r in range(size)]
    mine = world.rank if world.rank < size else 0
    own = load_file(folder / f"state-{mine}-of-{size}.safetensors", backend="pread")
    saved = unpack(ranks[mine]["state"], own)
    _same("parts", set(saved["parts"]), set(state.parts))
    _same("generators", set(saved["generators"]), set(state.generators))
    _read_weights(_blocks(folder, "weights", ranks), state.weights)
    optimizer_blocks = _blocks(folder, "optimizer", ranks)
    join_optimizer(state.optimizer, state.weights, optimizer_blocks, saved["optimizer"])
    for name, part in state.parts.items():
        part.load_state_dict(saved["parts"][name])
    for name, generator in state.generators.items():
        set_state(generator, saved["generators"][name])
    if size == world.size:
        return restore_streams(saved["random"])
    seed_all(folder.name, world.rank, world.size)
    return (
        f"written by {size} process{'es' * (size > 1)} and read by {world.size}: weights and "
        "optimizer are exact, random streams begin anew",
    )


def read_weights(folder: Path, size: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Set only the weights to what `size` processes wrote into `folder`."""
    ranks = [json.loads((folder / f"rank-{r}-of-{size}.json").read_text()) for r in range(size)]
    _read_weights(_blocks(folder, "weights", ranks), weights)


def _blocks(folder: Path, kind: str, ranks: list[Any]) -> Blocks:
    size = len(ranks)
    return Blocks(
        (folder / f"{kind}-{rank}-of-{size}.safetensors", content["index"][kind])
        for rank, content in enumerate(ranks)
    )


@torch.no_grad()
def _read_weights(blocks: Blocks, weights: Mapping[str, torch.Tensor]) -> None:
    _same("weights", blocks.names, set(weights))
    for name, weight in weights.items():
        blocks.read_into(name, weight)


def _same(kind: str, saved: set[str], here: set[str]) -> None:
    if saved != here:
        only_saved = ", ".join(sorted(saved - here)[:3]) or "none"
        only_here = ", ".join(sorted(here - saved)[:3]) or "none"
        raise CheckpointError(
            f"the checkpoint holds other {kind} than this run has (only there: {only_saved}; only "
            f"here: {only_here}); go on with the model and settings that the run began with"
        )
