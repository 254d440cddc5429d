"""Registration of losses: what a loss is, the decorators that make one, and losses by name.

A decorator says of a loss what the training loop has to know: what its sum is divided by, whether
it sorts a step's pairs, what it has to be given. It stands above a function in any module of this
package, or in a file of the user's own. Names are read from the modules' text, so that listing
them imports nothing.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from oversight.errors import ConfigError, OversightError
from oversight.registry import check_path, load_named, nearest, shown_error
from oversight.train.losses.options import check, checked, defaults, settings_of

Family = Literal["reward", "preference", "unpaired", "policy"]
Normalizer = Literal["rows", "tokens", "sequences", "constant"]
"""Global counts of a step: weighted rows (pairs, rankings or labelled responses), tokens learnt
from, sequences, or sequences times the longest response that is allowed."""
PolicyNormalizer = Literal["tokens", "sequences", "constant"]
AdvantageScale = Literal["group", "batch", "none"]
"""The divisor of group advantages: see `advantages.group`."""
LossFunction = Callable[..., Any]
"""Gives a loss, a scalar tensor, and its metrics; all its options are keywords with defaults."""

FAMILIES: tuple[Family, ...] = get_args(Family)
GIVEN: dict[Family, tuple[str, ...]] = {
    "reward": ("normalizer", "weight_B"),
    "preference": ("normalizer",),
    "unpaired": ("normalizer",),
    "policy": ("normalizer", "extras"),
}
"""Keywords by which trainers give a loss of each family what is no option of the run."""
BOUND = {
    "extras": "extras: Extras = NO_EXTRAS",
    "kl": "kl: float | Tensor = 0.0",
    "progress": "progress: float = 1.0",
}
"""Of these, what is not always given: it has a default, which shows its kind."""
PAIRED = ("soft_label_B", "tie_B", "margin_B")
RANKED = ("ranks_BK", "mask_BK")


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss with what the training loop must know of it."""

    name: str
    family: Family
    loss: LossFunction
    """The function, which checks its options at each call."""
    normalizer: Normalizer = "rows"
    """The count that the loop gives as `normalizer`."""
    scale: AdvantageScale = "group"
    """Of a policy loss: what group advantages are divided by where the settings do not say."""
    sorts: bool = False
    """It sorts the pairs of a step among one another: they come in one call, of one weight."""
    needs_kl: bool = False
    """It takes `kl`, the estimate of the divergence from the reference over the whole step."""
    rankings: bool = False
    """It takes rankings of K responses whole, not their pairs."""
    needs_progress: bool = False
    """It takes `progress`, the share of the run's steps that are done."""
    at_start: Callable[..., float | None] | None = None
    """The closed form of `start_value`, of the loss's options by name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss and its metrics."""
        return self.loss(*args, **kwargs)

    @property
    def unpaired(self) -> bool:
        """It takes single responses called good or bad."""
        return self.family == "unpaired"

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.loss) or "").partition("\n")[0]

    @property
    def given(self) -> tuple[str, ...]:
        """Keywords that the trainer gives it at a call: counts, and what it reads of its rows."""
        about = {name: getattr(self, name) for name in FLAGS}
        return _given(self.family, **about)

    @property
    def options(self) -> dict[str, Any]:
        """Options that a user may set, with the defaults."""
        known = defaults(self.loss)
        return {name: value for name, value in known.items() if name not in self.given}

    def bind(self, options: Mapping[str, Any], *, where: str = "options") -> LossFunction:
        """The function with a user's options filled in; the trainer adds the rest at each call.

        Raises:
            ConfigError: It has no such option, or not with such a value.
        """
        known = self.options
        for key in options:
            place = f"{where}.{key}".removeprefix(".")
            if key in self.given:
                raise ConfigError(
                    f"{place}: the trainer gives the {self.family} loss {self.name!r} its {key!r}, "
                    f"from the rows and the step; leave it out.{nearest('', known)}"
                )
            if key not in known:
                raise ConfigError(
                    f"unknown setting {place!r} of the {self.family} loss {self.name!r}."
                    f"{nearest(key, known)}"
                )
        check(self.loss, options, where)
        return functools.partial(self.loss, **options)

    def start_value(self, **given: Any) -> float | None:
        """The loss of one plain row while the policy equals its reference; None if not known."""
        return None if self.at_start is None else self.at_start(**{**self.options, **given})


