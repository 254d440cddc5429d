"""Options of a loss: typed in its signature, made one pydantic model, and refused by name.

    @policy_loss(normalizer="tokens")
    def ppo(batch, *, normalizer, clip_low: Share = 0.2, dual_clip: DualClip = None, ...): ...

`Loss.bind` checks the options of a run before it begins. `checked` does so at each call of a
function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache, wraps
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    InstanceOf,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from oversight.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Part of an option's annotation: the option is above `least` plus another option's value."""

    least: float
    option: str
    """It stands before this one in the signature."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The schema of the number, with the comparison behind it."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def bound(self, options: Mapping[str, Any]) -> float:
        """The bound beside the other `options`."""
        return self.least + float(options[self.option])

    def _check(self, value: float, info: ValidationInfo) -> float:
        # Where the other one is refused, it is the one to be told of.
        if self.option in info.data and value <= self.bound(info.data):
            raise ValueError(f"not above {self.bound(info.data):g}")
        return value


Estimator = Literal["k1", "k2", "k3"]
LossEstimator = Literal["k2", "k3", "k2_ratio", "k3_ratio"]
"""Estimators of a divergence, and those that have a gradient (`losses/kl.py`)."""

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Smoothing = Annotated[float, Field(ge=0, lt=0.5)]
"""The probability that a label is flipped: at a half, labels would say nothing."""
DualClip = Annotated[float, AtLeast(1, "clip_high")] | None


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which refuses arguments that its annotations do not allow.

    Raises:
        ConfigError: At a call, as `check`.
    """
    names = tuple(inspect.signature(function).parameters)

    @wraps(function)
    def with_check(*args: P.args, **kwargs: P.kwargs) -> R:
        check(function, dict(zip(names, args, strict=False)) | kwargs)
        return function(*args, **kwargs)

    return with_check


def check(of: Callable[..., Any], given: Mapping[str, Any], where: str | None = None) -> None:
    """Refuse what the annotations of a function or data class do not allow.

    Args:
        of: The function or class.
        given: Arguments by name; what is not given has its default.
        where: The dotted setting that the arguments came from; None if from no settings.

    Raises:
        ConfigError: It names the option, the value and what is accepted.
    """
    model = settings_of(inspect.unwrap(of))
    try:
        model.__pydantic_validator__.validate_python(dict(given))
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
        options = defaults(of) | dict(given)
        place = f"loss option {name!r}" if where is None else f"{where}.{name}".removeprefix(".")
        accepted = _accepted(_hints(inspect.unwrap(of))[name], options)
        raise ConfigError(f"{place} = {options[name]!r}: give {accepted}") from None


@cache
def settings_of(of: Callable[..., Any]) -> type[BaseModel]:
    """The arguments of a function or data class as a pydantic model, every one optional.

    Numbers are finite, and no text or truth value is taken for one.
    """
    known = defaults(of)
    fields: dict[str, Any] = {
        name: (
            Annotated[hint, InstanceOf()] if is_dataclass(hint) else hint,  # type: ignore[type-arg]
            FieldInfo(default=known.get(name), validate_default=name in known),
        )
        for name, hint in _hints(of).items()
    }
    strict = ConfigDict(
        strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, extra="forbid"
    )
    return create_model(f"{of.__name__} options", __config__=strict, **fields)


def defaults(of: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that have a default, with it: a loss's options."""
    parameters = inspect.signature(inspect.unwrap(of)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def range_of(of: Callable[..., Any], name: str) -> str | None:
    """The numbers that an option may be, such as "above 0"; None where it may be any."""
    return range_text(_hints(inspect.unwrap(of))[name])


def range_text(hint: Any, options: Mapping[str, Any] | None = None) -> str | None:
    """The bounds in an annotation, to follow "a number"; None where it has none.

    Args:
        hint: The annotation.
        options: Values of all options, for the bound that one of them makes.
    """
    bounds = _bounds(hint)
    if (above := bounds.get("above")) is not None:
        made = "" if options is None else f" = {above.bound(options):g}"
        return f"above {above.least:g} + {above.option}{made}"
    if not bounds:
        return None
    low, high = (next((bounds[n] for n in pair if n in bounds), None) for pair in (LOW, HIGH))
    if high is None:
        return f"above {low:g}" if "gt" in bounds else f"of at least {low:g}"
    if low is None:
        return f"below {high:g}" if "lt" in bounds else f"of at most {high:g}"
    return f"in {'(' if 'gt' in bounds else '['}{low:g}, {high:g}{')' if 'lt' in bounds else ']'}"


LOW, HIGH = ("gt", "ge"), ("lt", "le")


def _bounds(hint: Any) -> dict[str, Any]:
    """Pydantic's constraints in an annotation by their names, and `AtLeast`."""
    found: dict[str, Any] = {}
    for part in _parts(hint):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, AtLeast):
                found["above"] = extra
            for each in getattr(extra, "metadata", [extra]):
                found |= {n: getattr(each, n) for n in (*LOW, *HIGH) if hasattr(each, n)}
    return found


@cache
def _hints(of: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each argument; of one without, anything."""
    hints = get_type_hints(of, include_extras=True)
    return {name: hints.get(name, Any) for name in inspect.signature(of).parameters}


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _accepted(hint: Any, options: Mapping[str, Any]) -> str:
    """The values that an option may have, in words, None last."""
    bare = [get_args(part)[0] if hasattr(part, "__metadata__") else part for part in _parts(hint)]
    kinds = [kind for part in bare for kind in _parts(part)]
    words = [
        word
        for kind in sorted(kinds, key=lambda kind: kind is NoneType)
        for word in _words(kind, range_text(hint, options))
    ]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _words(kind: Any, numbers: str | None) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(each) for each in get_args(kind)]
    if kind is float:
        return ["a number" if numbers is None else f"a number {numbers}"]
    named = {NoneType: "None", bool: "true or false", int: "a whole number", str: "a text"}
    return [named.get(kind) or f"a {getattr(kind, '__name__', kind)}"]


def require(condition: bool, option: str, value: object, accepted: str) -> None:
    """Refuse an option out of its range.

    Raises:
        ConfigError: The condition does not hold.
    """
    if not condition:
        raise ConfigError(f"loss option {option!r} = {value!r}: give {accepted}")
