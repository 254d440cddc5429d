"""New weights for running vLLM servers between steps, and the proof that they have arrived.

`FolderHandover`
    Saves a checkpoint and lets each server reload it in place (its worker's
    `reload_weights`): on a CPU and on a GPU. On a machine of its own the
    folder may be one in memory (/dev/shm).
`AdapterHandover`
    Saves the LoRA adapter alone and lets each server load it under a new name: for a
    policy of which only adapters are trained. The server needs `--enable-lora` and
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
`NcclHandover` (in `nccl`)
    vLLM's native weight transfer, from GPU to GPU.

Afterwards the prefix caches are emptied, as their keys and values are of the old
weights, and a probe is sampled, whose log-probabilities must be the policy's own:
a server that kept some old weight, or whose log-probabilities are of another
distribution, is found before it spoils a step.
"""

from __future__ import annotations

import shutil
import typing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from oversight.errors import ConfigError, EngineError
from oversight.train.distributed import World
from oversight.train.rollouts.server import Servers
from oversight.train.rollouts.types import SamplingSettings
from oversight.train.rollouts.weights import ALONE, save_adapter, save_weights
from oversight.train.types import Ids, TokenRow

if TYPE_CHECKING:
    from oversight.train.model.policy import PolicyModel

PROBE_TOKENS = 32
PROBE_ANSWER = 8
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4}
OTHER_TOLERANCE = 0.25
"""In half precision two implementations differ by hundredths, other weights by whole nats."""


class Handover(typing.Protocol):
    """A way of bringing a policy's weights to servers. All processes of a run call it."""

    def give(
        self, policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
    ) -> None:
        """Have all servers sample with the policy's weights from now on.

        Raises:
            EngineError: They do not.
        """
        ...


class FolderHandover:
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


class AdapterHandover:
    """By the LoRA adapter alone, under a name of its own for each step.

    Args:
        folder: Where adapters are saved.
        tolerance: Greatest difference of a log-probability; None for what the precision gives.
        world: The processes that the weights are spread over.
    """

    def __init__(self, folder: Path, tolerance: float | None = None, world: World = ALONE) -> None:
        self._folder = folder.expanduser().resolve()
        self._tolerance = tolerance
        self._world = world
        self._loaded = ""

    def give(
        self, policy: PolicyModel, step: int, servers: Servers, settings: SamplingSettings
    ) -> None:
        """Save, load under a new name, ask for that name from now on, and check."""
        if not hasattr(policy.model, "peft_config"):
            raise ConfigError("an adapter is handed over, and the policy has none: take a folder")
        self._world.wait()
        name = f"policy-{step}"
        self._folder.mkdir(parents=True, exist_ok=True)
        place = save_adapter(policy, self._folder / name, self._world)
        if self._world.is_first:
            servers.tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
            if self._loaded:
                servers.tell("/v1/unload_lora_adapter", {"lora_name": self._loaded})
                shutil.rmtree(self._folder / self._loaded)
        self._loaded = name
        servers.model = name  # prefixes are cached under the adapter's name: none is stale
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
    from oversight.train.model.batch import RowBatch
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