def policy_loss(
    *, normalizer: PolicyNormalizer, scale: AdvantageScale = "group"
) -> Callable[[LossFunction], Loss]:
    """Register `function(batch: PolicyBatch, *, normalizer, extras, ...)` by its name.

    Args:
        normalizer: Count that the loop divides its sum by: "tokens" learnt from, "sequences", or
            "constant", sequences times `sampling.max_new_tokens`.
        scale: Divisor of group advantages where the settings do not say.
    """
    if normalizer not in get_args(PolicyNormalizer):
        raise ConfigError(f"normalizer = {normalizer!r}: give tokens, sequences or constant")
    if scale not in get_args(AdvantageScale):
        raise ConfigError(f"scale = {scale!r}: give group, batch or none")
    return _register("policy", normalizer=normalizer, scale=scale)


def preference_loss(
    *,
    sorts: bool = False,
    needs_progress: bool = False,
    start_value: Callable[..., float | None] | None = None,
) -> Callable[[LossFunction], Loss]:
    """Register `function(pairs: PairLogps, *, normalizer, ...)` by its name.

    Args:
        sorts: It sorts the pairs of a step among one another.
        needs_progress: It takes `progress`, the share of the run's steps that are done.
        start_value: From its options to the loss of one plain pair while the policy equals the
            reference, for tests.
    """
    return _register("preference", sorts=sorts, needs_progress=needs_progress, at_start=start_value)


def unpaired_loss(
    *, needs_kl: bool = False, start_value: Callable[..., float | None] | None = None
) -> Callable[[LossFunction], Loss]:
    """Register `function(rows: UnpairedLogps, *, normalizer, ...)` by its name.

    Args:
        needs_kl: It takes `kl`, an estimate of KL(policy || reference) over the whole step.
        start_value: As of `preference_loss`, of one response.
    """
    return _register("unpaired", needs_kl=needs_kl, at_start=start_value)


def reward_loss(*, rankings: bool = False) -> Callable[[LossFunction], Loss]:
    """Register a loss of scalar rewards by its name.

    `function(chosen_B, rejected_B, *, normalizer, weight_B, soft_label_B, tie_B, margin_B, ...)`

    Args:
        rankings: It takes whole rankings instead:
            `function(rewards_BK, *, normalizer, weight_B, ranks_BK, mask_BK, ...)`.
    """
    return _register("reward", rankings=rankings)


DECORATORS: dict[str, Family] = {
    "reward_loss": "reward",
    "preference_loss": "preference",
    "unpaired_loss": "unpaired",
    "policy_loss": "policy",
}


FLAGS = ("needs_kl", "rankings", "needs_progress")
"""Facts about a loss on which it depends what it is given."""


def _given(
    family: Family, *, needs_kl: bool, rankings: bool, needs_progress: bool
) -> tuple[str, ...]:
    """The keywords that the trainer gives a loss of a family at a call."""
    found = GIVEN[family] + ("kl",) * needs_kl + ("progress",) * needs_progress
    if family == "reward":
        found += RANKED if rankings else PAIRED
    return found


def _register(family: Family, **known: Any) -> Callable[[LossFunction], Loss]:
    def register(function: LossFunction) -> Loss:
        name = function.__name__
        about = {name: bool(known.get(name)) for name in FLAGS}
        needed = _given(family, **about)
        parameters = inspect.signature(function).parameters
        if missing := [each for each in needed if each not in parameters]:
            raise ConfigError(
                f"the {family} loss {name!r} takes no argument {missing[0]!r}, and the trainer "
                f"gives it; it needs the keywords {', '.join(needed)}"
            )
        for each in BOUND:
            if each in needed and parameters[each].default is inspect.Parameter.empty:
                raise ConfigError(
                    f"the {family} loss {name!r}: {each!r} has no default; give it one, such as "
                    f"{BOUND[each]}"
                )
        return Loss(name, family, checked(function), **known)

    return register


