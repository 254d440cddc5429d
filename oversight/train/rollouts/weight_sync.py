"""New weights for running vLLM servers between steps, and the proof that they have arrived.

`FolderSync`
    Saves a checkpoint and lets each server reload it in place (its worker's
    `reload_weights`): on a CPU and on a GPU. On a machine of its own the
    folder may be one in memory (/dev/shm).
`NcclSync`
    vLLM's native weight transfer, from GPU to GPU.

Afterwards the prefix caches are emptied, as their keys and values are of the old
weights, and a probe is sampled, whose log-probabilities must be the policy's own:
a server that kept some old weight, or whose log-probabilities are of another
distribution, is found before it spoils a step.
"""

from __future__ import annotations

import base64
import shutil
import typing
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oversight.engines import vllm
from oversight.engines.vllm.settings import PARALLEL_OPTIONS
from oversight.errors import ConfigError, EngineError
from oversight.files import whole_folder
from oversight.modeling import Ids, TokenRow
from oversight.train.distributed import World
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.server import Servers
from oversight.train.runs.final import quiet

if TYPE_CHECKING:
    from oversight.modeling.scoring.policy import PolicyModel


ALONE = World(0, 1, torch.device("cpu"))
"""The one process of a run that has no others."""
UNMERGED = ("modules_to_save", "lora_magnitude_vector", "lora_embedding")
"""Parts of an adapter that are more than a sum of two weights."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5", ".index.json")


@torch.no_grad()
def full_weights(policy: PolicyModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of each weight of the model, LoRA adapters added to what they adapt.

    One at a time: of weights that are spread over processes every process must
    take part, and holds one whole weight at once.

    Raises:
        ConfigError: An adapter cannot be added.
    """
    for name, value, adapted in _parts(policy):
        whole = _whole(value)
        for adapter in adapted.active_adapters if adapted is not None else ():
            whole = whole + _whole(adapted.get_delta_weight(adapter)).to(whole.dtype)
        yield name, whole


def weight_shapes(policy: PolicyModel) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of what `full_weights` gives, in its order, without gathering anything."""
    return [(name, tuple(value.shape)) for name, value, _ in _parts(policy)]


def _parts(policy: PolicyModel) -> Iterator[tuple[str, Any, Any]]:
    """Each weight by its own name, and the layer whose adapter is to be added to it, if any."""
    model = policy.inner
    adapted = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }
    for name, value in model.state_dict().items():
        if any(part in name for part in UNMERGED):
            raise ConfigError(f"{name}: such an adapter cannot be added to the weights it adapts")
        if ".lora_" not in name:
            plain = name.replace(".base_layer.", ".")
            yield plain, value, adapted.get(plain)


def _whole(value: Any) -> torch.Tensor:
    """The value itself, gathered if it is spread over processes."""
    gathered: torch.Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return gathered.detach()


def save_weights(policy: PolicyModel, folder: Path, world: World = ALONE) -> Path:
    """Save the model to `folder`, which appears only when it is complete; gives the folder."""
    _save_whole(policy.inner, full_weights(policy), folder, world)
    return folder


def _save_whole(
    model: Any, weights: Iterator[tuple[str, torch.Tensor]], folder: Path, world: World
) -> None:
    """The first process keeps each gathered weight and writes; the others take part."""
    state = {name: value for name, value in weights if world.is_first}
    if not world.is_first:
        return
    with whole_folder(folder, lasting=False) as part, quiet():
        model.save_pretrained(part, state_dict=state)


def save_beside(policy: PolicyModel, model: str, folder: Path, step: int) -> Path:
    """Save the weights of `step` below `folder` with all else that the folder `model` holds.

    Earlier steps are removed.

    Raises:
        ConfigError: `model` is no folder.
    """
    source = Path(model).expanduser()
    if not source.is_dir():
        raise ConfigError(
            f"model = {model!r}: give the folder of the model that training begins with; its "
            "tokenizer is handed over with the weights"
        )
    folder.mkdir(parents=True, exist_ok=True)
    place = save_weights(policy, folder / f"step-{step}")
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith(WEIGHTS) and file.name != "config.json":
            shutil.copy2(file, place / file.name)
    for old in folder.glob("step-*"):
        if old != place:
            shutil.rmtree(old)
    return place


PROBE_TOKENS = 32
PROBE_ANSWER = 8
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4}
OTHER_TOLERANCE = 0.25
"""In half precision two implementations differ by hundredths, other weights by whole nats."""


class WeightSync(typing.Protocol):
    """A way of bringing a policy's weights to servers. All processes of a run call it."""

    def give(
        self, policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
    ) -> None:
        """Have all servers sample with the policy's weights from now on.

        Raises:
            EngineError: They do not.
        """
        ...


