"""Settings, validated in one place, and recipes, the TOML files that they are read from."""

from __future__ import annotations

import difflib
import glob
import logging
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)
from pydantic_core import ErrorDetails

from oversight.errors import ConfigError
from oversight.redaction import without_login
from oversight.registry import nearest, shortened

logger = logging.getLogger("oversight.config")

RECIPE = "recipe"
"""Word for the files that most settings are read from, whose values `--set` can replace."""
WANTED = {
    **dict.fromkeys(("tuple", "list", "set", "frozen_set"), 'a list, such as ["a", "b"] or [1, 2]'),
    **dict.fromkeys(("dict", "mapping", "model", "model_attributes"), "a table, such as { a = 1 }"),
    "string": "a text",
    "int": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "float": "a number",
    "bool": "true or false",
}
"""Kinds of values that pydantic's errors speak of, and what a user is to write."""


class Settings(BaseModel):
    """Settings of one component. Unknown keys fail and name the nearest known one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that change how the work is done but not its result (addresses, time-outs):
    they are left out of a debate's id."""

    by_content: ClassVar[Mapping[str, str]] = {}
    """Fields that say where something is, and what that is (see `models.content_of`): its
    content determines the result, and not its place."""

    @classmethod
    def all_by_content(cls) -> dict[str, str]:
        """Dotted names of these fields, those of settings within settings too.

        A `*` stands for each key of a table of settings.
        """
        found = dict(cls.by_content)
        for name, field in cls.model_fields.items():
            inner = _inner_model(field.annotation)
            if isinstance(inner, type) and issubclass(inner, Settings):
                place = f"{name}.*" if get_origin(field.annotation) is dict else name
                found |= {f"{place}.{own}": kind for own, kind in inner.all_by_content().items()}
        return found

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "", noun: str = RECIPE) -> Self:
        """Check `data`, which stands at the dotted place `where` of what `noun` calls its file.

        Raises:
            ConfigError: One line that names the dotted field, the value and what is accepted.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(describe(error, cls, where, noun)) from None

    @classmethod
    def changed(cls, data: Mapping[str, Any], changes: Mapping[str, Any], where: str = "") -> Self:
        """Check `data`, in which the value at each dotted name of `changes` is replaced.

        Raises:
            ConfigError: As `parse` and `override`.
        """
        return cls.parse(override(data, changes), where)

    @classmethod
    def name_here(cls, name: str) -> str | None:
        """The dotted setting that a user of other libraries may mean by `name`."""
        return None

    def identity(self) -> dict[str, Any]:
        """The settings that determine a result, JSON-plain."""
        return self.model_dump(mode="json", exclude=set(self.incidental))


def settings_of(thing: Any, setting: str) -> type[Settings]:
    """The class of settings `Config` of an agent or a data set, registered or a user's own.

    Raises:
        ConfigError: It is no class of settings; `setting` says whose.
    """
    found = thing.Config
    if not (isinstance(found, type) and issubclass(found, Settings)):
        raise ConfigError(
            f"{setting}: its Config is no class of settings; write class Config(Settings), with "
            "Settings from oversight.config"
        )
    return found


def describe(
    error: ValidationError, model: type[BaseModel], where: str = "", noun: str = RECIPE
) -> str:
    """The first of the errors as one line, with the number of the others.

    Args:
        error: Of a check by `model`.
        model: The class of what was checked.
        where: Dotted place of it, or the name of its file.
        noun: A word for what holds it: only of a recipe can a value be given by `--set`.
    """
    errors = error.errors(include_url=False)
    # A setting that is missing may be the one that is misspelt.
    errors.sort(key=lambda each: each["type"] == "missing")
    first = errors[0]
    loc, kinds = _alternatives(errors)
    # A file's name is no part of a setting's: it would be copied into --set with it.
    file, inside = (f"{where}: ", "") if _OF_FILE.search(where) else ("", where)
    setting = ".".join([inside] * bool(inside) + [str(part) for part in loc])
    rest = len(errors) - 1
    more = f" ({rest} more)" if rest else ""
    if kinds:
        others = sum(each["loc"][: len(loc)] != loc for each in errors)
        more = f" ({others} more)" if others else ""
        shown = without_login(repr(first["input"]))
        return f"{file}{setting} = {shown}: give {' or '.join(kinds)}{more}"
    if first["type"] == "extra_forbidden":
        meant = model.name_here(str(loc[-1])) if issubclass(model, Settings) else None
        if meant is not None:
            here = ".".join([inside] * bool(inside) + [meant])
            return f"{file}unknown setting {setting!r}. Here it is called {here!r}.{more}"
        known = list(_fields_of(model, first["loc"][:-1]))
        hint = nearest(str(loc[-1]), known)
        if further_in := _further_in(model, loc, known):
            hint = further_in + "".join(hint.partition(" Known:")[1:])
        if not hint and known:
            hint = f" Known: {', '.join(sorted(known))}."
        return f"{file}unknown setting {setting!r}.{hint}{more}"
    if loc[-1:] == ("[key]",):
        known = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        here = setting.removesuffix(".[key]")
        others = sum(each["loc"][: len(loc) - 1] != loc[:-1] for each in errors)
        more = f" ({others} more)" if others else ""
        return f"{file}unknown setting {here!r}.{nearest(str(first['input']), known)}{more}"
    if first["type"] == "missing":
        here = f"{noun} or by --set" if noun == RECIPE else noun
        return f"{file}setting {setting!r} is missing; give it in the {here}{more}"
    reason = in_words(first)
    if first["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))
        reason += "." + nearest(str(first["input"]), known).split(" Known:")[0]
    value = shortened(without_login(repr(first["input"])), MAX_SHOWN)
    return f"{file}{setting} = {value}: {reason}{more}" if setting else f"{file}{reason}{more}"


_OF_FILE = re.compile(r"\.(toml|jsonl?)(, line \d+)?$")
MAX_SHOWN = 200
"""Characters of a wrong value that a message shows."""


def _alternatives(errors: list[ErrorDetails]) -> tuple[tuple[int | str, ...], list[str]]:
    """The place of the first error, and the kinds of values that are accepted there, in words.

    Of a setting that takes several kinds pydantic has an error for each, at a place that ends in
    the kind's Python name. No kinds for any other error.
    """
    loc = errors[0]["loc"]
    if not loc or _kind(loc[-1]) is None:
        return loc, []
    place = loc[:-1]
    tags = [each["loc"][len(place)] for each in errors if each["loc"][: len(place)] == place]
    found = [_kind(tag) for tag in dict.fromkeys(tags)]
    return (place, [each for each in found if each]) if len(found) > 1 else (loc, [])


def _kind(tag: int | str) -> str | None:
    """The kind that a Python name of one stands for, or None if it is no such name."""
    plain = str(tag).partition("[")
    of_texts = "str" in plain[2]
    if plain[0] in ("tuple", "list") and plain[1]:
        return 'a list of texts, such as ["a", "b"]' if of_texts else WANTED["list"]
    return {"str": "a text", "int": "a whole number", "float": "a number"}.get(
        plain[0], "true or false" if plain[0] == "bool" else None
    )


def in_words(detail: ErrorDetails) -> str:
    """The reason of a validation error, without the names that Python has for kinds of values."""
    kind = detail["type"].removesuffix("_parsing").removesuffix("_type")
    wanted = WANTED.get(kind)
    return f"give {wanted}" if wanted else detail["msg"].removeprefix("Value error, ")


def _fields_of(model: type[BaseModel], loc: tuple[int | str, ...]) -> dict[str, Any]:
    """The fields of the model at `loc` below `model`; none where it cannot be followed."""
    fields: dict[str, Any] = model.model_fields
    parts = iter(loc)
    for part in parts:
        if part not in fields:
            return {}
        annotation = fields[str(part)].annotation
        fields = getattr(_inner_model(annotation), "model_fields", {})
        if get_origin(annotation) in (dict, tuple, list):
            next(parts, None)  # a key of the user's own, or a place in a list
    return fields


SURE = 0.75
"""Likeness from which a name further in is meant by one that stands outside of its table."""


def _further_in(model: type[BaseModel], loc: tuple[int | str, ...], known: list[str]) -> str:
    """A sentence that names the setting one table further in that a name is most like, if any."""
    name = str(loc[-1])
    found = dict[str, str]()
    for field in known:
        place = (*loc[:-1], field)
        names = _keys_at(model, place) or list(_fields_of(model, place))
        found |= {each: f"{field}.{each}" for each in names if each not in found}
    close = difflib.get_close_matches(name, found, n=1, cutoff=SURE)
    if not close or difflib.get_close_matches(name, known, n=1, cutoff=SURE):
        return ""
    meant = ".".join([*map(str, loc[:-1]), found[close[0]]])
    return f" Did you mean {meant!r}?"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at `loc` takes, where these are chosen from a few."""
    fields = _fields_of(model, loc[:-1])
    if loc[-1] not in fields:
        return []
    annotation = fields[str(loc[-1])].annotation
    keys = get_args(annotation)[:1] if get_origin(annotation) is dict else ()
    is_chosen = bool(keys) and isinstance(keys[0], type) and issubclass(keys[0], Enum)
    return [str(each.value) for each in keys[0]] if is_chosen else []