@functools.cache
def _modules() -> dict[Family, dict[str, str]]:
    """The module of each loss of each family, read from the modules' text."""
    found: dict[Family, dict[str, str]] = {family: {} for family in FAMILIES}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(f"@{decorator}(" in text for decorator in DECORATORS):
            continue
        for node in ast.parse(text).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if (by := getattr(called, "id", None)) not in DECORATORS:
                    continue
                before = found[DECORATORS[by]].setdefault(node.name, path.stem)
                if before != path.stem:
                    raise ValueError(f"{by} {node.name!r} stands in {before} and in {path.stem}")
    return found


def names(family: str) -> list[str]:
    """All names of a family, found without importing any.

    Raises:
        ConfigError: There is no such family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"there is no family of losses {family!r}.{nearest(family, FAMILIES)}")
    return sorted(_modules()[family])


def load(family: str, name: str, *, where: str = "loss") -> Loss:
    """The one loss that `name` stands for; `where` is the setting it came from.

    Raises:
        ConfigError: As `find`.
    """
    return find((family,), name, where=where)


def find(families: Sequence[str], name: str, *, where: str = "loss") -> Loss:
    """The loss of that name in the first of `families` that has one, or the user's own.

    Args:
        families: Families of losses that the trainer takes.
        name: A registered name, or "file.py:function" or "package.module:function".
        where: The setting that the name came from.

    Raises:
        ConfigError: There is no such family, no loss of that name, or the user's is no loss of
            these families.
    """
    check_path(name, where, "loss", code="function")
    known = {each: family for family in reversed(families) for each in names(family)}
    kind = f"{families[0]} loss" if len(families) == 1 else "loss"
    if ":" in name:
        loss = _own(name, where)
        if loss.family not in families:
            raise ConfigError(
                f"{where} = {name!r}: it is registered by @{loss.family}_loss, and this trainer "
                f"takes {' or '.join(f'@{family}_loss' for family in families)}"
            )
        return loss
    if name not in known:
        raise ConfigError(
            f"{where} = {name!r}: there is no {kind} of that name.{nearest(name, known)}"
        )
    module = import_module(f"{__package__}.{_modules()[known[name]][name]}")  # type: ignore[index]
    loss = getattr(module, name)
    assert isinstance(loss, Loss)
    return loss


def options(family: str, name: str) -> dict[str, Any]:
    """The options of a loss with their defaults."""
    return load(family, name).options


def bind(family: str, name: str, given: Mapping[str, Any], *, where: str = "loss") -> LossFunction:
    """The function of a loss with its options filled in.

    Raises:
        ConfigError: There is no such loss, it has no such option, or not with such a value.
    """
    return load(family, name, where=where).bind(given, where=where)


_own_losses: dict[tuple[str, Path], Loss] = {}
"""Losses of files by name and folder: a trainer asks for its own in each step."""


def _own(name: str, where: str) -> Loss:
    """The user's loss, whose file is told and imported once."""
    key = (name, Path.cwd())
    if key not in _own_losses:
        found = load_named(name, where, __file__)
        if not isinstance(found, Loss):
            raise ConfigError(
                f"{where} = {name!r}: the function is not registered as a loss; put a decorator "
                "above it, such as @policy_loss(normalizer='sequences') from "
                "oversight.train.losses"
            )
        try:  # what pydantic cannot check is found here and not in a run
            settings_of(inspect.unwrap(found.loss))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"{where} = {name!r}: its arguments cannot be checked ({reason}); annotate each "
                "by a type that pydantic knows"
            ) from error
        known = {each: getattr(found, each) for each in Loss.__slots__}
        _own_losses[key] = Loss(**known | {"name": name, "loss": _guarded(found, name, where)})
    return _own_losses[key]


def _guarded(loss: Loss, name: str, where: str) -> LossFunction:
    """The user's function, whose errors name it, with the file and line they come from."""

    @functools.wraps(loss.loss)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = loss.loss(*args, **kwargs)
        except OversightError:
            raise
        except Exception as error:
            raised = shown_error(error, __file__, inspect.getfile(checked))
            raise ConfigError(f"{where} = {name!r}: it raised {raised}; mend it") from error
        if (
            not isinstance(result, tuple)
            or len(result) != 2
            or getattr(result[0], "shape", None) != ()
        ):
            raise ConfigError(
                f"{where} = {name!r}: it gave {type(result).__name__}; a loss gives a tensor of "
                "one number and a dict of metrics, (loss, metrics)"
            )
        return result

    return guarded
