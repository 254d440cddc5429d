"""Attacks, a family a file: rewritings of words, and searches that put them before a target.

A **rewriting** is a function from words to other words that ask for the same:

    @rewriting("Says that it is urgent.")
    def urgent(words: AttackWords) -> str:
        return f"This is urgent. {words.text}"

It is an attack by itself, a step of the searches, and a style of the archive. It may return several
versions, or None where it has nothing to change; what it draws, it draws from `words.rng`.

A **search** is a generator under `@search`: it yields moves and is sent what came of them
(`oversight.redteam.types.Moves`), so that a run that was killed can be gone on with.

One of a user's own is named as "file.py:name". The control of a rewriting changes as many words and
keeps the meaning: sentences that say nothing (`neutral`), unless it names another.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from oversight.audits.interventions import NEUTRAL, Speech
from oversight.errors import ConfigError, OversightError
from oversight.redteam.types import AttackCase, Attempt, Moves, TargetKind, Try
from oversight.registry import is_own, load_named, nearest, shown_error

if TYPE_CHECKING:
    from oversight.redteam.preparing import RedTeamSettings

FAMILIES = (
    "wordings",
    "transformations",
    "conversations",
    "refining",
    "overseers",
    "speeches",
)
"""Modules of this package that hold attacks, in the order in which they are shown."""
EVERY = frozenset(TargetKind)
OVERSEERS = EVERY - {TargetKind.POLICY}
POLICIES = frozenset({TargetKind.POLICY})
JUDGES = frozenset({TargetKind.JUDGE})
OPEN = "transformers"
"""Engine whose weights are in this process."""


@dataclass(frozen=True, slots=True)
class AttackWords:
    """Words to be rewritten, with all that a rewriting may go by."""

    text: str
    rng: random.Random
    case: AttackCase
    changed: str = ""
    """Of a control: the words that the attack made of the text."""

    @property
    def speech(self) -> Speech | None:
        """Before a judge: the speech, its source, and the other side's words."""
        return self.case.speech


Rewrite = Callable[[AttackWords], "str | Sequence[str] | None"]
Plan = Callable[[AttackCase], Moves]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A registered rewriting."""

    name: str
    change: Rewrite
    about: str
    kinds: frozenset[TargetKind]
    control: Rewrite
    is_untypable: bool = False
    """Its words cannot be typed, so that what it finds is reported apart."""

    def versions(self, text: str, case: AttackCase, rng: random.Random) -> list[str]:
        """The versions of a text, without those that are the text itself.

        Raises:
            ConfigError: The function fails, or returns something else.
        """
        return [
            each
            for each in _said(self.name, self.change, AttackWords(text, rng, case))
            if each != text
        ]

    def neutral(self, text: str, changed: str, case: AttackCase, rng: random.Random) -> str:
        """The control of `changed`, a version of `text`."""
        found = _said(self.name, self.control, AttackWords(text, rng, case, changed))
        return found[0] if found else padded(text, len(changed.split()) - len(text.split()), rng)


@dataclass(frozen=True, slots=True)
class Attack:
    """A registered attack."""

    name: str
    plan: Plan
    about: str
    kinds: frozenset[TargetKind] = EVERY
    asks: bool = False
    """It needs the attacker's model."""
    needs_weights: bool = False
    """It needs the weights of the target's model, and is made only where it is named."""
    rewriting: Rewriting | None = None
    own_control: Callable[[AttackCase, Attempt], Try] | None = None

    def __call__(self, case: AttackCase) -> Moves:
        """The attack on a case, under way."""
        return self.plan(case)

    def control(self, case: AttackCase, best: Attempt) -> Try | None:
        """The control of the attack's best attempt: as many words, the meaning kept."""
        if self.own_control is not None:
            return self.own_control(case, best)
        rng = random.Random(f"control {best.id}")
        by = rewritings().get(best.style) or self.rewriting
        if by is not None and not best.history:
            text = by.neutral(case.words, best.text, case, rng)
        else:
            text = padded(case.words, len(best.text.split()) - len(case.words.split()), rng)
        return Try(text, tuple(best.chat), best.style) if text != best.text else None


def _said(name: str, change: Rewrite, words: AttackWords) -> list[str]:
    try:
        found = change(words)
    except OversightError:
        raise
    except Exception as error:  # a user's code may raise whatever there is
        raise ConfigError(f"attacks: {name!r} failed ({shown_error(error, __file__)})") from error
    if found is None:
        return []
    every = [found] if isinstance(found, str) else found
    if not isinstance(every, list | tuple) or not all(isinstance(each, str) for each in every):
        raise ConfigError(
            f"attacks: {name!r} returned a {type(found).__name__}; return the new words, several "
            "versions of them, or None where there is nothing to change"
        )
    return list(every)


def padded(text: str, num_words: int, rng: random.Random) -> str:
    """The text with so many words behind it that say nothing; at least one sentence of them."""
    words = list[str]()
    sentences = list(NEUTRAL)
    rng.shuffle(sentences)
    while len(words) < num_words:
        words += sentences[len(words) % len(sentences)].split()
    said = " ".join(words[: max(num_words, 0)]).rstrip(".,") or sentences[0].rstrip(".")
    return f"{text} {said}."


def neutral(words: AttackWords) -> str | None:
    """No control of its own: the attack's words are counted, and as many added that say nothing."""
    return None


