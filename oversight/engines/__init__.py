"""Engines: one way to complete prompts a file. The file's name is the registered name.

Here is their common ground: opening one, its part in a debate's id, and batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar, cast

from oversight import registry
from oversight.config import EngineSettings, PriceTable, Settings, SpendingSettings
from oversight.errors import BudgetExceededError, ConfigError
from oversight.types import Capabilities, Chunk, Completion, Engine, EngineSpec, Request

T = TypeVar("T")


def open_engine(spec: EngineSpec) -> Engine:
    """The engine that `spec` describes, ready to be asked; close it with `aclose()`.

    Raises:
        UnknownNameError: There is no engine of that name.
        ConfigError: One of its settings is unknown or out of range.
    """
    module = _module(spec)
    return cast(Engine, module.build(_config(spec, module)))


def check_engine(spec: EngineSpec) -> None:
    """Refuse an engine that could answer no request, as it has no model or no program to run it.

    For what takes longer than opening: a module's `check(config)`, where it has one.

    Raises:
        UnknownNameError: There is no engine of that name.
        ConfigError: One of its settings is unknown or out of range, or names what is not there.
        MissingDependencyError: The program that it runs is not there.
    """
    module = _module(spec)
    if hasattr(module, "check"):
        module.check(_config(spec, module))


def identify(spec: EngineSpec, *, by_path: bool = False) -> EngineSpec:
    """Return what of `spec` determines a result: defaults filled in, incidental settings left out.

    Args:
        by_path: Leave a model that is given as a folder the folder's path, as was done before
            models were identified by their content.

    Raises:
        UnknownNameError: There is no engine of that name.
        ConfigError: One of its settings is unknown or out of range.
    """
    config = _config(spec, _module(spec))
    settings = Settings.identity(config) if by_path else config.identity()
    return EngineSpec(engine=spec.engine, settings=settings)


class Meter:
    """Tokens and money that several engines have taken together, and their bounds."""

    def __init__(self, spending: SpendingSettings, prices: PriceTable | None) -> None:
        self._spending, self._prices = spending, prices
        self.tokens = 0
        self.cost = 0.0

    def check(self) -> None:
        """Refuse a call that would begin after a bound was reached.

        Raises:
            BudgetExceededError: Says which, and how to go on.
        """
        most_tokens, most_cost = self._spending.max_tokens, self._spending.max_cost
        if most_tokens is not None and self.tokens >= most_tokens:
            reached, option = f"{self.tokens:,} tokens", f"--max-tokens {most_tokens}"
        elif most_cost is not None and self._prices is not None and self.cost >= most_cost:
            reached = f"{self.cost:.2f} {self._prices.currency}"
            option = f"--max-cost {most_cost:g}"
        else:
            return
        raise BudgetExceededError(
            f"stopped at {reached}, as {option} asks; what is complete is kept, and the same "
            "command goes on from here"
        )

    def add(self, done: Completion) -> None:
        """Count what a call took."""
        usage = done.usage
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        if self._prices is not None:
            tokens = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0)
            self.cost += self._prices.cost(done.model, *tokens) or 0.0


class MeteredEngine:
    """An engine whose calls a meter counts, and refuses once a bound is reached."""

    def __init__(self, engine: Engine, meter: Meter) -> None:
        self._engine, self._meter = engine, meter

    @property
    def name(self) -> str:
        """That of the engine."""
        return self._engine.name

    @property
    def model(self) -> str:
        """That of the engine."""
        return self._engine.model

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine, which may learn that it has fewer."""
        return self._engine.capabilities

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the engine.

        Raises:
            BudgetExceededError: A bound was reached before.
        """
        self._meter.check()
        done = await self._engine.generate(requests)
        for each in done:
            self._meter.add(each)
        return done

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """As the engine; raises as `generate`."""
        self._meter.check()
        async for chunk in self._engine.stream(request):
            if chunk.completion is not None:
                self._meter.add(chunk.completion)
            yield chunk

    async def cancel(self, request_id: str) -> None:
        """End a request in flight."""
        await self._engine.cancel(request_id)

    async def aclose(self) -> None:
        """Give back what the engine holds."""
        await self._engine.aclose()


def metered(
    spending: SpendingSettings, engines: Mapping[str, EngineSettings]
) -> Callable[[EngineSpec], Engine]:
    """A way to open engines whose calls are counted together, as `open_engine` where nothing is
    bounded.

    Raises:
        ConfigError: A price is wrong, or missing.
    """
    models = (str(each.settings.get("model") or each.engine) for each in engines.values())
    prices = spending.price_table(models)
    if spending.max_tokens is None and spending.max_cost is None:
        return open_engine
    meter = Meter(spending, prices)
    return lambda spec: cast(Engine, MeteredEngine(open_engine(spec), meter))


async def all_at_once(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all works, done at the same time, in their order.

    The first failure cancels the others, so that no model is asked in vain, and is raised by
    itself. One alone is done where it is waited for, without a task of its own.
    """
    works = list(works)
    if len(works) == 1:
        return [await works[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        first = failures.exceptions[0]
        raise first from first.__cause__  # without the group, and with what it came from
    return [task.result() for task in tasks]


def _module(spec: EngineSpec) -> ModuleType:
    module: ModuleType = registry.load("engines", spec.engine)
    for name in ("Config", "build"):
        if not hasattr(module, name):
            raise ConfigError(
                f"engine {spec.engine!r}: module {module.__name__} has no {name}; "
                "an engine's module gives Config (its settings) and build(config)"
            )
    return module


def _config(spec: EngineSpec, module: ModuleType) -> Settings:
    return cast(Settings, module.Config.parse(spec.settings, where=f"engine.{spec.engine}"))