class FolderSync:
    """By a checkpoint that the servers can read.

    Args:
        folder: Where it is saved; the last one stays there until the next.
        tolerance: Greatest difference of a log-probability; None for what the precision gives.
        world: The processes that the weights are spread over.
    """

    def __init__(self, folder: Path, tolerance: float | None = None, world: World = ALONE) -> None:
        self._folder = folder.expanduser().resolve()
        self._tolerance = tolerance
        self._world = world

    def give(
        self, policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
    ) -> None:
        """Save, reload, empty the caches, and check."""
        self._world.wait()  # until nobody samples with the old weights any more
        self._folder.mkdir(parents=True, exist_ok=True)
        place = save_weights(policy, self._folder / f"step-{step}", self._world)
        if self._world.is_first:
            reload = {"method": "reload_weights", "kwargs": {"weights_path": str(place)}}
            servers.tell("/collective_rpc", reload)
            reset_caches(servers)
            for old in self._folder.glob("step-*"):
                if old != place:
                    shutil.rmtree(old)
        check_weights(policy, step, servers, settings, self._tolerance, self._world)


def reset_caches(servers: Servers) -> None:
    """Empty the servers' prefix caches.

    Raises:
        EngineError: A cache is in use: something is being sampled.
    """
    for url, answer in zip(servers.urls, servers.tell("/reset_prefix_cache"), strict=True):
        if not answer["success"]:
            raise EngineError(
                f"{url}: the prefix cache is in use and was not emptied; hand weights over "
                "when nothing is being sampled"
            )


def check_weights(
    policy: PolicyModel,
    step: int,
    servers: Servers,
    settings: SamplingSettings,
    tolerance: float | None = None,
    world: World = ALONE,
) -> float:
    """Sample a probe from each server; the greatest difference to the policy's log-probabilities.

    The first process asks, and all score.

    Raises:
        EngineError: It is above `tolerance`.
    """
    from oversight.modeling.scoring.trie import RowBatch
    from oversight.train.rollouts.in_process import evaluating

    rows = world.from_first(_probed(policy, step, servers, settings) if world.is_first else [])
    with evaluating(policy), torch.no_grad():
        scores = policy(RowBatch.build(rows, policy.device), settings.temperature)
    logps_BR = scores.logps_BR.float().cpu().numpy()
    allowed = tolerance or TOLERANCES.get(policy.inner.dtype, OTHER_TOLERANCE)
    worst = 0.0
    for url, logps_R, row in zip(servers.urls, logps_BR, rows, strict=True):
        assert row.logprobs is not None
        differs = float(np.abs(logps_R[: len(row.logprobs)] - row.logprobs).max())
        if not differs <= allowed:  # so that NaN is refused too
            raise EngineError(
                f"{url}: after the hand-over of step {step} its log-probabilities differ from the "
                f"policy's by up to {differs:.2e}, and {allowed:.0e} is accepted: it has other "
                "weights or another precision, or was not started with --logprobs-mode "
                "processed_logprobs"
            )
        worst = max(worst, differs)
    return worst


def _probed(
    policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
) -> list[TokenRow]:
    """A short response of each server to a probe, which all get."""
    probe = settings.model_copy(update={"max_new_tokens": PROBE_ANSWER})
    prompts = [_probe(policy, step)] * len(servers.urls)
    seeds = [step % 2**31] * len(prompts)
    answers = servers.complete(prompts, 1, seeds, probe)
    return [answer.row(prompts[0]) for (answer,) in answers]


def _probe(policy: PolicyModel, step: int) -> Ids:
    """Random ids, others at every step: no cache can know them."""
    size = policy.inner.config.get_text_config().vocab_size
    return np.random.default_rng([step, 0]).integers(0, size, PROBE_TOKENS)


SERVER_ARGS = ("--weight-transfer-config", '{"backend": "nccl"}')


def served_for_nccl(config: vllm.Config) -> vllm.Config:
    """The settings of servers that are to take weights by NCCL.

    Raises:
        ConfigError: Servers are spread over unlike numbers of GPUs, or over a number not known.
    """
    spread = [each for each in config.extra_args if each.startswith(PARALLEL_OPTIONS)]
    if spread:
        raise ConfigError(
            f"engine_settings.extra_args = {spread[0]!r} with weight_sync = 'nccl': name the GPUs "
            "of each server in engine_settings.devices, so that their number is known"
        )
    if len({len(each.split(",")) for each in config.devices}) > 1:
        raise ConfigError(
            f"engine_settings.devices = {list(config.devices)!r} with weight_sync = 'nccl': give "
            "each server the same number of GPUs"
        )
    return config.model_copy(update={"extra_args": (*config.extra_args, *SERVER_ARGS)})


def workers_of(config: vllm.Config) -> int:
    """The number of GPUs that each server is spread over."""
    return len(config.devices[0].split(",")) if config.devices else 1


class NcclSync:
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
    """Return names, types and shapes of what will be sent, as the servers' workers need them."""
    shapes = weight_shapes(policy)
    return {
        "names": [name for name, _ in shapes],
        "dtype_names": [str(dtype).removeprefix("torch.")] * len(shapes),
        "shapes": [list(shape) for _, shape in shapes],
    }