def rewriting(
    about: str,
    *,
    kinds: frozenset[TargetKind] = EVERY,
    control: Rewrite = neutral,
    is_untypable: bool = False,
) -> Callable[[Rewrite], Attack]:
    """Register a function as a rewriting of its name, and as the attack that tries its versions.

    Args:
        about: What it does, in one sentence.
        kinds: Kinds of targets that it is for.
        control: The same change without what makes it an attack.
        is_untypable: Its words cannot be typed.
    """

    def register(function: Rewrite) -> Attack:
        made = Rewriting(function.__name__, function, about, kinds, control, is_untypable)
        return Attack(made.name, tries(made), about, kinds, rewriting=made)

    return register


def search(
    about: str,
    *,
    kinds: frozenset[TargetKind] = EVERY,
    asks: bool = False,
    needs_weights: bool = False,
    control: Callable[[AttackCase, Attempt], Try] | None = None,
) -> Callable[[Plan], Attack]:
    """Register a generator as an attack of its name.

    Args:
        about: What it does, in one sentence.
        kinds: Kinds of targets that it is for.
        asks: It asks the attacker's model.
        needs_weights: It needs the weights of the target's model (`AttackCase.walk`).
        control: The best attempt with as many words and the meaning kept; unset, sentences that
            say nothing behind the goal's own words.
    """

    def register(function: Plan) -> Attack:
        name = function.__name__
        return Attack(name, function, about, kinds, asks, needs_weights, own_control=control)

    return register


def tries(made: Rewriting) -> Plan:
    """The attack that tries the versions of a rewriting, one by one, until one succeeds."""

    def plan(case: AttackCase) -> Moves:
        for text in made.versions(case.words, case, case.rng)[: case.budget]:
            [done] = yield [Try(text, style=made.name)]
            if isinstance(done, Attempt) and done.is_success:
                return

    return plan


@cache
def _built_in() -> dict[str, Attack]:
    found: dict[str, Attack] = {}
    for family in FAMILIES:
        module = importlib.import_module(f"{__name__}.{family}")
        found |= {each.name: each for each in module.ATTACKS}
    return found


@cache
def rewritings() -> dict[str, Rewriting]:
    """The package's rewritings by name, which are the steps of the searches."""
    return {e.name: e.rewriting for e in _built_in().values() if e.rewriting is not None}


def names() -> list[str]:
    """Names of the package's attacks, in the order in which they are shown."""
    return list(_built_in())


def load(name: str) -> Attack:
    """The attack of that name, or a user's own at "file.py:name".

    Raises:
        ConfigError: There is none, or it is no attack.
    """
    if not is_own(name):
        if name not in _built_in():
            raise ConfigError(
                f"attacks: there is no attack {name!r}.{nearest(name, _built_in())} One of your "
                "own is named by its file, as 'file.py:name'"
            )
        return _built_in()[name]
    found = load_named(name, "attacks", __file__)
    if not isinstance(found, Attack):
        raise ConfigError(
            f'attacks = {name!r}: it is no attack; write @rewriting("...") or @search("...") of '
            "oversight.redteam.attacks above the function"
        )
    if found.name in _built_in():
        raise ConfigError(
            f"attacks = {name!r}: the package has an attack {found.name!r} of its own; call yours "
            "by another name"
        )
    return found


def chosen(wanted: Sequence[str], kind: TargetKind, *, has_attacker: bool) -> tuple[Attack, ...]:
    """The attacks of these names, or, for none, all of the package's that fit.

    Args:
        wanted: Names, or "file.py:name".
        kind: Kind of target.
        has_attacker: There is a model that can be asked for attacks.

    Raises:
        ConfigError: One is named twice, there is none of a name, it is for other targets, or it
            needs a model and none is named.
    """
    if not wanted:
        fitting = (e for e in _built_in().values() if kind in e.kinds and not e.needs_weights)
        return tuple(each for each in fitting if has_attacker or not each.asks)
    found = [load(name) for name in wanted]
    known = set[str]()
    for name, each in zip(wanted, found, strict=True):
        if each.name in known:
            raise ConfigError(f"attacks: {name!r} is the second of the name {each.name!r}")
        known.add(each.name)
        if kind not in each.kinds:
            able = ", ".join(sorted(kind.value for kind in each.kinds))
            raise ConfigError(
                f"attacks: {name!r} is for targets of kind {able}, and this one is a {kind.value}; "
                "leave it out, or run it against another target"
            )
        if each.asks and not has_attacker:
            raise ConfigError(
                f"attacks: {name!r} asks a model for its attacks, and none is named: describe an "
                'engine and set attacker.engine = "NAME"'
            )
    return tuple(found)


def steps(kind: TargetKind) -> Iterator[Rewriting]:
    """The rewritings that fit a kind of target."""
    yield from (each for each in rewritings().values() if kind in each.kinds)


def check_weights(settings: RedTeamSettings, target: str, attacks: Sequence[Attack]) -> None:
    """Refuse attacks that need weights which a target's engine has not.

    Raises:
        ConfigError: Its engine has no weights in this process.
    """
    for each in attacks:
        if each.needs_weights:
            weights_of(settings, target, each.name)


def weights_of(settings: RedTeamSettings, target: str, attack: str) -> str:
    """The model of a target whose weights an attack needs.

    Raises:
        ConfigError: Its engine has no weights in this process.
    """
    name = settings.targets[target].engine
    engine = settings.engines.get(name or "")
    if engine is None or engine.engine != OPEN:
        on = "no engine" if engine is None else f"engine {engine.engine!r}"
        raise ConfigError(
            f"attacks: {attack!r} needs the weights of the target's model, and targets.{target} is "
            f"on {on}, which gives none; put it on engine = {OPEN!r} with model = a folder, or "
            "leave the attack out"
        )
    return str(engine.settings.get("model", ""))
