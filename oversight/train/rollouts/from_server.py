"""Responses sampled by vLLM servers, whose weights are the policy's of the last hand-over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from oversight.engines import vllm
from oversight.errors import ConfigError
from oversight.train.rollouts.loop_thread import LoopThread
from oversight.train.rollouts.server import DEV_MODE, Servers
from oversight.train.rollouts.types import Sampled, SamplingSettings, check_prompts, seeds_of
from oversight.train.types import Ids

if TYPE_CHECKING:
    from oversight.train.model.policy import PolicyModel
    from oversight.train.rollouts.handover import Handover


class ServerSampler:
    """A `Sampler` over running vLLM servers.

    They must have been started with `--logprobs-mode processed_logprobs`, as `serving`
    does; a hand-over finds out if they were not.

    Args:
        servers: Where to ask.
        settings: How responses are drawn.
        handover: How new weights get there; None if they will never change.
    """

    shares_weights = False

    def __init__(
        self, servers: Servers, settings: SamplingSettings, handover: Handover | None = None
    ) -> None:
        self.version = 0
        self.settings = settings
        self._servers = servers
        self._handover = handover

    def sample(self, prompts: Sequence[Ids], num_samples: int, seed: int) -> list[list[Sampled]]:
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
        if self._handover is None:
            raise ConfigError("this sampler was given no way of handing weights over")
        self._handover.give(policy, step, self._servers, self.settings)
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
