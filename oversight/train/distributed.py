"""The processes of a run: one, or as many as torchrun started, with FSDP2 between them.

Every process holds a part of each weight, computes its own part of a step's
examples, and takes part in the same number of passes. Sums of losses are
divided by counts over all processes before a gradient is computed, so that
gradients are summed and never averaged, and a run of several processes is the
run of one but for rounding.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from oversight.errors import OversightError
from oversight.modeling import TokenRow
from oversight.modeling.scoring.trie import RowBatch

T = TypeVar("T")
R = TypeVar("R")

SAME_ERROR_S = 3.0
"""Time that a process waits for the first one to meet the same error."""
LET_GO_S = 0.2
"""Time that a process that ends leaves to the threads that summed for it."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, seen from one of them."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: torch.device) -> World:
        """This process's place among those that torchrun started; alone without it."""
        if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
            return cls(0, 1, device)
        if not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(leave)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of `items`; of fewer than processes, each has all.

        None is left with nothing to compute. Where each has all, each is counted as often, so
        means and gradients stay what they are.
        """
        return list(items if len(items) < self.size else items[self.rank :: self.size])

    def padded(self, parts: Sequence[T]) -> list[T]:
        """`parts`, the last one repeated until every process has as many.

        Where weights are split, each pass over the model takes all processes.
        """
        if self.size == 1:
            return list(parts)
        [most] = self.max([float(len(parts))])
        return list(parts) + list(parts[-1:]) * (int(most) - len(parts))

    def exchange_gradients(self, model: Any, wanted: bool) -> None:
        """Set whether the next backward pass sums gradients over processes; the last one does."""
        if self.size > 1:
            model.set_requires_gradient_sync(wanted)

    @contextmanager
    def whole_outside_layers(self, model: Any) -> Iterator[None]:
        """While layers are called one by one, and not the model: what is outside them is whole."""
        if self.size == 1:
            yield
            return
        model.unshard()
        try:
            yield
        finally:
            model.reshard()

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums of `values` over all processes, in float64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, values: Sequence[float]) -> list[float]:
        """The largest of each of `values` over all processes."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def gather(self, item: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def interleaved(self, items: Sequence[T]) -> list[T]:
        """Return the values of all processes, in the order in which `share` gave them out; `share`
        gives each process its own again."""
        parts = self.gather(list(items))
        rounds = range(max(map(len, parts)))
        return [part[i] for i in rounds for part in parts if i < len(part)]

    def together(self, items: Sequence[T], compute: Callable[[list[T]], Sequence[R]]) -> list[R]:
        """Return `compute` of each of `items`; each process computes its share, and all of
        them get the whole."""
        own = compute(self.share(items))
        return list(own) if len(items) < self.size else self.interleaved(own)

    def from_first(self, item: T) -> T:
        """Return the value of the first process."""
        if self.size == 1:
            return item
        items: list[Any] = [item]
        dist.broadcast_object_list(items, src=0, device=self.device)
        first: T = items[0]
        return first

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if self.size == 1 or not values:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total, op=how)
        return [float(value) for value in total.tolist()]


def num_processes() -> int:
    """Processes that torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave() -> None:
    """End this process's part in a run of several; nothing alone."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        # A thread of gloo lets go of the last sum's tensors after the sum was given. Should it need
        # the interpreter for that while the interpreter is taken down, the process aborts.
        time.sleep(LET_GO_S)


def announce(error: OversightError, world: World) -> None:
    """Say on stderr what only a process other than the first has met, and mark it as told.

    The first one's errors are shown by its caller, and most errors are met by all.
    """
    if world.size == 1:
        return
    digest = hashlib.blake2b(str(error).encode(), digest_size=16).hexdigest()
    store = dist.distributed_c10d._get_default_store()
    try:
        if world.is_first:
            store.set(digest, "")
        else:
            store.wait([digest], timedelta(seconds=SAME_ERROR_S))
    except (RuntimeError, ValueError):  # nothing came, or who keeps the store has gone
        if not world.is_first:
            sys.stderr.write(f"process {world.rank} of {world.size}: {error}\n")
            error.is_told = True


def has_lost_another(error: BaseException) -> bool:
    """Return whether `error` is of the kind that the end of another process of the run causes."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    # Gloo has no error of its own; it says in which of its files it was.
    return isinstance(error, RuntimeError) and "gloo/" in str(error)


def shard(model: Any, world: World, methods: Iterable[str] = ()) -> None:
    """Split the weights of a `PolicyModel` or `ScalarModel` over all processes, in place.

    Args:
        model: The model; what of it is to be trained must be chosen before.
        world: The processes.
        methods: Methods besides `forward` that compute with the weights.
    """
    if world.size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(world.device.type, (world.size,))
    is_trained = any(weight.requires_grad for weight in model.parameters())
    model.register_forward_hook(_own)
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    # Weights outside the layers stay whole from a forward to its backward pass. A reference
    # has no backward pass: they would stay whole for ever.
    fully_shard(model, mesh=mesh, reshard_after_forward=None if is_trained else True)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)
        # Without this a factor becomes a kind of sum that gloo does not have.
        part.set_force_sum_reduction_for_comms(True)
        # A weight that one process has not used is used by another.
        part.set_reduce_scatter_unused_params(True)
    for method in methods:
        register_fsdp_forward_method(model, method)
    _begin(model)


def _begin(model: Any) -> None:
    """Let every part of the model know which is the outermost: that is the one called first.

    Rollouts call layers without the model around them. And what is trained of a part is settled
    when it is first made whole, which must not happen while adapters are off.
    """
    one = np.zeros(1, dtype=np.int64)
    with torch.no_grad():
        model(RowBatch.build([TokenRow(one, one)], model.device))
    model.reshard()


def _own(model: Any, arguments: Any, output: Any) -> Any:
    """The output, copied if it is a view: FSDP's hooks on a view can be lost."""
    return output.clone() if isinstance(output, torch.Tensor) and output._is_view() else output


def _parts(model: Any) -> list[Any]:
    """The modules that FSDP2 gathers one by one."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _layers(model: Any) -> list[torch.nn.Module]:
    """The decoder layers, found by what transformers says must not be split."""
    names = set(model.inner._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


@torch.no_grad()
def put_together(model: torch.nn.Module, world: World) -> None:
    """Make the weights of a split model whole on the first process, in the model itself.

    Nothing can be computed with it by all afterwards; the first process can save it. One weight
    at a time is gathered, and kept in the first process's memory, not on its accelerator.
    """
    if world.size == 1:
        return
    for part in _parts(model):
        part.reshard()
    whole: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
            if not hasattr(weight, "full_tensor"):
                continue
            if id(weight) not in whole:
                gathered = weight.full_tensor().cpu()
                kept = gathered if world.is_first else gathered.new_empty(0)
                whole[id(weight)] = torch.nn.Parameter(kept, weight.requires_grad)
            if world.is_first:
                setattr(module, name, whole[id(weight)])
