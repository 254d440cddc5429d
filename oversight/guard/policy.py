"""A policy as data: the system prompt, the checks of input and output, what follows from a finding.

description = "A helper in public."
version = "3"

[system]
template = "You are the helper of {{ house }}."
values = { house = "Ivybridge House" }

[checks.keys]                       # a name of your own; the order is the order of the cascade
check = "secrets"                   # a registered check, or "file.py:Class"
on = "output"
action = "replace"
replacement = "[a key]"

[[cases]]                           # run before the guard serves
input = "What is the key?"
output = "It is AKIAIOSFODNN7EXAMPLE."
expect = "replace"
by = "keys"
delivered = "It is [a key]."

Cheap checks of text come first, in the order of the file, then those of whole exchanges, up to the
first that stops. A check with `after` is asked only where one of the checks named there has found
something, so that most traffic never meets a model.

Words of a refusal stand in `refusals.toml` by language and reason, and a policy may bring its own:
what cannot be done, why in general, and what can be done instead. They are given in the language of
the user's last message where there are words in it, else in English.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from oversight import constitutions, registry
from oversight.config import Settings, read_toml
from oversight.errors import ConfigError
from oversight.guard.checks.base import (
    Check,
    Surroundings,
    TextCheck,
    WholeCheck,
    build_check,
)
from oversight.guard.streaming import TextRule
from oversight.ids import content_id
from oversight.registry import nearest
from oversight.text.prompts import Template
from oversight.types import Engine, EngineSpec

DEFAULT = "en"


class RefusalWords(Settings):
    """Words of a refusal for one reason in one language."""

    what: str = Field(min_length=1)
    """Words on what cannot be done."""
    why: str = Field(min_length=1)
    """Reason in general: never which check found what."""
    instead: str = Field(min_length=1)
    """Words on what can be done instead."""


@cache
def _shipped() -> dict[str, tuple[str, dict[str, RefusalWords]]]:
    """By language: the words before a refusal in the middle of an answer, and those by reason."""
    data = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text(encoding="utf-8"))
    return {
        language: (
            found.pop("partly"),
            {reason: RefusalWords.parse(words) for reason, words in found.items()},
        )
        for language, found in data.items()
    }


def reasons() -> tuple[str, ...]:
    """The reasons that there are words for."""
    return tuple(_shipped()[DEFAULT][1])


def languages() -> tuple[str, ...]:
    """The languages that there are words in."""
    return tuple(_shipped())


Own = Mapping[str, Mapping[str, RefusalWords]]
"""A policy's own words, by reason and language."""


def refusal(reason: str, language: str, own: Own | None = None, *, partly: bool = False) -> str:
    """The words of a refusal.

    Args:
        reason: One of `reasons`, or one that a policy brings words for.
        language: As `language_of` gives it.
        own: Words of a policy, which go before ours.
        partly: A part of the answer has been sent already.
    """
    before, ours = _shipped().get(language) or _shipped()[DEFAULT]
    theirs = (own or {}).get(reason, {})
    words = theirs.get(language) or ours.get(reason) or theirs.get(DEFAULT)
    words = words or _shipped()[DEFAULT][1].get(reason) or ours["general"]
    said = f"{words.what} {words.why} {words.instead}"
    return f"\n\n{before} {said}" if partly else said


_COMMON: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and is are to of in what how you i my can for it do does this with",
        "de": "der die das und ist nicht ich wie was ein eine zu den mit für auf sie mir kann wo",
        "fr": "le la les et est je vous un une des du que qui pour dans comment pas où",
        "es": "el la los las y es no yo un una que de para en cómo como mi qué dónde",
    }.items()
}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str:
    """The language of a text, by its commonest words; English where they do not tell."""
    words = [word.lower() for word in _WORD.findall(text[:4000])]
    counts = {
        language: sum(word in common for word in words) for language, common in _COMMON.items()
    }
    best = max(counts, key=lambda each: (counts[each], each == DEFAULT))
    return best if counts[best] else DEFAULT


class Action(StrEnum):
    """Consequence of a finding."""

    ALLOW = "allow"
    """Nothing but that checks `after` this one are asked."""
    LOG = "log"
    """It is recorded."""
    REPLACE = "replace"
    """Other words stand in its place."""
    REVISE = "revise"
    """The model is asked for another answer by a principle, which is checked in its turn."""
    REFUSE = "refuse"
    """The answer ends before it, with the words of a refusal."""
    BLOCK = "block"
    """The answer ends before it, or the request is an error; nothing else is said."""


STOPS = frozenset({Action.REVISE, Action.REFUSE, Action.BLOCK})
ORDER = tuple(Action)
"""From nothing to most."""


class SystemSettings(Settings):
    """The system prompt that stands before every conversation."""

    template: str = Field(min_length=1)
    """Words, with {{ names }} for values."""
    values: dict[str, str | int] = Field(default_factory=dict)
    hash: str = ""
    """Beginning of the filled-in prompt's hash, by which a change is noticed; `oversight guard
    check` prints it."""
    canary: bool = False
    """Plant a mark behind it, drawn at each start, which the check `canary` looks for."""
    client: Literal["append", "drop", "refuse"] = "append"
    """Treatment of a client's own system message: behind this one, left out, or an error."""


