"""vLLM servers that sample for a trainer: asked by token ids, and told to take new weights."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import numpy as np

from oversight.engines import all_at_once, vllm
from oversight.engines.openai.settings import VLLM_NEUTRAL
from oversight.errors import ConfigError, EngineError, EngineRefusedError, EngineUnavailableError
from oversight.modeling import Ids
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.types import SampledResponse, check_prompts, seeds_of

if TYPE_CHECKING:
    from oversight.modeling.scoring.policy import PolicyModel
    from oversight.train.rollouts.weight_sync import WeightSync


T = TypeVar("T")


class LoopThread:
    """Runs coroutines, all in one loop: engines and their connections belong to one."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` gives; an interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop; nothing may be running in it."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


DEV_MODE = "VLLM_SERVER_DEV_MODE"


class Servers:
    """Replicas of one model.

    Args:
        urls: Addresses, `/v1` included.
        model: The name that the servers give the model.
        key: Of the API, if it asks for one.
        timeout_s: For one request.
        max_in_flight: Prompts that are asked for at the same time.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        key: str = "",
        timeout_s: float = 600.0,
        max_in_flight: int = 256,
    ) -> None:
        self.urls = [url.rstrip("/").removesuffix("/v1") for url in urls]
        self.model = model
        self._max_in_flight = max_in_flight
        self._loop = LoopThread("vllm servers")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Proxies of the environment are not for servers of one's own.
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=timeout_s,
            trust_env=False,
            limits=httpx.Limits(max_connections=max_in_flight),
        )

    def complete(
        self,
        prompts: Sequence[Ids],
        num_samples: int,
        seeds: Sequence[int],
        settings: SamplingSettings,
    ) -> list[list[SampledResponse]]:
        """Responses to each prompt; prompts take turns among the replicas.

        Raises:
            EngineError: A server does not answer, refuses, or gives no ids.
        """

        async def one(i: int, slots: asyncio.Semaphore) -> list[SampledResponse]:
            body = self._body(prompts[i], num_samples, seeds[i], settings)
            async with slots:
                url = self.urls[i % len(self.urls)]
                answer = await self._post(f"{url}/v1/completions", body)
            return _sampled(answer, prompts[i], url)

        async def all_of_them() -> list[list[SampledResponse]]:
            slots = asyncio.Semaphore(self._max_in_flight)
            return await all_at_once(one(i, slots) for i in range(len(prompts)))

        return self.run(all_of_them())

    def tell(self, path: str, *bodies: dict[str, Any]) -> list[Any]:
        """Post to `path` of all replicas at the same time; what each answers.

        Args:
            path: Of the route.
            *bodies: None, one for all, or one for each replica.

        Raises:
            EngineError: One of them does not do it.
        """
        each = bodies if len(bodies) == len(self.urls) else (bodies or ({},)) * len(self.urls)

        async def all_of_them() -> list[Any]:
            posts = (
                self._post(url + path, body) for url, body in zip(self.urls, each, strict=True)
            )
            return await all_at_once(posts)

        return self.run(all_of_them())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` gives, run in the loop that the connections belong to."""
        return self._loop.run(work)

    def close(self) -> None:
        """Close all connections; the servers go on. Again, it does nothing."""
        if not self._client.is_closed:
            self.run(self._client.aclose())
            self._loop.close()

    def _body(
        self, prompt: Ids, num_samples: int, seed: int, settings: SamplingSettings
    ) -> dict[str, Any]:
        return {
            **VLLM_NEUTRAL,
            "model": self.model,
            "prompt": prompt.tolist(),
            "n": num_samples,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": 1.0,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
        }

    async def _post(self, url: str, body: dict[str, Any]) -> Any:
        try:
            response = await self._client.post(url, json=body)
        except httpx.HTTPError as error:
            raise EngineUnavailableError(
                f"{url}: {type(error).__name__} {error}; is the server up?"
            ) from error
        if response.status_code == httpx.codes.NOT_FOUND and "/v1/" not in url:
            raise EngineRefusedError(
                f"{url}: the server has no such route; start it with {DEV_MODE}=1"
            )
        if not response.is_success:
            kind = EngineRefusedError if response.status_code < 500 else EngineError
            raise kind(f"{url}: status {response.status_code}: {response.text[:500]}")
        if "json" in response.headers.get("content-type", ""):
            return response.json()
        return response.text


