"""Weights of a guard's own models replaced while it serves, without losing a call.

`oversight guard replace GUARD.toml NAME MODEL` writes into a file beside the guard's which model
answers under a name from now on. The guard that serves looks at the file, loads that model beside
the one in use and asks it once; only then does it answer. Calls under way end with the model that
they began with, which is closed after the last of them. A model that cannot be loaded changes
nothing: the one in use goes on, and the log and `/health` say why.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oversight import registry
from oversight.engines import check_engine, open_engine
from oversight.errors import ConfigError, FileError, OversightError
from oversight.files import write_text
from oversight.guard.upstreams import EngineUpstream, Json, Upstream, UpstreamSettings
from oversight.guard.upstreams import Path as ApiPath
from oversight.redaction import redacted
from oversight.registry import nearest
from oversight.types import EngineSpec, Message, Prompt, Request, Sampling

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""Time between two looks at the file."""
FIRST_WORDS = Prompt(messages=(Message(role="user", parts=("Hello.",)),))
"""Asked of a model before anybody waits for it."""


@dataclass(slots=True, eq=False)
class _Held:
    """A model that answers, or that ends the calls that it began."""

    upstream: EngineUpstream
    model: str
    """As its engine's setting names it."""
    content: str
    """The name that its content has."""
    num_calls: int = 0
    is_retired: bool = False