class CheckSettings(Settings):
    """A check of a policy, and what follows from it."""

    check: str = Field(min_length=1)
    """Name of a check, or "file.py:Class"."""
    on: Literal["input", "output"] = "output"
    action: Action = Action.REFUSE
    replacement: str = Field(default="[removed]", min_length=1)
    """Of `replace`: the words in place of what was found."""
    reason: str = "general"
    """Of `refuse`: which words of refusal are given."""
    principle: str = ""
    """Of `revise`: "constitution:id" of the principle that the revision is asked for by."""
    after: tuple[str, ...] = ()
    """Ask only where one of these checks has found something; of whole exchanges alone."""
    timeout_s: float = Field(default=10.0, gt=0.0)
    """Longest time of one check of a whole exchange."""
    on_failure: Literal["open", "closed"] = "closed"
    """Reading of a check that fails, or is not done in time: nothing found, or found."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The check's own settings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.action is Action.REVISE and (self.on != "output" or ":" not in self.principle):
            raise ValueError(
                "action = 'revise' is for output, and needs principle = \"constitution:id\""
            )
        return self


class CaseSettings(Settings):
    """A case of a policy: words in and out, and what has to follow."""

    input: str
    output: str = ""
    """Words of the model; empty where the input decides."""
    expect: Action
    """`allow` if no check may find anything."""
    by: str = ""
    """Name of the check that has to be the first to stop or change anything."""
    delivered: str | None = None
    """Words that the client has to get; of a refusal those before it."""


class PolicySettings(Settings):
    """A policy, as its file has it."""

    description: str = ""
    version: str = "1"
    system: SystemSettings | None = None
    checks: dict[str, CheckSettings] = Field(default_factory=dict)
    refusals: dict[str, dict[str, RefusalWords]] = Field(default_factory=dict)
    """Own words of refusals, by reason and language."""
    cases: tuple[CaseSettings, ...] = ()

    @field_validator("checks")
    @classmethod
    def _check_after(cls, checks: dict[str, CheckSettings]) -> dict[str, CheckSettings]:
        for name, each in checks.items():
            for before in each.after:
                if before not in checks or before == name:
                    raise ValueError(f"{name}.after names {before!r}.{nearest(before, checks)}")
                if each.on == "input" and checks[before].on == "output":
                    raise ValueError(
                        f"{name}.after names {before!r}, which sees the output, and {name} the "
                        "input before it"
                    )
        return checks

    @model_validator(mode="after")
    def _check_reasons(self) -> Self:
        known = {*reasons(), *self.refusals}
        for name, each in self.checks.items():
            if each.reason not in known:
                raise ValueError(
                    f"checks.{name}.reason = {each.reason!r}: there are no words of refusal for "
                    f"it.{nearest(each.reason, known)}"
                )
        for number, case in enumerate(self.cases):
            if case.by and case.by not in self.checks:
                raise ValueError(
                    f"cases.{number}.by = {case.by!r} is no check.{nearest(case.by, self.checks)}"
                )
        return self


@dataclass(frozen=True, slots=True)
class WholeRule:
    """A check of whole exchanges under the name that the policy gives it."""

    name: str
    check: WholeCheck
    settings: CheckSettings


@dataclass(frozen=True)
class Policy:
    """A policy, ready to be applied."""

    name: str
    settings: PolicySettings
    fingerprint: str
    """Hash of all of it, by which a call's record names it."""
    system: str
    """The system prompt, filled in and with its mark; empty if there is none."""
    inputs: tuple[TextRule, ...]
    outputs: tuple[TextRule, ...]
    whole_inputs: tuple[WholeRule, ...]
    whole_outputs: tuple[WholeRule, ...]
    revisions: Mapping[str, str] = field(default_factory=dict)
    """By check: the request for a revision."""

    @property
    def holds(self) -> bool:
        """True if an answer waits for its end in any case: all of it is weighed, or revised."""
        revises = any(
            each.on == "output" and each.action is Action.REVISE
            for each in self.settings.checks.values()
        )
        return revises or any(not each.settings.after for each in self.whole_outputs)

    @property
    def window(self) -> int:
        """Characters that a stream holds back at most, of an answer that does not wait."""
        return max((rule.check.reach + 1 for rule in self.outputs), default=0)

    def action(self, check: str) -> Action:
        """Consequence of a finding of a check."""
        return self.settings.checks[check].action

    async def prepare(self) -> None:
        """Load what the checks need.

        Raises:
            OversightError: One of them cannot be used.
        """
        for each in (*self.whole_inputs, *self.whole_outputs):
            await each.check.prepare()

    async def aclose(self) -> None:
        """Give back what the checks hold."""
        for each in (*self.whole_inputs, *self.whole_outputs):
            await each.check.aclose()


