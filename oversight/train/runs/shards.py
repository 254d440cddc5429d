"""Named tensors in the parts that each process holds, written by all and read by any number.

Under FSDP2 a tensor is a DTensor, and a process holds one block of it. Each
process writes its own blocks with their place in the whole; whoever reads
takes from all files what overlaps with its own. A plain tensor is the same in
all processes, and the first one writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from oversight.errors import CheckpointError
from oversight.train.runs.values import plain_tensor


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What a process holds of a tensor."""

    local: torch.Tensor
    """Shares the tensor's memory."""
    offset: tuple[int, ...]
    """Where it begins in the whole."""
    is_ours: bool
    """Whether this process is the one to write it."""


def block_of(tensor: torch.Tensor, name: str, is_first: bool) -> Block:
    """What this process holds of `tensor`.

    Raises:
        CheckpointError: It is laid out in another way than in blocks.
    """
    if not isinstance(tensor, DTensor):
        return Block(tensor.detach(), (0,) * tensor.ndim, is_first)
    mesh, placements = tensor.device_mesh, tensor.placements
    if any(type(placement) not in (Shard, Replicate) for placement in placements):
        raise CheckpointError(
            f"{name} is laid out as {placements} over the processes; checkpoints take tensors "
            "that are sharded in even order (Shard) or copied (Replicate)"
        )
    _, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    place: list[int] = list(mesh.get_coordinate() or ())
    copies = [
        at for at, placement in zip(place, placements, strict=True) if placement.is_replicate()
    ]
    return Block(tensor.to_local().detach(), tuple(offset), not any(copies))


def write_blocks(
    path: Path, tensors: Mapping[str, torch.Tensor], is_first: bool
) -> dict[str, dict[str, Any]]:
    """Write this process's blocks of `tensors` to one file; gives each one's place in the whole."""
    blocks, index = {}, {}
    for name, tensor in tensors.items():
        block = block_of(tensor, name, is_first)
        if block.is_ours and (block.local.numel() or not tensor.numel()):
            blocks[name] = plain_tensor(block.local, name)
            index[name] = {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "offset": list(block.offset),
                "size": list(block.local.shape),
            }
    write_tensors(path, blocks)
    return index


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write whole tensors; those that share memory are written twice."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    save_file(apart, path)


@dataclass(frozen=True, slots=True)
class _Source:
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]


class Blocks:
    """The tensors whose blocks lie in several files.

    Args:
        files: Each file with the index that `write_blocks` gave for it.
    """

    def __init__(self, files: Iterable[tuple[Path, Mapping[str, Mapping[str, Any]]]]) -> None:
        self._sources: dict[str, list[_Source]] = {}
        for file, index in files:
            for name, at in index.items():
                source = _Source(
                    file,
                    at["dtype"],
                    tuple(at["shape"]),
                    tuple(at["offset"]),
                    tuple(at["size"]),
                )
                self._sources.setdefault(name, []).append(source)

    @property
    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._sources)

    def kind(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type and shape of the whole tensor."""
        source = self._sources[name][0]
        return source.dtype, source.shape

    def read_into(self, name: str, tensor: torch.Tensor) -> None:
        """Fill this process's block of `tensor`, in place.

        Raises:
            CheckpointError: Type or shape differ, or a part of it is in no file.
        """
        here = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        if self.kind(name) != here:
            raise CheckpointError(
                f"{name} is {_named(*self.kind(name))} in the checkpoint and {_named(*here)} here; "
                "go on with the model that the run began with"
            )
        block = block_of(tensor, name, is_first=True)
        filled = sum(_copy(source, name, block) for source in self._sources[name])
        if filled != block.local.numel():
            raise CheckpointError(f"{name}: the checkpoint's files do not hold all of it")


def _copy(source: _Source, name: str, block: Block) -> int:
    """Copy what a file's block and ours have in common; gives the number of elements."""
    if not block.local.ndim:
        with safe_open(source.file, framework="pt", backend="pread") as file:
            block.local.copy_(file.get_tensor(name))
        return 1
    theirs, ours = [], []
    for begin, length, own, own_length in zip(
        source.offset, source.size, block.offset, block.local.shape, strict=True
    ):
        low, high = max(begin, own), min(begin + length, own + own_length)
        if low >= high:
            return 0
        theirs.append(slice(low - begin, high - begin))
        ours.append(slice(low - own, high - own))
    with safe_open(source.file, framework="pt", backend="pread") as file:
        part = file.get_slice(name)[tuple(theirs)]
    block.local[tuple(ours)].copy_(part)
    return int(part.numel())


def _named(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype} of shape [{', '.join(map(str, shape))}]"
