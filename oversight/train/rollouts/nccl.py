"""vLLM's native weight transfer: weights broadcast from the trainer's GPU to the servers'.

The trainer is rank 0 of an NCCL group of its own with all workers of all
servers, which it makes with torch's own bindings: vLLM is not imported. Servers
are started with `--weight-transfer-config {"backend": "nccl"}`, which is
`SERVER_ARGS`. Written for the protocol of vLLM 0.32 (a unique id sent to each
worker, a one-element sum as a handshake, then one broadcast a weight in the
order announced). Weights go by the names that the model's own modules have.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from oversight.errors import ConfigError
from oversight.train.distributed import World
from oversight.train.rollouts.handover import check_weights, reset_caches
from oversight.train.rollouts.server import Servers
from oversight.train.rollouts.types import SamplingSettings
from oversight.train.rollouts.weights import ALONE, full_weights, weight_shapes

if TYPE_CHECKING:
    from oversight.train.model.policy import PolicyModel

SERVER_ARGS = ("--weight-transfer-config", '{"backend": "nccl"}')


class NcclHandover:
    """By NCCL, from GPU to GPU.

    Args:
        workers_per_server: GPUs that each server is spread over.
        tolerance: Greatest difference of a log-probability; None for what the precision gives.
        world: The processes that the weights are spread over; the first one sends.
    """

    def __init__(
        self,
        workers_per_server: int = 1,
        tolerance: float | None = None,
        world: World = ALONE,
    ) -> None:
        self._workers = workers_per_server
        self._tolerance = tolerance
        self._world = world
        self._group: Any = None

    def give(
        self, policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
    ) -> None:
        """Announce all weights, broadcast them, empty the caches, and check.

        Raises:
            ConfigError: The policy is not on a GPU.
            EngineError: A server does not take part, or has other weights afterwards.
        """
        if policy.device.type != "cuda":
            raise ConfigError(
                f"weights are transferred natively between GPUs, and the policy is on "
                f"{str(policy.device)!r}: hand them over in a folder"
            )
        self._world.wait()  # until nobody samples with the old weights any more
        if self._world.is_first:
            self._send(policy, step, servers)
        else:
            for _ in full_weights(policy):
                pass
        check_weights(policy, step, servers, settings, self._tolerance, self._world)

    def _send(self, policy: PolicyModel, step: int, servers: Servers) -> None:
        dtype = policy.lowered or policy.inner.dtype
        if self._group is None:
            self._group = self._join(policy.device, servers)
        servers.tell("/start_weight_update")
        with _meanwhile(servers, "/update_weights", {"update_info": _announced(policy, dtype)}):
            for _, weight in full_weights(policy):
                self._broadcast(weight.to(dtype).contiguous())
            torch.cuda.synchronize(policy.device)
        servers.tell("/finish_weight_update", {"weight_version": str(step)})
        reset_caches(servers)

    def _join(self, device: torch.device, servers: Servers) -> Any:
        """A group of this process and all workers, which are numbered from 1."""
        from torch.cuda import nccl

        size = 1 + self._workers * len(servers.urls)
        unique_id: bytes = nccl.unique_id()  # type: ignore[no-untyped-call]
        bodies = [
            {
                "init_info": {
                    "nccl_unique_id_b64": base64.b64encode(unique_id).decode(),
                    "rank_offset": 1 + self._workers * number,
                    "world_size": size,
                    "packed": False,
                }
            }
            for number in range(len(servers.urls))
        ]
        with (
            torch.cuda.device(device),
            _meanwhile(servers, "/init_weight_transfer_engine", *bodies),
        ):
            group = nccl.init_rank(size, unique_id, 0)  # type: ignore[no-untyped-call]
            handshake = torch.zeros(1, device=device)
            nccl.all_reduce([handshake], comms=[group])  # type: ignore[no-untyped-call]
            torch.cuda.synchronize(device)
        return group

    def _broadcast(self, weight: torch.Tensor) -> None:
        from torch.cuda import nccl

        nccl.broadcast([weight], root=0, comms=[self._group])


@contextmanager
def _meanwhile(servers: Servers, path: str, *bodies: dict[str, Any]) -> Iterator[None]:
    """Servers are told, and answer only when what is done here has reached them.

    They are not waited for when it fails: they would never answer.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="weight transfer")
    try:
        answers: Future[list[Any]] = thread.submit(servers.tell, path, *bodies)
        yield
        answers.result()
    finally:
        thread.shutdown(wait=False)


def _announced(policy: PolicyModel, dtype: torch.dtype) -> dict[str, Any]:
    """What will be sent, as the servers' workers need to know it."""
    shapes = weight_shapes(policy)
    return {
        "names": [name for name, _ in shapes],
        "dtype_names": [str(dtype).removeprefix("torch.")] * len(shapes),
        "shapes": [list(shape) for _, shape in shapes],
    }
