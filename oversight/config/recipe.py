"""Recipes: settings read from a TOML file, with single values overridden by `--set a.b=c`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from oversight.config.settings import Settings
from oversight.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=Settings)


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content as plain data.

    Raises:
        ConfigError: The file is absent, unreadable or not TOML; says where.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"recipe {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise ConfigError(f"recipe {str(path)!r} is not TOML: {error}") from None


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


def load_recipe(model: type[SettingsT], path: Path, changes: Mapping[str, Any]) -> SettingsT:
    """Settings from the file at `path`, with the values at dotted names replaced by `changes`.

    Raises:
        ConfigError: One line that names the file, the dotted field, and what is accepted.
    """
    data = override(read_toml(path), changes)
    try:
        return model.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
