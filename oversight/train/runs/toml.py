"""Plain data as TOML, so that a run's resolved settings are a recipe again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """TOML of nested mappings, lists, texts and numbers. None has no form in TOML: left out."""
    return "\n".join(_table(data, ())).strip() + "\n"


def _table(data: Mapping[str, Any], way: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in data.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_value(v)}" for key, v in plain.items() if v is not None]
    if way and (lines or not data):
        lines = ["", f"[{'.'.join(map(_key, way))}]", *lines]
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*way, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    return "[" + ", ".join(_value(item) for item in value if item is not None) + "]"


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL; half a surrogate pair has no form in TOML.
    escaped = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return escaped.encode("utf-8", "replace").decode("utf-8")