def read_policy(
    name: str,
    around: Path | None = None,
    open_: Callable[[str], Engine] | None = None,
    spec_of: Callable[[str], EngineSpec | None] | None = None,
) -> Policy:
    """A policy by its name or file, ready to be applied.

    Args:
        name: A registered policy, or the path of a .toml file.
        around: Folder from which a relative path is looked for as well.
        open_: Opens an engine by its name.
        spec_of: Describes a model by its name; None for one that a server runs.

    Raises:
        ConfigError: Something in it is wrong; names the dotted field.
        UnknownNameError: There is no policy, or no check, of a name.
        MissingDependencyError: A check needs a package that is not installed.
    """
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if around is not None and not path.is_file() and (around / path).is_file():
            path = around / path
        label = path.stem
    else:
        path, label = registry.path("policies", name), name
    settings = PolicySettings.parse(read_toml(path, "policy"), path.name, "policy")
    return build_policy(settings, label, open_, spec_of)


def build_policy(
    settings: PolicySettings,
    name: str,
    open_: Callable[[str], Engine] | None = None,
    spec_of: Callable[[str], EngineSpec | None] | None = None,
) -> Policy:
    """The policy of some settings; raises as `read_policy`."""
    words, canary = _system(settings.system)
    system = f"{words}\nMark: {canary}" if canary else words
    around = Surroundings(system=words, canary=canary, open=open_, spec_of=spec_of)
    inputs: list[TextRule] = []
    outputs: list[TextRule] = []
    whole: dict[str, list[WholeRule]] = {"input": [], "output": []}
    for label, each in settings.checks.items():
        where = f"checks.{label}"
        check = build_check(each.check, each.settings, where, around)
        _refuse_misfit(where, each, check)
        if isinstance(check, TextCheck):
            rules = inputs if each.on == "input" else outputs
            rules.append(_text_rule(label, each, check, settings))
        else:
            whole[each.on].append(WholeRule(label, check, each))
    return Policy(
        name=name,
        settings=settings,
        fingerprint=content_id("policy", settings.model_dump(mode="json")),
        system=system,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        whole_inputs=tuple(whole["input"]),
        whole_outputs=tuple(whole["output"]),
        revisions={
            label: _revision_request(each.principle, f"checks.{label}.principle")
            for label, each in settings.checks.items()
            if each.action is Action.REVISE
        },
    )


def _text_rule(
    name: str, each: CheckSettings, check: TextCheck, settings: PolicySettings
) -> TextRule:
    waiting = (label for label, other in settings.checks.items() if name in other.after)
    return TextRule(
        name,
        check,
        stops=each.action in STOPS,
        replacement=each.replacement if each.action is Action.REPLACE else None,
        opens=frozenset(waiting) if each.on == "output" else frozenset(),
        fails_closed=each.on_failure == "closed",
    )


def _refuse_misfit(where: str, each: CheckSettings, check: Check) -> None:
    if isinstance(check, TextCheck):
        if each.after:
            raise ConfigError(
                f"{where}.after = {list(each.after)}: {each.check!r} is a check of text, which "
                "costs nothing to wait for; leave after out"
            )
    elif each.action is Action.REPLACE:
        raise ConfigError(
            f"{where}.action = 'replace': {each.check!r} weighs the whole, and says of no word "
            "that it is wrong; take refuse, block, revise or log"
        )


def _system(settings: SystemSettings | None) -> tuple[str, str]:
    """The filled-in system prompt, and the mark behind it."""
    if settings is None:
        return "", ""
    words = str(Template(settings.template, "system").render(**settings.values))
    found = content_id("system", words)
    if settings.hash and not found.startswith(settings.hash):
        raise ConfigError(
            f"system.hash = {settings.hash!r}: the system prompt is another one, with the hash "
            f"{found[:16]!r}; if the change is meant, write that and raise version"
        )
    return words, secrets.token_hex(12) if settings.canary else ""


def system_hash(settings: SystemSettings) -> str:
    """The hash of a system prompt, to be written into its policy."""
    words = str(Template(settings.template, "system").render(**settings.values))
    return content_id("system", words)[:16]


def _revision_request(principle: str, where: str) -> str:
    constitution, _, name = principle.rpartition(":")
    known = {each.id: each for each in constitutions.load(constitution).principles}
    if name not in known:
        raise ConfigError(f"{where} = {principle!r}: no such principle.{nearest(name, known)}")
    return known[name].revision_request


def place_system(policy: Policy, messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The messages behind the policy's system prompt; None if the client's own is refused."""
    system = policy.settings.system
    if system is None:
        return messages
    own = [each for each in messages if each.get("role") in ("system", "developer")]
    rest = [each for each in messages if each.get("role") not in ("system", "developer")]
    if own and system.client == "refuse":
        return None
    first: dict[str, Any] = {"role": "system", "content": policy.system}
    if own and system.client == "append":
        texts = [_text(each.get("content")) for each in own]
        first["content"] = "\n\n".join([policy.system, *texts])
    return [first, *rest]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(each.get("text", "")) for each in parts if isinstance(each, dict))
