"""A model served by vLLM servers that this engine starts, looks after and stops.

vLLM lives in processes of its own, and may live in an environment of its own
(`python`): nothing of it is imported here. A server that somebody else runs is
asked by the `openai` engine with `dialect = "vllm"`.

- All servers start with `start()`, or each when the first request reaches it. They end
  with `aclose()`, and with this process however that ends.
- All requests of one route go to the same replica (rendezvous hashing), so that
  its prefix cache holds; a request without a route goes where the least is in flight.
- A server that dies is restarted at most `restarts` times, and what was in
  flight there is sent again. After that its routes fail, and say so.

Use an engine in one event loop.

Log-probabilities (measured with 0.32). `--logprobs-mode processed_logprobs`, our default,
gives those of the distribution sampled from, after temperature, top-p and the
constraint's mask, as `Completion.logprobs` promises and as training needs. The
server's own default, `raw_logprobs`, leaves out temperature and top-p and nothing
else: a choice's mask comes *before* the raw values are taken. In either mode,
then, the options of a constrained choice sum to 1, and forbidden tokens show as
-9999. So a constrained request that asks for `top_logprobs` is followed by a
second one for a single unconstrained greedy token, whose prompt is in the prefix
cache: `Completion.top` then holds one position, the first, as the model itself
sees it. An option too unlikely to be among those is added at its exact place,
which the ratios under the mask give. (The `openai` engine leaves `top` under the mask.)
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from oversight.engines import all_at_once, openai
from oversight.engines.vllm.server import Replica, ReplicaMetrics, ServerProcess, reserve_port
from oversight.engines.vllm.settings import (
    HOST,
    Config,
    check_model,
    command_line,
    find_interpreter,
    first_token_request,
    is_built_for_cpu,
    server_environment,
    unmasked_top,
)
from oversight.errors import ConfigError, EngineUnavailableError
from oversight.models import check_obtainable, check_whole, content_name
from oversight.types import Capabilities, Chunk, Completion, FinishReason, Request

__all__ = ["Config", "ReplicaMetrics", "VllmEngine", "build", "rendezvous"]

log = logging.getLogger(__name__)

NUM_RETRIES = 1
"""Of the client, for a broken connection; a server that is gone is the replica's affair."""


def rendezvous(route: str, num_replicas: int) -> int:
    """Index of the replica of a route: the highest of its hashes with each of them.

    Every process agrees on it, and a further replica takes over its share of the
    routes without moving any other (Thaler & Ravishankar 1998).
    """

    def weight(index: int) -> bytes:
        return hashlib.blake2b(f"{index}\0{route}".encode(), digest_size=8).digest()

    return max(range(num_replicas), key=weight)


def build(config: Config) -> VllmEngine:
    """The engine; its servers start when they are first needed."""
    return VllmEngine(config)


def check(config: Config) -> None:
    """Refuse a model that is nowhere, and an interpreter without vLLM.

    Raises:
        ConfigError: It is no folder with a model, and cannot be had from the hub.
        MissingDependencyError: No interpreter has vLLM.
    """
    check_model(config.model)
    find_interpreter(config.python)
    check_obtainable("engine.vllm.model", config.model)
    check_whole("engine.vllm.model", config.model)


