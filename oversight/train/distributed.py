"""The processes of a run: one, or as many as torchrun started, with FSDP2 between them.

Every process holds a part of each weight, computes its own part of a step's
examples, and takes part in the same number of passes. Sums of losses are
divided by counts over all processes before a gradient is computed, so that
gradients are summed and never averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


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
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a step's items."""
        return list(items[self.rank :: self.size])

    def held_out(self, items: Sequence[T]) -> list[T]:
        """This process's part of held-out items; of fewer than processes, each has all."""
        return self.share(items) if len(items) >= self.size else list(items)

    def padded(self, parts: Sequence[T]) -> list[T]:
        """`parts`, the last one repeated until every process has as many.

        Where weights are split, each pass over the model takes all processes.
        """
        if self.size == 1:
            return list(parts)
        [most] = self.max([float(len(parts))])
        return list(parts) + [parts[-1]] * (int(most) - len(parts))

    def exchange_gradients(self, model: Any, wanted: bool) -> None:
        """Whether the coming backward pass sums gradients over processes; the last part's does."""
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
        """What each process holds, in the order of their ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def from_first(self, item: T) -> T:
        """What the first process holds."""
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
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(world.device.type, (world.size,))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
    for method in methods:
        register_fsdp_forward_method(model, method)


def _layers(model: Any) -> list[torch.nn.Module]:
    """The decoder layers, found by what transformers says must not be split."""
    names = set(model.inner._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def clip_gradients(parameters: Iterable[torch.Tensor], max_norm: float) -> float:
    """Scale gradients down to `max_norm` at most; gives their norm before."""
    norm = torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return float(whole)


def whole_state(model: torch.nn.Module, world: World) -> dict[str, torch.Tensor]:
    """All weights of a model, put together on the first process; empty on the others."""
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        if world.is_first:
            state[name] = whole.detach().cpu()
    return state
