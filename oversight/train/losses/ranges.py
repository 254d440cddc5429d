"""What the options of a loss may be: said in its signature, and checked from there.

    @ranged
    def loss(pairs, *, normalizer, beta: Positive = 0.1, label_smoothing: Smoothing = 0.0): ...

`losses.bind` checks the options of a run before it starts, and `ranged` those of each call.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from numbers import Real
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

from oversight.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option may be. It stands in the option's annotation."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    beyond: str | None = None
    """An option whose value is added to `above`."""

    def holds(self, value: float, options: Mapping[str, Any]) -> bool:
        """Whether `value` is one of them, beside the other `options`."""
        return (
            (self.above is None or value > self._low(options))
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def text(self, options: Mapping[str, Any] | None = None) -> str:
        """What follows "a number"; with `options`, the bound that those make."""
        if self.beyond is not None:
            made = "" if options is None else f" = {self._low(options):g}"
            return f"above {self.above:g} + {self.beyond}{made}"
        low = self.above if self.at_least is None else self.at_least
        high = self.below if self.at_most is None else self.at_most
        if high is None:
            return f"above {low:g}" if self.at_least is None else f"of at least {low:g}"
        opening, closing = "(["[self.above is None], ")]"[self.below is None]
        return f"in {opening}{low:g}, {high:g}{closing}"

    def _low(self, options: Mapping[str, Any]) -> float:
        return float((self.above or 0.0) + (options[self.beyond] if self.beyond else 0.0))


Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Share = Annotated[float, Range(at_least=0, at_most=1)]
Smoothing = Annotated[float, Range(at_least=0, below=0.5)]
"""The probability that a label is flipped: at a half, labels would say nothing."""
DualClip = Annotated[float | None, Range(above=1, beyond="clip_high")]


def ranged(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which refuses arguments that its annotations do not allow.

    Raises:
        ConfigError: At a call, as `check`.
    """
    names = tuple(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check(function, dict(zip(names, args, strict=False)) | kwargs)
        return function(*args, **kwargs)

    return checked


def check(of: Callable[..., Any], given: Mapping[str, Any], where: str | None = None) -> None:
    """Refuse what the annotations of a function or data class do not allow.

    Args:
        of: The function or class.
        given: Arguments by name; what is not given has its default.
        where: The dotted setting that the arguments came from; None if from no settings.

    Raises:
        ConfigError: It names the option, the value and what is accepted.
    """
    hints = _hints(inspect.unwrap(of))
    options = _defaults(inspect.unwrap(of)) | dict(given)
    own = [name for name in hints if name in given and _range(hints[name]).beyond is None]
    # Those whose range depends on another one come last, and also where only that is given.
    dependent = [name for name in hints if name in options and _range(hints[name]).beyond]
    for name in own + dependent:
        if not _allows(hints[name], options[name], options):
            raise ConfigError(_refusal(hints[name], name, options, where))


def range_of(of: Callable[..., Any], name: str) -> Range | None:
    """The range of an option, None where it has none."""
    found = _range(_hints(inspect.unwrap(of))[name])
    return None if found == Range() else found


@cache
def _hints(of: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(of, include_extras=True)


@cache
def _defaults(of: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(of).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _range(hint: Any) -> Range:
    """The range in an annotation, without bounds where there is none."""
    for part in _parts(hint):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Range):
                return extra
    return Range()


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one that it is."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """What an annotation is made of, without ranges: classes and literals."""
    bare = [get_args(part)[0] if hasattr(part, "__metadata__") else part for part in _parts(hint)]
    return tuple(kind for part in bare for kind in _parts(part))


def _allows(hint: Any, value: Any, options: Mapping[str, Any]) -> bool:
    return any(_is(kind, value, _range(hint), options) for kind in _kinds(hint))


def _is(kind: Any, value: Any, accepted: Range, options: Mapping[str, Any]) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and accepted.holds(value, options)
    return not isinstance(kind, type) or isinstance(value, kind)


def _refusal(hint: Any, name: str, options: Mapping[str, Any], where: str | None) -> str:
    place = f"loss option {name!r}" if where is None else f"{where}.{name}".removeprefix(".")
    words = [
        word
        for kind in sorted(_kinds(hint), key=lambda kind: kind is NoneType)
        for word in _words(kind, _range(hint), options)
    ]
    accepted = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return f"{place} = {options[name]!r}: give {accepted}"


def _words(kind: Any, accepted: Range, options: Mapping[str, Any]) -> list[str]:
    """What people are told of a kind."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if kind is float:
        return ["a number" if accepted == Range() else f"a number {accepted.text(options)}"]
    return [{NoneType: "None", bool: "true or false"}.get(kind) or f"a {kind.__name__}"]