def _inner_model(annotation: Any) -> Any:
    """The settings class inside an annotation such as `tuple[X, ...]` or `X | None`."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


SettingsT = TypeVar("SettingsT", bound=Settings)


WRITTEN = frozenset({"out", "store", "quick.out"})
"""Settings of a recipe that say where a command writes: from the working directory."""

FILE = re.compile(r"(?P<path>[^\0\n]{1,1000}?)(?P<name>:[\w.]+)?")
"""A value that may name a file, or a function or class in one."""


def read_toml(path: Path, noun: str = RECIPE) -> dict[str, Any]:
    """Content of a recipe, or of another file by its `noun`, as plain data; files in it are found.

    A relative path to be read is looked for in the working directory, and where nothing is there,
    beside the file: a recipe that is copied with its folder works from anywhere.

    Raises:
        ConfigError: The file is absent, unreadable or not TOML; says where.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return {key: _found(value, path.parent.resolve(), key) for key, value in data.items()}
    except OSError as error:
        raise ConfigError(f"{noun} {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise ConfigError(f"{noun} {str(path)!r} is not TOML: {error}") from None


def _found(value: Any, folder: Path, setting: str) -> Any:
    """The value, with each path in it that leads somewhere from `folder` alone led from there."""
    if isinstance(value, dict):
        return {key: _found(each, folder, f"{setting}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_found(each, folder, setting) for each in value]
    named = FILE.fullmatch(value) if isinstance(value, str) and setting not in WRITTEN else None
    # A bare word is the name of something registered, whatever lies beside the recipe.
    if named is None or not re.search(r"\w[./\\]|[./\\]\w", named["path"]):
        return value
    here = named["path"]
    # One that is absolute stays what it is, and is no other than itself.
    beside = os.path.join(glob.escape(str(folder)) if glob.has_magic(here) else folder, here)
    if not (theirs := _lead_to(beside)):
        return value
    if not (ours := _lead_to(here)):
        return f"{beside}{named['name'] or ''}"
    if not os.path.samefile(ours, theirs):
        logger.warning(
            "%s = %r is taken from the working directory; there is another one beside the recipe",
            setting,
            value,
        )
    return value


def _lead_to(path: str) -> str:
    """The first file or folder that a path or a pattern leads to; empty if it leads nowhere."""
    try:
        return path if os.path.exists(path) else next(glob.iglob(path), "")
    except (OSError, ValueError, re.error):
        return ""


def parse_value(text: str) -> Any:
    """`text` as a TOML value where it is one (3, true, [1, 2], "x"), else as a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Dotted names and their values, from texts such as `dataset.limit=10`.

    Raises:
        ConfigError: A text is not of that form.
    """
    values: dict[str, Any] = {}
    for text in texts:
        dotted, sign, value = text.partition("=")
        if not sign or not all(key.strip() for key in dotted.split(".")):
            raise ConfigError(f"--set {text!r}: expected a.b=value")
        values[dotted.strip()] = parse_value(value.strip())
    return values


def chosen(options: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """The values at dotted names that options and `--set` give together, in the order to apply.

    Whole tables come first: what an option says holds inside of them.

    Args:
        options: Values of options by dotted name; those that are None were not given.
        texts: As of `assignments`.

    Raises:
        ConfigError: `--set` gives a setting that an option gives, and another value.
    """
    given = {name: value for name, value in options.items() if value is not None}
    by_hand = assignments(texts)
    for dotted, value in by_hand.items():
        for name, said in given.items():
            inside = name.removeprefix(f"{dotted}.").split(".") if name != dotted else []
            if name != dotted and not name.startswith(f"{dotted}."):
                continue
            here: Any = value
            for key in inside:
                here = here.get(key, said) if isinstance(here, Mapping) else said
            if _plain(here) != _plain(said):
                raise ConfigError(
                    f"--set {dotted}={value!r}: an option of this command says {name} = {said!r}; "
                    "leave one out"
                )
    tables = {name: value for name, value in by_hand.items() if isinstance(value, Mapping)}
    return tables | given | {name: by_hand[name] for name in by_hand if name not in tables}


def _plain(value: Any) -> Any:
    """A value as `--set` and options alike give it: paths as text, tuples as lists."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with the value at each dotted name replaced; tables on the way are made where absent.

    Raises:
        ConfigError: A dotted name goes through a value that is no table.
    """
    result = dict(data)
    for dotted, value in changes.items():
        *way, last = dotted.split(".")
        table = result
        for key in way:
            inner = table.get(key, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(f"{dotted!r}: {key!r} is the value {inner!r}, not a table")
            table[key] = dict(inner)
            table = table[key]
        table[last] = value
    return result


def short_form(data: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """A recipe with what its table `quick` sets by dotted names.

    Raises:
        ConfigError: It has no such table.
    """
    if not data.get("quick"):
        raise ConfigError(f"{where}: it has no short form; leave --quick out")
    return override(data, data["quick"])


def load_recipe(model: type[SettingsT], path: Path, changes: Mapping[str, Any]) -> SettingsT:
    """Settings from the file at `path`, with the values at dotted names replaced by `changes`.

    Raises:
        ConfigError: One line that names the file, the dotted field, and what is accepted.
    """
    data = read_toml(path)
    try:
        return model.changed(data, changes)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
