"""The base of every settings class: immutable, checked at the boundary, errors that help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from oversight.errors import ConfigError
from oversight.registry import nearest

WANTED = {
    **dict.fromkeys(("tuple", "list", "set", "frozen_set"), 'a list, such as ["a", "b"] or [1, 2]'),
    **dict.fromkeys(("dict", "mapping", "model", "model_attributes"), "a table, such as { a = 1 }"),
    "int": "a whole number",
    "int_from_float": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
"""Kinds of values that pydantic's errors speak of, and what a user is to write."""


class Settings(BaseModel):
    """Settings of one component. Unknown keys fail and name the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that change how the work is done but not its result (addresses, time-outs):
    they are left out of a debate's id."""

    by_content: ClassVar[Mapping[str, str]] = {}
    """Fields that say where something is, and what that is (see `models.identity.content_of`): its
    content determines the result, and not its place."""

    @classmethod
    def all_by_content(cls) -> dict[str, str]:
        """Dotted names of these fields, those of settings within settings too."""
        found = dict(cls.by_content)
        for name, field in cls.model_fields.items():
            inner = _inner_model(field.annotation)
            if isinstance(inner, type) and issubclass(inner, Settings):
                found |= {f"{name}.{own}": kind for own, kind in inner.all_by_content().items()}
        return found

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "") -> Self:
        """Check `data`, which stands at the dotted place `where`.

        Raises:
            ConfigError: One line that names the dotted field, the value and what is accepted.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(describe(error, cls, where)) from None

    def identity(self) -> dict[str, Any]:
        """The settings that determine a result, JSON-plain."""
        return self.model_dump(mode="json", exclude=set(self.incidental))


def describe(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """The first of the errors as one line, with the number of the others."""
    first = error.errors(include_url=False)[0]
    place = ".".join([where] * bool(where) + [str(part) for part in first["loc"]])
    rest = error.error_count() - 1
    more = f" ({rest} more)" if rest else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        hint = nearest(str(first["loc"][-1]), known)
        return f"unknown setting {place!r}.{hint}{more}"
    if first["type"] == "missing":
        return f"setting {place!r} is missing{more}"
    reason = in_words(first)
    if first["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        reason += "." + nearest(str(first["input"]), known).split(" Known:")[0]
    return f"{place} = {first['input']!r}: {reason}{more}" if place else f"{reason}{more}"


def in_words(detail: ErrorDetails) -> str:
    """The reason of a validation error, without the names that Python has for kinds of values."""
    kind = detail["type"].removesuffix("_parsing").removesuffix("_type")
    wanted = WANTED.get(kind)
    return f"give {wanted}" if wanted else detail["msg"].removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model at `loc` below `model`, as far as it can be followed."""
    current: Any = model
    for part in loc:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            return []
        current = _inner_model(fields[part].annotation)
    return list(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    """The settings class inside an annotation such as `tuple[X, ...]` or `X | None`."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
