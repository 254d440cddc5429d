"""AdamW over a run's weights, and the norm that their gradients are held to.

The gradient of a large embedding is kept by the rows that it has: those of a step's own tokens.
The optimiser's two moments are 0 for tokens that no step has met yet, and a page of memory that
nothing was written to takes none. Each step is equal, bit for bit, to that with the whole gradient.

Shapes: V vocabulary, E hidden size, U rows of a gradient, S rows met so far, C rows of a part.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from oversight.train.settings import OptimizerSettings

BY_ROWS_FROM = 1 << 22
"""Numbers of an embedding from which on its gradient is kept by rows; below, little is saved."""
LANES = 16
"""Numbers that a CPU computes at once: of a row of other sizes, those left over are rounded in
another way, and parts would not be equal to the whole."""
PART_ELEMENTS = 1 << 18
"""Numbers of a weight that are stepped through at a time on a CPU: 1 MiB in float32."""
PART_ELEMENTS_OF_DEVICES = 1 << 26


def keep_by_rows(models: Iterable[torch.nn.Module]) -> None:
    """Let large embeddings that are trained, and are whole in this process, give their gradients
    by rows."""
    for model in models:
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if (
                isinstance(module, torch.nn.Embedding)
                and weight is not None
                and weight.requires_grad
                and not isinstance(weight, DTensor)
                and weight.numel() >= BY_ROWS_FROM
                and weight.shape[1] % LANES == 0
            ):
                module.sparse = True


def gather_rows(weights: Iterable[torch.Tensor]) -> None:
    """Sum up what a gradient has for the same row, after a backward pass.

    Of many micro-batches it holds each row once, and it is made whole before it is larger so.
    """
    for weight in weights:
        grad = weight.grad
        if grad is not None and grad.is_sparse:
            grad = grad.coalesce()
            weight.grad = grad.to_dense() if 2 * grad._nnz() > len(weight) else grad


def clip_gradients(weights: Iterable[torch.Tensor], max_norm: float) -> float:
    """Scale gradients down to `max_norm` at most; gives their norm before."""
    norm = torch.nn.utils.clip_grad_norm_([_dense(weight) for weight in weights], max_norm)
    whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
    return float(whole)


def _dense(weight: torch.Tensor) -> torch.Tensor:
    """The weight; or where its gradient is kept by rows, those rows with the same gradient."""
    if weight.grad is None or not weight.grad.is_sparse:
        return weight
    rows_UE = weight.grad.coalesce().values()
    stand_in = torch.nn.Parameter(rows_UE, requires_grad=False)
    stand_in.grad = rows_UE
    return stand_in


def build_optimizer(models: Iterable[torch.nn.Module], settings: OptimizerSettings) -> RowAdamW:
    """AdamW over the trainable weights of `models`; the schedule multiplies its rate."""
    weights = [p for model in models for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return RowAdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=_are_alike(weights),
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the coming step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _are_alike(weights: Iterable[torch.Tensor]) -> bool:
    """Return whether all are whole, or all split, so that one kernel can step through them."""
    kinds = {type(weight) for weight in weights}
    return kinds in ({torch.nn.Parameter}, {DTensor})


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019) that takes gradients by rows as well as whole ones.

    A row that no gradient has had so far has moments of 0, so that nothing but its decay changes
    it. State and checkpoints are those of `torch.optim.AdamW`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._met: dict[torch.Tensor, torch.Tensor] = {}
        """Marks [V] of the rows whose moments may be other than 0; made of these where absent."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step through all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        by_rows: list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]] = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.grad.is_sparse:
                    by_rows.append((group, weight, weight.grad.coalesce()))
                    weight.grad = None
                else:
                    self._met.pop(weight, None)
        super().step()
        for group, weight, grad_VE in by_rows:
            self._step_by_rows(group, weight, grad_VE)
        return loss

    def _step_by_rows(
        self, group: dict[str, Any], weight_VE: torch.Tensor, grad_VE: torch.Tensor
    ) -> None:
        state, met_V = self._state_of(weight_VE)
        rows_U, values_UE = grad_VE.indices()[0], grad_VE.values()
        met_V[rows_U] = True
        if (decay := group["lr"] * group["weight_decay"]) != 0.0:
            weight_VE.mul_(1.0 - decay)
        rows_S = met_V.nonzero()[:, 0]
        at_U = torch.searchsorted(rows_S, rows_U)
        on_cpu = weight_VE.device.type == "cpu"
        elements = PART_ELEMENTS if on_cpu else PART_ELEMENTS_OF_DEVICES
        size = max(1, elements // weight_VE[0].numel())
        tensors = (weight_VE, state["exp_avg"], state["exp_avg_sq"])
        for start in range(0, len(rows_S), size):
            rows_C = rows_S[start : start + size]
            low, high = torch.searchsorted(at_U, at_U.new_tensor([start, start + size])).tolist()
            grad_CE = torch.zeros_like(weight_VE[: len(rows_C)])
            grad_CE[at_U[low:high] - start] = values_UE[low:high]
            parts = [tensor[rows_C] for tensor in tensors]
            _step(group, parts, grad_CE, state["step"].clone())
            for tensor, part in zip(tensors, parts, strict=True):
                tensor[rows_C] = part
        state["step"] += 1

    def _state_of(self, weight_VE: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
        """The weight's state, and the rows whose moments are not 0."""
        state = self.state[weight_VE]
        if not state:
            device = weight_VE.device if self.defaults["fused"] else torch.device("cpu")
            state["step"] = torch.zeros((), device=device)
            state["exp_avg"], state["exp_avg_sq"] = (_untouched(weight_VE) for _ in range(2))
            self._met[weight_VE] = torch.zeros(
                len(weight_VE), dtype=torch.bool, device=weight_VE.device
            )
        elif weight_VE not in self._met:  # read from a checkpoint
            moments = [state["exp_avg"], state["exp_avg_sq"]]
            met_V = torch.stack([m.any(-1) for m in moments]).any(0)
            for key in ("exp_avg", "exp_avg_sq"):
                thin = _untouched(weight_VE)
                thin[met_V] = state[key][met_V]
                state[key] = thin
            self._met[weight_VE] = met_V
        return state, self._met[weight_VE]


def _step(
    group: dict[str, Any], parts: Sequence[torch.Tensor], grad: torch.Tensor, step: torch.Tensor
) -> None:
    """Step through a part of a weight and its moments, in place, without decay."""
    weight, exp_avg, exp_avg_sq = parts
    beta1, beta2 = group["betas"]
    adamw(
        [weight],
        [grad],
        [exp_avg],
        [exp_avg_sq],
        [],
        [step],
        fused=group["fused"],
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )


def _untouched(weight: torch.Tensor) -> torch.Tensor:
    """Zeros like the weight; on a CPU in pages that take no memory until they are written to."""
    if weight.device.type != "cpu" or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros_like(weight, requires_grad=False)
    pages = mmap.mmap(-1, weight.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=weight.dtype).view(weight.shape)