def _sampled(answer: Any, prompt_ids: Ids, url: str) -> list[SampledResponse]:
    """The choices of an answer, checked to be to the prompt that was sent."""
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [_one(choice, prompt_ids) for choice in choices]
    except (KeyError, TypeError, ValueError) as error:
        raise EngineRefusedError(
            f"{url}: the answer holds no token ids or log-probabilities that fit the request "
            f"({error!r}); is it a vLLM server?"
        ) from error


def _one(choice: dict[str, Any], prompt_ids: Ids) -> SampledResponse:
    ids = np.array(choice["token_ids"], dtype=np.int64)
    logprobs = np.array(choice["logprobs"]["token_logprobs"], dtype=np.float32)
    if len(ids) != len(logprobs):
        raise ValueError(f"{len(logprobs)} log-probabilities for {len(ids)} ids")
    if not np.array_equal(choice["prompt_token_ids"], prompt_ids):
        raise ValueError("prompt_token_ids are not the ids sent")
    return SampledResponse(ids, logprobs, finished=choice["finish_reason"] == "stop")


class ServerSampler:
    """A `Sampler` over running vLLM servers.

    They must have been started with `--logprobs-mode processed_logprobs`, as `serving`
    does; a hand-over finds out if they were not.

    Args:
        servers: Where to ask.
        settings: How responses are drawn.
        weight_sync: How new weights get there; None if they will never change.
    """

    shares_weights = False

    def __init__(
        self, servers: Servers, settings: SamplingSettings, weight_sync: WeightSync | None = None
    ) -> None:
        self.version = 0
        self.settings = settings
        self._servers = servers
        self._weight_sync = weight_sync

    def sample(
        self, prompts: Sequence[Ids], num_samples: int, seed: int
    ) -> list[list[SampledResponse]]:
        """`num_samples` responses to each prompt, in the prompts' order.

        Raises:
            DataError: A prompt is empty.
            EngineError: A server could not answer.
        """
        check_prompts(prompts, vocab_size=None, room=None)
        seeds = [int.from_bytes(key[:6], "little") for key in seeds_of(prompts, seed)]
        return self._servers.complete(prompts, num_samples, seeds, self.settings)

    def update(self, policy: PolicyModel, step: int) -> None:
        """Hand the weights over and check that they arrived.

        Raises:
            ConfigError: No way of handing over was given.
            EngineError: The servers do not have the new weights now.
        """
        if self._weight_sync is None:
            raise ConfigError("this sampler was given no way of handing weights over")
        self._weight_sync.give(policy, step, self._servers, self.settings)
        self.version = step

    def close(self) -> None:
        """Close the connections; who started the servers ends them."""
        self._servers.close()


@contextmanager
def serving(config: vllm.Config) -> Iterator[Servers]:
    """Servers started for training, with the routes that take new weights; ended afterwards.

    Raises:
        ConfigError: The log-probabilities would be those before temperature.
        EngineUnavailableError: A server did not come up.
    """
    if config.logprobs_mode != "processed_logprobs":
        raise ConfigError(
            f"engine.vllm.logprobs_mode = {config.logprobs_mode!r}: training needs the "
            "log-probabilities of the distribution sampled from: take 'processed_logprobs'"
        )
    loop = LoopThread("vllm engine")
    engine = vllm.build(config)
    try:
        with _environment(DEV_MODE, "1"):
            loop.run(engine.start())
        servers = Servers(
            engine.urls,
            config.model,
            key=os.environ.get("VLLM_API_KEY", ""),
            timeout_s=config.timeout_s,
            max_in_flight=config.max_in_flight,
        )
        try:
            yield servers
        finally:
            servers.close()
    finally:
        loop.run(engine.aclose())
        loop.close()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable set for what is started meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
