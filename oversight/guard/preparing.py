"""A guard before it serves: its own file, GUARD.toml, and the cases of its policy tried.

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

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from oversight.config import EngineSettings, PriceTable, Settings, read_toml
from oversight.engines import check_engine, open_engine
from oversight.errors import ConfigError
from oversight.guard.calls import Call
from oversight.guard.candidate import CandidateSettings
from oversight.guard.drift import DriftSettings
from oversight.guard.exchanges import ModelGuard
from oversight.guard.feedback import FeedbackSettings
from oversight.guard.policy import Action, CaseSettings, Policy, read_policy
from oversight.guard.recording import Hidden
from oversight.guard.replacing import ReplaceableUpstream, is_replaceable, read_replacements
from oversight.guard.screening import Finding
from oversight.guard.server_upstreams import ServerUpstream
from oversight.guard.telemetry import TelemetrySettings
from oversight.guard.upstreams import (
    ApiError,
    EngineUpstream,
    Json,
    Upstream,
    UpstreamSettings,
)
from oversight.guard.upstreams import (
    Path as ApiPath,
)
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
    hide: Hidden = "secrets"
    """Left out of calls that are kept: whatever has the form of a secret, personal data with it, or
    nothing."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    keys_env: str = "OVERSIGHT_GUARD_KEYS"
    """Environment variable with the keys that clients may use, separated by commas; needed where
    others than this machine can reach the guard."""
    limits: LimitSettings = LimitSettings()
    drift: DriftSettings | None = None
    """Watch over the traffic; there is none without `[drift]`."""
    telemetry: TelemetrySettings | None = None
    """Spans and metrics for a collector of OpenTelemetry; there are none without `[telemetry]`."""
    log: Literal["plain", "json"] = "plain"
    """Form of the log on stderr; as JSON, it has a line of each call, without a word of it."""
    prices: Path | None = None
    """A TOML file of prices by model, from the working directory or beside this one."""
    replaced: str = Field(default="guard.models", min_length=1)
    """File that says which weights answer in place of an upstream's own, beside the guard's; it is
    written by `oversight guard replace`."""
    candidate: CandidateSettings | None = None
    """A second model or policy that is tried; there is none without `[candidate]`."""
    feedback: FeedbackSettings = FeedbackSettings()
    """Limits of `POST /v1/feedback`, which is there where `store` is."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, each in self.upstreams.items():
            if name == "*" and (each.engine or each.model):
                raise ValueError(
                    'upstreams."*" takes every name that a client gives, so it is a server '
                    "(base_url) without a model"
                )
        tried = self.upstreams.get(self.candidate.model) if self.candidate is not None else None
        if tried is not None and tried.base_url and not tried.model:
            raise ValueError(
                "candidate.model: it answers for other names, so its server has to be told its "
                "own; set upstreams.NAME.model"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings of a file.

        Raises:
            ConfigError: It cannot be read, or something in it is wrong.
        """
        return cls.parse(read_toml(path, "guard's file"), path.name, "guard's file")

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

    def describer(self, around: Path | None = None) -> Callable[[str], EngineSpec | None]:
        """A way to the description of a model by its name under [upstreams] or [engines].

        It gives None for one that a server runs, and the weights that were put in place of others.
        """
        other = {} if around is None else read_replacements(around / self.replaced)

        def spec_of(name: str) -> EngineSpec | None:
            described = self.upstreams.get(name) or self.engines.get(name)
            if described is None:
                known = [*self.upstreams, *self.engines]
                raise ConfigError(
                    f"settings.model = {name!r} is described neither under [upstreams] nor under "
                    f"[engines].{nearest(name, known)}"
                )
            if not described.engine:
                return None
            settings = described.settings
            if name in self.upstreams and name in other:
                settings = {**settings, "model": other[name]}
            return EngineSpec(engine=described.engine, settings=settings)

        return spec_of

    def read_policy(self, around: Path | None = None) -> Policy:
        """The policy with its checks; raises as `policy.read_policy`."""
        return read_policy(self.policy, around, self.opener(), self.describer(around))

    def read_candidate(self, around: Path | None = None) -> Policy | None:
        """The policy of the candidate, if it has one of its own; raises as `policy.read_policy`."""
        if self.candidate is None or not self.candidate.policy:
            return None
        return read_policy(self.candidate.policy, around, self.opener(), self.describer(around))

    def read_prices(self, around: Path | None = None) -> PriceTable | None:
        """The prices; None without a file of them.

        Raises:
            ConfigError: It cannot be read, or a price is wrong.
        """
        if self.prices is None:
            return None
        beside = None if around is None else around / self.prices
        path = beside if beside is not None and not self.prices.is_file() else self.prices
        return PriceTable.read(path)

    def open_upstreams(self, around: Path | None = None) -> dict[str, Upstream]:
        """The models behind the guard, checked to be there.

        Args:
            around: Folder of the guard's file, in which weights are looked for that answer in place
                of the file's own; None: the file's own answer.

        Raises:
            ConfigError: One of them is wrong, or has no model.
            UnknownNameError: There is no engine of a name.
        """
        found: dict[str, Upstream] = {}
        other = {} if around is None else read_replacements(around / self.replaced)
        for name, each in self.upstreams.items():
            if each.base_url:
                found[name] = ServerUpstream(name, each)
            elif is_replaceable(each):
                found[name] = _replaceable(name, each, other.get(name, ""), self.replaced)
            else:
                spec = EngineSpec(engine=each.engine, settings=each.settings)
                check_engine(spec)
                found[name] = EngineUpstream(name, open_engine(spec))
        return found


