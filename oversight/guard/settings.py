"""The guard's own file, GUARD.toml: the policy, the models behind it, limits, and what is kept.

policy = "basic"                    # a policy of the package, or a .toml file

[upstreams.seedling]                # a client asks for this name
engine = "transformers"
settings = { model = "seedling" }

[upstreams.big]
base_url = "http://127.0.0.1:8000/v1"
model = "Qwen/Qwen3-8B"

[engines.judge]                     # for checks by models
engine = "transformers"
settings = { model = "porter" }
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from oversight.config import EngineSettings, Settings, read_toml
from oversight.engines import check_engine, open_engine
from oversight.errors import ConfigError
from oversight.guard.policy import Policy, read_policy
from oversight.guard.upstreams import EngineUpstream, ServerUpstream, Upstream, UpstreamSettings
from oversight.registry import nearest
from oversight.types import Engine, EngineSpec


class LimitSettings(Settings):
    """Bounds of what clients may ask for."""

    max_body_mb: float = Field(default=8.0, gt=0.0, le=1024.0)
    """Largest request."""
    max_in_flight: int = Field(default=256, ge=1)
    """Calls at the same time; one more is told to come again."""
    read_timeout_s: float = Field(default=30.0, gt=0.0)
    """Longest wait for the next bytes of a request."""
    write_timeout_s: float = Field(default=60.0, gt=0.0)
    """Longest wait for a client to take what was sent; then the call is over."""


class GuardFileSettings(Settings):
    """A guard, as its file has it."""

    policy: str = "basic"
    """Name of a policy, or the path of its file, from the working directory or beside this one."""
    upstreams: dict[str, UpstreamSettings] = Field(min_length=1)
    """Models by the name that a client asks for; `*` takes all other names."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    """Models that checks ask."""
    store: str = ""
    """Path or URL of the store that calls are kept in; empty: none are."""
    sample: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the calls that are kept although no check acted; where one acted, all are."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    keys_env: str = "OVERSIGHT_GUARD_KEYS"
    """Environment variable with the keys that clients may use, separated by commas; needed where
    others than this machine can reach the guard."""
    limits: LimitSettings = LimitSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, each in self.upstreams.items():
            if name == "*" and (each.engine or each.model):
                raise ValueError(
                    'upstreams."*" takes every name that a client gives, so it is a server '
                    "(base_url) without a model"
                )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings of a file.

        Raises:
            ConfigError: It cannot be read, or something in it is wrong.
        """
        return cls.parse(read_toml(path), where=path.name)

    def opener(self) -> Callable[[str], Engine]:
        """A way to open the engines that checks name, each once."""
        opened: dict[str, Engine] = {}

        def open_(name: str) -> Engine:
            if name not in self.engines:
                raise ConfigError(
                    f"settings.engine = {name!r} is not described under [engines]."
                    f"{nearest(name, self.engines)}"
                )
            if name not in opened:
                described = self.engines[name]
                spec = EngineSpec(engine=described.engine, settings=described.settings)
                check_engine(spec)
                opened[name] = open_engine(spec)
            return opened[name]

        return open_

    def read_policy(self, around: Path | None = None) -> Policy:
        """The policy with its checks; raises as `policy.read_policy`."""
        return read_policy(self.policy, around, self.opener())

    def open_upstreams(self) -> dict[str, Upstream]:
        """The models behind the guard, checked to be there.

        Raises:
            ConfigError: One of them is wrong, or has no model.
            UnknownNameError: There is no engine of a name.
        """
        found: dict[str, Upstream] = {}
        for name, each in self.upstreams.items():
            if each.base_url:
                found[name] = ServerUpstream(name, each)
            else:
                spec = EngineSpec(engine=each.engine, settings=each.settings)
                check_engine(spec)
                found[name] = EngineUpstream(name, open_engine(spec))
        return found
