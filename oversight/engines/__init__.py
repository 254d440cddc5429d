"""Engines: one way to complete prompts a file. The file's name is the registered name.

Here is their common ground: opening one, its part in a debate's id, and batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import cast

from oversight import registry
from oversight.config import Settings
from oversight.errors import ConfigError
from oversight.types import Completion, Engine, EngineSpec, Request


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


async def answer_all(
    requests: Sequence[Request], answer: Callable[[Request], Awaitable[Completion]]
) -> list[Completion]:
    """Completions of all requests, asked for at the same time, in the order of `requests`.

    The first failure cancels the others and is raised by itself.
    """
    if len(requests) == 1:
        return [await answer(requests[0])]

    async def one(request: Request) -> Completion:
        return await answer(request)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(request)) for request in requests]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
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