def _replaceable(name: str, settings: UpstreamSettings, model: str, file: str) -> Upstream:
    try:
        return ReplaceableUpstream(name, settings, model)
    except ConfigError as error:
        if not model:
            raise
        raise ConfigError(f"{file}: {error}; put it back, or oversight guard replace") from None


MODEL = "given"


class GivenWords:
    """An upstream that says what it is given to say."""

    def __init__(self, words: str) -> None:
        self._words = words

    async def answer(self, path: ApiPath, body: Json) -> Json:
        """The words as a whole answer."""
        message = {"role": "assistant", "content": self._words}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    async def stream(self, path: ApiPath, body: Json) -> AsyncGenerator[Json, None]:
        """The words in one event."""
        delta = {"role": "assistant", "content": self._words}
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}

    async def models(self) -> Sequence[str]:
        """One name."""
        return (MODEL,)

    async def aclose(self) -> None:
        """Give back nothing."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Outcome of a policy for a request and an answer."""

    action: Action
    delivered: str
    """Words that the client gets; of a blocked request none."""
    before: str
    """Of these, the words of the answer before a refusal."""
    by: Finding | None
    """The first finding of the action that went furthest."""


async def try_out(policy: Policy, messages: list[Json], answer: str) -> Trial:
    """Apply a policy to a request and the answer that a model gave to it."""
    calls: list[Call] = []
    guard = ModelGuard(policy, {MODEL: GivenWords(answer)}, (calls.append,))
    delivered = ""
    try:
        body = {"model": MODEL, "messages": messages}
        whole = await guard.whole("chat/completions", body)
        delivered = whole["choices"][0]["message"].get("content") or ""
    except ApiError as error:
        if error.code != "content_filter":
            raise
    [call] = calls
    every = [*call.findings, *(f for each in call.choices.values() for f in each.findings)]
    by = next((each for each in every if each.action is call.action), None)
    stop = next((each.stop for each in call.choices.values() if each.stop is not None), None)
    before = delivered
    if stop is not None and stop.action is Action.REFUSE:
        for partly in (True, False):
            before = before.removesuffix(guard.refusal(call, stop, partly=partly))
    return Trial(call.action, delivered, before, by)


def problem_of(case: CaseSettings, trial: Trial) -> str:
    """Difference from what the case expects; empty if there is none."""
    by = trial.by.check if trial.by is not None else ""
    found = f" ({by}: {trial.by.what})" if trial.by is not None else ""
    if trial.action is not case.expect:
        return f"expect = {case.expect.value!r}, and it was {trial.action.value!r}{found}"
    if case.by and by != case.by:
        return f"by = {case.by!r}, and it was {by!r}{found}"
    if case.delivered is not None and trial.before != case.delivered:
        return f"delivered = {case.delivered!r}, and it was {trial.before!r}"
    return ""


async def failed_cases(policy: Policy) -> list[str]:
    """One line for each case of a policy that does not hold.

    Raises:
        OversightError: A check cannot be used at all.
    """
    await policy.prepare()
    lines = []
    for number, case in enumerate(policy.settings.cases):
        messages: list[Json] = [{"role": "user", "content": case.input}]
        problem = problem_of(case, await try_out(policy, messages, case.output))
        if problem:
            lines.append(f"{policy.name}: cases.{number}: {problem}")
    return lines


async def check_cases(policy: Policy) -> None:
    """Refuse a policy of which a case does not hold.

    Raises:
        ConfigError: Names the first, and says how many others there are.
    """
    lines = await failed_cases(policy)
    if lines:
        more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
        raise ConfigError(f"{lines[0]}{more}; mend the policy, or its case")