class ReplaceableUpstream:
    """One of our engines behind the guard, in whose place another model can be put."""

    def __init__(self, name: str, settings: UpstreamSettings, model: str = "") -> None:
        """Describe the model.

        Args:
            name: The name that clients ask for.
            settings: The upstream's; its engine has a setting `model`.
            model: In place of the one that the settings name; empty: that one.

        Raises:
            ConfigError: There is no such model.
            UnknownNameError: There is no such engine.
        """
        self._name, self._settings = name, settings
        self.own = str(settings.settings.get("model", ""))
        """The model that the guard's file names."""
        self.failed = ""
        """The reason why the last model could not take the place of the one in use."""
        self.loading = ""
        """The model that is being loaded."""
        self.held_by = ""
        """Name of a check that reads the hidden states of the model in use, and of no other."""
        self._closing: set[asyncio.Task[None]] = set()
        self._held = self._open(model or self.own)

    @property
    def model(self) -> str:
        """The model in use, as a setting names it."""
        return self._held.model

    def state(self) -> Json:
        """The model in use by its content, the one that is being loaded, and what went wrong."""
        return {"model": self._held.content, "loading": self.loading, "failed": self.failed}

    def _open(self, model: str) -> _Held:
        given = {**self._settings.settings, "model": model} if model else self._settings.settings
        spec = EngineSpec(engine=self._settings.engine, settings=given)
        check_engine(spec)
        upstream = EngineUpstream(self._name, open_engine(spec))
        return _Held(upstream, model, upstream.content)

    async def replace(self, model: str) -> None:
        """Put a model in the place of the one in use, once it has answered a first time.

        Args:
            model: A folder or a name, as the engine takes it; empty: the guard's file's own.
        """
        wanted = model or self.own
        if wanted == self._held.model:
            return
        if self.held_by:
            self.failed = (
                f"{wanted}: checks.{self.held_by} reads the hidden states of the model in use; fit "
                "its probe to other weights, and start the guard with both"
            )
            logger.error("%s goes on with the model in use: %s", self._name, self.failed)
            return
        self.loading, self.failed = wanted, ""
        found: _Held | None = None
        try:
            found = await asyncio.to_thread(self._open, wanted)
            await found.upstream.engine.generate(
                [Request(FIRST_WORDS, Sampling(max_tokens=1, temperature=0.0), id="guard-first")]
            )
        except (OversightError, OSError, ValueError) as error:
            self.failed = redacted(f"{wanted}: {error}")[:300]
            logger.error("%s goes on with the model in use: %s", self._name, self.failed)
            if found is not None:
                await found.upstream.aclose()
            return
        except asyncio.CancelledError:
            if found is not None:
                await found.upstream.aclose()
            raise
        finally:
            self.loading = ""
        before, self._held = self._held, found
        logger.warning("%s: %s answers in place of %s", self._name, found.content, before.content)
        before.is_retired = True
        self._close_if_idle(before)

    def _close_if_idle(self, held: _Held) -> None:
        if held.is_retired and not held.num_calls:
            task = asyncio.get_running_loop().create_task(held.upstream.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def answer(self, path: ApiPath, body: Json) -> Json:
        """The whole answer of the model in use; raises as the protocol says."""
        held = self._held
        held.num_calls += 1
        try:
            return await held.upstream.answer(path, body)
        finally:
            held.num_calls -= 1
            self._close_if_idle(held)

    async def stream(self, path: ApiPath, body: Json) -> AsyncGenerator[Json, None]:
        """The answer in events, all of one model; raises as the protocol says."""
        held = self._held
        held.num_calls += 1
        try:
            async with aclosing(held.upstream.stream(path, body)) as events:
                async for event in events:
                    yield event
        finally:
            held.num_calls -= 1
            self._close_if_idle(held)

    async def models(self) -> Sequence[str]:
        """The name that it is served under."""
        return (self._name,)

    async def aclose(self) -> None:
        """Give all its engines back."""
        await self._held.upstream.aclose()
        await asyncio.gather(*self._closing)


def is_replaceable(settings: UpstreamSettings) -> bool:
    """True of an engine of ours that names its model.

    Raises:
        UnknownNameError: There is no such engine.
    """
    if not settings.engine:
        return False
    config = registry.load("engines", settings.engine).Config
    return "model" in config.model_fields and bool(settings.settings.get("model"))


def read_replacements(path: Path) -> dict[str, str]:
    """Models by the name that clients ask for, as a file has them; none without the file.

    Raises:
        ConfigError: The file holds something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} says not which models answer ({type(error).__name__}); remove it, and the "
            "guard's own do"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ConfigError(f"{path} holds no names with models; remove it, and the guard's own do")
    return {str(name): str(model) for name, model in found.items()}


def write_replacement(
    upstreams: Mapping[str, UpstreamSettings], path: Path, name: str, model: str
) -> Path:
    """Write which model answers under a name, for the guard that serves to see.

    Args:
        upstreams: The guard's, by name.
        path: The file.
        name: Of them.
        model: A folder or a name; empty: the one of the guard's file again.

    Raises:
        ConfigError: There is no such upstream or model, the upstream is no engine of ours with a
            model, or the file cannot be written.
        UnknownNameError: There is no such engine.
    """
    if name not in upstreams:
        raise ConfigError(f"NAME = {name!r} is no model of [upstreams].{nearest(name, upstreams)}")
    settings = upstreams[name]
    if not is_replaceable(settings):
        raise ConfigError(
            f"upstreams.{name} is a server or an engine without a model: replace the weights "
            "there, or try them as a [candidate]"
        )
    found = read_replacements(path)
    if model:
        folder = Path(model).expanduser()
        model = str(folder.resolve()) if folder.is_dir() else model
        check_engine(
            EngineSpec(engine=settings.engine, settings={**settings.settings, "model": model})
        )
        found[name] = model
    else:
        found.pop(name, None)
    try:
        write_text(path, json.dumps(found, indent=2) + "\n", "replaced")
    except FileError as error:
        raise ConfigError(str(error)) from error
    return path


class ModelReplacements:
    """Follows the file that says which models answer, while a guard serves."""

    def __init__(self, upstreams: Mapping[str, Upstream], path: Path) -> None:
        self._path = path
        self._upstreams = {
            name: each for name, each in upstreams.items() if isinstance(each, ReplaceableUpstream)
        }
        self._tried: dict[str, str] = {
            name: "" if each.model == each.own else each.model
            for name, each in self._upstreams.items()
        }
        self._said = ""

    def states(self) -> dict[str, Any]:
        """Of each model that can be replaced what `ReplaceableUpstream.state` says."""
        return {name: each.state() for name, each in self._upstreams.items()}

    async def look(self) -> None:
        """Put in place what the file says anew; each model is tried once."""
        try:
            found = read_replacements(self._path)
        except ConfigError as error:
            if str(error) != self._said:
                self._said = str(error)
                logger.error("%s", error)
            return
        self._said = ""
        for name, upstream in self._upstreams.items():
            wanted = found.get(name, "")
            if wanted != self._tried[name]:
                self._tried[name] = wanted
                await upstream.replace(wanted)

    async def follow(self) -> None:
        """Look again and again, until it is cancelled."""
        while self._upstreams:
            try:
                await self.look()
            except Exception:  # nobody waits for it, so nobody else would tell
                logger.exception("%s could not be followed", self._path)
            await asyncio.sleep(LOOK_S)
