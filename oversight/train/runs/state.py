"""What changes from step to step in a run, written to and read from one folder.

Files of process R of W: `weights-R-of-W.safetensors` and
`optimizer-R-of-W.safetensors` with its blocks, `state-R-of-W.safetensors` with
the tensors of everything else, and `rank-R-of-W.json` with that everything
else and the places of the blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from oversight.errors import CheckpointError
from oversight.train.distributed import World
from oversight.train.runs import optimizer_state, randomness
from oversight.train.runs.files import sync, write_json
from oversight.train.runs.shards import Blocks, write_blocks, write_tensors
from oversight.train.runs.values import pack, unpack


class Part(Protocol):
    """Anything that can say its state in values that `runs.values` takes, and take it back."""

    def state_dict(self) -> dict[str, Any]:
        """Its state now."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Be as it was then."""
        ...


@dataclass
class RunState:
    """What a checkpoint holds, as live objects: they are read at `save` and set at `load`."""

    weights: Mapping[str, torch.Tensor]
    """Every tensor that training changes, by name; see `trained_weights`."""
    optimizer: torch.optim.Optimizer
    parts: Mapping[str, Part] = field(default_factory=dict)
    """Everything else: the data's cursor, a rollout buffer, controllers, guards, early stop."""
    generators: Mapping[str, randomness.Generator] = field(default_factory=dict)
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
    tensors, rest = optimizer_state.split(state.optimizer, state.weights)
    # Group options and step counters are the same in all processes; each keeps its own copy.
    plain, own = pack(
        {
            "optimizer": rest,
            "random": randomness.streams(),
            "generators": {name: randomness.state_of(it) for name, it in state.generators.items()},
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
    optimizer_state.join(state.optimizer, state.weights, optimizer_blocks, saved["optimizer"])
    for name, part in state.parts.items():
        part.load_state_dict(saved["parts"][name])
    for name, generator in state.generators.items():
        randomness.set_state(generator, saved["generators"][name])
    if size == world.size:
        return randomness.restore(saved["random"])
    randomness.seed_all(folder.name, world.rank, world.size)
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
