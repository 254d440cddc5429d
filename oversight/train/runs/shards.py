"""Named tensors in the parts that each process holds, written by all and read by any number.

Under FSDP2 a tensor is a DTensor, and a process holds one block of it. Each
process writes its own blocks with their place in the whole; a reader
takes from all files the parts that overlap with its own. A plain tensor is the same in
all processes, and the first one writes it.

Other nested values are packed as JSON and named tensors, and come back without any loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from oversight.errors import CheckpointError

Value = Any
"""A value of the kinds above."""
Tensors = dict[str, torch.Tensor]

_MARK = "$"
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(value: Value, where: str = "state") -> tuple[Any, Tensors]:
    """JSON for `value`, and the tensors that it refers to by name.

    Raises:
        CheckpointError: A value is of another kind; names its dotted place.
    """
    tensors: Tensors = {}
    return _pack(value, where, tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    """The value that `pack` made `plain` and `tensors` of."""
    if isinstance(plain, list):
        return [unpack(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1 and (key := next(iter(plain))).startswith(_MARK):
        return _unpack_marked(key[1:], plain[key], tensors)
    return {key: unpack(item, tensors) for key, item in plain.items()}


def _pack(value: Value, where: str, tensors: Tensors) -> Any:
    # Exact types: a subclass (numpy's float64 is one of float) would come back as another.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in (list, tuple):
        items = [_pack(item, f"{where}.{i}", tensors) for i, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if kind is dict:
        return _pack_dict(value, where, tensors)
    if kind is bytes:
        return {"$bytes": value.hex()}
    return _pack_array(value, where, tensors)


def _pack_dict(value: dict[Any, Any], where: str, tensors: Tensors) -> Any:
    if all(type(key) is str and not key.startswith(_MARK) for key in value):
        return {key: _pack(item, f"{where}.{key}", tensors) for key, item in value.items()}
    return {
        "$items": [
            [_pack(key, where, tensors), _pack(item, f"{where}.{key}", tensors)]
            for key, item in value.items()
        ]
    }


def _pack_array(value: Value, where: str, tensors: Tensors) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[where] = plain_tensor(value, where)
        return {"$tensor": where}
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "number"
        try:
            # A copy: from_numpy takes neither read-only nor byte-swapped memory.
            native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
            tensors[where] = plain_tensor(torch.from_numpy(native), where)
        except TypeError:
            raise _refused(value, where) from None
        return {f"${kind}": where}
    raise _refused(value, where)


def plain_tensor(value: torch.Tensor, where: str) -> torch.Tensor:
    """`value` as safetensors takes it: dense, contiguous, on the CPU, with memory of its own.

    Raises:
        CheckpointError: It is sparse, quantised or of a type that safetensors lacks.
    """
    if value.layout is not torch.strided or value.is_quantized or value.dtype not in _KEPT:
        raise _refused(value, where)
    plain = value.detach()
    whole = plain.is_contiguous() and plain.untyped_storage().nbytes() == plain.nbytes
    if plain.device.type != "cpu" or not whole:
        plain = plain.to("cpu", copy=True).contiguous()
    return plain


def _refused(value: Value, where: str) -> CheckpointError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    dtype = f" of {value.dtype}" if hasattr(value, "dtype") else ""
    return CheckpointError(
        f"{where}: a {kind}{dtype} cannot be kept in a checkpoint without pickle; give JSON-plain "
        "values, dense tensors or numeric numpy arrays"
    )


def _unpack_marked(kind: str, content: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    if kind == "float":
        return _WORDS[content]
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    if kind == "items":
        return {unpack(key, tensors): unpack(item, tensors) for key, item in content}
    if kind == "bytes":
        return bytes.fromhex(content)
    tensor = tensors[content]
    if kind == "tensor":
        return tensor
    return tensor.numpy() if kind == "array" else tensor.numpy()[()]


_KEPT = frozenset(
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8),
        *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class TensorBlock:
    """The part of a tensor that a process holds."""

    local: torch.Tensor
    """Shares the tensor's memory."""
    offset: tuple[int, ...]
    """Its beginning in the whole."""
    is_ours: bool
    """True if this process is the one to write it."""


def block_of(tensor: torch.Tensor, name: str, is_first: bool) -> TensorBlock:
    """Return the part of `tensor` that this process holds.

    Raises:
        CheckpointError: It is laid out in another way than in blocks.
    """
    if not isinstance(tensor, DTensor):
        return TensorBlock(tensor.detach(), (0,) * tensor.ndim, is_first)
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
    return TensorBlock(tensor.to_local().detach(), tuple(offset), not any(copies))


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


def _copy(source: _Source, name: str, block: TensorBlock) -> int:
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