class VllmEngine:
    """One or several vLLM servers behind the `Engine` protocol."""

    name = "vllm"

    def __init__(self, config: Config) -> None:
        self.model = content_name(config.model)
        self.capabilities = Capabilities(logprobs=True, choices=True)
        self.on_progress: Callable[[str], None] | None = None
        """Takes a line every few seconds while servers start."""
        self._config = config
        self._replicas: list[Replica] = []
        self._reservations: list[socket.socket] = []
        self._temporary: Path | None = None
        self._preparing = asyncio.Lock()
        self._closed = False

    @property
    def urls(self) -> list[str]:
        """Addresses of the servers, `/v1` included; none before the first start."""
        return [f"{replica.server.url}/v1" for replica in self._replicas]

    async def start(self) -> None:
        """Start all servers at the same time and wait until they are healthy.

        Raises:
            ConfigError: There is no model at that place, or no folder for the logs.
            MissingDependencyError: No interpreter has vLLM.
            EngineUnavailableError: A server did not come up; with the last lines of its log.
        """
        await self._prepare()
        await asyncio.gather(*(replica.ready() for replica in self._replicas))

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`.

        Raises:
            EngineError: One of them could not be answered, also after a restart.
        """
        await self._prepare()
        return await all_at_once(map(self._answer, requests))

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion piece by piece; the last chunk carries it whole.

        Raises:
            EngineError: It could not be answered, or the server died in the middle.
        """
        await self._prepare()
        replica = self._replica(request)
        async for chunk in replica.stream(request):
            if chunk.completion is None:
                yield chunk
            else:
                yield replace(
                    chunk, completion=await self._finish(replica, request, chunk.completion)
                )

    async def cancel(self, request_id: str) -> None:
        """End a request in flight; it returns what it has, with finish reason CANCELLED."""
        for replica in self._replicas:
            if replica.holds(request_id):
                await replica.cancel(request_id)

    async def metrics(self) -> list[ReplicaMetrics]:
        """Counters of each replica since its last start; all None for one that is not up."""
        await self._prepare()
        return list(await asyncio.gather(*(replica.metrics() for replica in self._replicas)))

    async def aclose(self) -> None:
        """Stop all servers; the temporary logs go as well unless one of them failed."""
        async with self._preparing:
            self._closed = True
        failed = any(replica.failure for replica in self._replicas)
        await asyncio.gather(*(replica.aclose() for replica in self._replicas))
        for reservation in self._reservations:
            reservation.close()
        if self._temporary is not None and not failed:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def _prepare(self) -> None:
        """Check everything that can be checked without a server, and make the replicas."""
        async with self._preparing:
            if self._closed:
                raise EngineUnavailableError(f"the vllm engine of {self.model!r} is closed")
            if self._replicas:
                return
            model = check_model(self._config.model)
            python = await asyncio.to_thread(find_interpreter, self._config.python)
            on_cpu = await asyncio.to_thread(is_built_for_cpu, python)
            folder = self._log_folder()
            self._replicas = [
                self._make_replica(index, python, model, folder, on_cpu)
                for index in range(self._config.replicas)
            ]

    def _log_folder(self) -> Path:
        if self._config.log_dir is None:
            if self._temporary is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="oversight-vllm-"))
            return self._temporary
        folder = Path(self._config.log_dir).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"engine log_dir = {self._config.log_dir!r} cannot be made ({error.strerror}): "
                "name a folder that can be written to"
            ) from error
        return folder

    def _make_replica(
        self, index: int, python: str, model: str, folder: Path, on_cpu: bool
    ) -> Replica:
        config = self._config
        reservation = reserve_port()
        self._reservations.append(reservation)
        port = reservation.getsockname()[1]
        server = ServerProcess(
            name=f"vllm replica {index}",
            command=command_line(config, python, model, index, port, on_cpu=on_cpu),
            environment=server_environment(config, index, os.environ),
            url=f"http://{HOST}:{port}",
            log=folder / f"vllm-{os.getpid()}-{port}-replica{index}.log",
            stop_timeout_s=config.stop_timeout_s,
        )
        client = openai.build(
            openai.Config(
                base_url=f"{server.url}/v1",
                model=config.model,
                api_key_env="VLLM_API_KEY",  # the variable that the server itself reads
                api=config.api,
                dialect="vllm",
                logprobs_mode=config.logprobs_mode,
                extra_body=config.extra_body,
                enable_thinking=config.enable_thinking,
                prompt_opens_thought=config.prompt_opens_thought,
                timeout_s=config.timeout_s,
                connect_timeout_s=config.connect_timeout_s,
                max_retries=NUM_RETRIES,
                max_in_flight=config.max_in_flight,
            )
        )
        return Replica(index, server, client, config.restarts, config.start_timeout_s, self._report)

    def _report(self, line: str) -> None:
        log.info(line)
        if self.on_progress is not None:
            self.on_progress(line)

    def _replica(self, request: Request) -> Replica:
        if request.route:
            return self._replicas[rendezvous(request.route, len(self._replicas))]
        return min(self._replicas, key=lambda r: (bool(r.failure), r.num_in_flight))

    async def _answer(self, request: Request) -> Completion:
        replica = self._replica(request)
        return await self._finish(replica, request, await replica.answer(request))

    async def _finish(
        self, replica: Replica, request: Request, completion: Completion
    ) -> Completion:
        """The completion under our own name, with the first token's unmasked alternatives."""
        completion = replace(completion, engine=self.name, model=self.model)
        sampling = request.sampling
        cancelled = completion.finish_reason is FinishReason.CANCELLED
        if not sampling.choices or not sampling.top_logprobs or cancelled:
            return completion
        free = await replica.answer(first_token_request(request))
        processed = self._config.logprobs_mode == "processed_logprobs"
        temperature = (sampling.temperature if processed else 0.0) or 1.0
        first = unmasked_top(free, completion, temperature)
        return replace(completion, top=(first,) if first else ())
