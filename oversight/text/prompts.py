"""Prompt templates that render once, with everything foreign as data.

A value put into a template goes through `data()` (see `untrusted`) unless it
is `Safe`: text that one of our own renderers made. Template syntax inside a
value stays what it is, literal text, because rendering is a single pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from oversight.errors import PromptError
from oversight.text.untrusted import RESERVED_TAGS, data

__all__ = ["RESERVED_TAGS", "Safe", "Template", "data"]


class Safe(str):
    """Text made by our own renderers, which goes into a template as it is.

    Any string made of it (a sum, a slice, another case) is a plain str again.
    Wrap foreign text in it and it can forge our structure: only renderers do.
    """

    __slots__ = ()


def _value(value: object) -> str:
    """Text that stands in the prompt for a value of a template."""
    if isinstance(value, Safe):
        return value
    if isinstance(value, str):
        return data(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, and names what is missing
    raise TypeError(f"{value!r:.100} is no text or number")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without str.format, whose result it would make as safe as the format."""

    def wrap_str_format(self, value: Any) -> None:
        return None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        formats = isinstance(obj, str) and attr in ("format", "format_map")
        return not formats and super().is_safe_attribute(obj, attr, value)


def _environment() -> _Sandbox:
    environment = _Sandbox(
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        finalize=_value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    return environment


_ENVIRONMENT = _environment()


SHORT_CHARS = 80
MAX_KEPT = 256
"""Renderings that a template keeps, of short values: the same rules and requests in all debates."""


class Template:
    """A Jinja template in a sandbox, compiled once; every name in it must be given.

    A block tag (`{% ... %}`) alone on its line leaves no line behind. Values
    are text or numbers, and records and sequences of them for `for` and `if`;
    what a macro or a `set` block made counts as foreign, so use neither.

    Raises:
        PromptError: The source is no valid template; the message names template and line.
    """

    def __init__(self, source: str, name: str) -> None:
        self.name = name
        self.source = source
        try:
            self._rendered: dict[tuple[tuple[type, str | int], ...], Safe] = {}
            self.names = frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))
            self._compiled = _ENVIRONMENT.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            reason = f"line {error.lineno}: {error.message}"
            raise PromptError(f"prompt template {name!r} does not compile, {reason}") from None

    def __repr__(self) -> str:
        return f"Template({self.name!r})"

    def render(self, **values: Any) -> Safe:
        """The template with `values` in their places; names that it does not use are ignored.

        Raises:
            PromptError: A name is missing, or a value is neither text nor a number.
        """
        if not self.names <= values.keys():
            raise PromptError(self._missing(values))
        key = self._key(values)
        if key is not None and (known := self._rendered.get(key)) is not None:
            return known
        try:
            rendered = Safe(self._compiled.render(values))
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            given = ", ".join(sorted(values)) or "nothing"
            raise PromptError(
                f"prompt template {self.name!r} cannot be rendered: {error} (given: {given})"
            ) from error
        if key is not None:
            if len(self._rendered) >= MAX_KEPT:
                self._rendered.clear()
            self._rendered[key] = rendered
        return rendered

    def _key(self, values: Mapping[str, Any]) -> tuple[tuple[type, str | int], ...] | None:
        """The values that it uses, by which what was rendered is found again, if all are short."""
        used = []
        for name in self.names:
            kind, value = type(values[name]), values[name]
            if kind is not int and (kind not in (str, Safe) or len(value) > SHORT_CHARS):
                return None
            used.append((kind, value))
        return tuple(used)

    def _missing(self, values: Mapping[str, Any]) -> str:
        missing = ", ".join(sorted(self.names - values.keys()))
        given = ", ".join(sorted(values)) or "nothing"
        return f"prompt template {self.name!r} needs {missing}; given: {given}"
