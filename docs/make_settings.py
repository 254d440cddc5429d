"""Makes the list of all settings of the trainers, and of all losses, from the code itself.

python docs/make_settings.py        # writes docs/training_settings.md
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from oversight.train import losses
from oversight.train.losses.options import range_of

PAGE = Path(__file__).parent / "training_settings.md"
TRAINERS = ("sft", "reward", "dpo", "ppo", "grpo")
HEAD = """\
# Every setting of the trainers

Made from the code by `python docs/make_settings.py`; a test holds it against the code. What the
trainers are and how they are used stands in [training.md](training.md). Any setting can be given
with `--set a.b=value`; where the default is none, leave the setting out.
"""
FAMILIES = {
    "reward": "`loss` of `reward`",
    "preference": "`loss` of `dpo`, on pairs",
    "unpaired": "`loss` of `dpo`, on single responses called good or bad",
    "policy": "`loss` of `grpo` (`ppo` has the one of its name)",
}
NAME = r"[A-Z][\w'’]+"
PAPER = re.compile(rf"{NAME}(?:, {NAME})*(?: and {NAME})?(?: et al\.)? (?:19|20)\d\d")
"""The first one that a loss names: authors and year."""


def page() -> str:
    """The whole page."""
    configs = [import_module(f"oversight.train.{name}").Config for name in TRAINERS]
    shared = [set(config.model_fields) for config in configs]
    common = set.intersection(*shared)
    parts = [HEAD, _table("All trainers", configs[0], only=common)]
    for name, config in zip(TRAINERS, configs, strict=True):
        own = set(config.model_fields) - common
        parts.append(_table(f"`{name}`", config, only=own))
    seen: list[type[BaseModel]] = []
    for config in configs:
        _collect(config, seen)
    names = dict(_places(configs))
    parts += [_table(f"`[{names[inner]}]`", inner) for inner in seen]
    parts += [_losses(family, title) for family, title in FAMILIES.items()]
    return "\n".join(parts)


def _collect(model: type[BaseModel], seen: list[type[BaseModel]]) -> None:
    """Settings classes below `model`, each once, in the order in which they are met."""
    for field in model.model_fields.values():
        for inner in _inner(field.annotation):
            if inner not in seen:
                seen.append(inner)
                _collect(inner, seen)


def _places(configs: list[type[BaseModel]]) -> Iterator[tuple[type[BaseModel], str]]:
    def walk(model: type[BaseModel], before: str) -> Iterator[tuple[type[BaseModel], str]]:
        for name, field in model.model_fields.items():
            for inner in _inner(field.annotation):
                yield inner, before + name
                yield from walk(inner, f"{before}{name}.")

    for config in configs:
        yield from walk(config, "")


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate


def _table(title: str, model: type[BaseModel], only: set[str] | None = None) -> str:
    about = _texts(model)
    intro = "" if only is not None else inspect.cleandoc(model.__doc__ or "") + "\n\n"
    rows = ["| setting | kind | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        text = " ".join(about.get(name, "").split())
        rows.append(f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {_cell(text)} |")
    return f"## {title}\n\n{intro}" + "\n".join(rows) + "\n"


def _texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under each field of a class and of those it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not (issubclass(kind, BaseModel) and kind.__module__.startswith("oversight")):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
        for line, after in pairwise(body):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(line, ast.AnnAssign) and is_text:
                found[line.target.id] = after.value.value  # type: ignore[union-attr, attr-defined]
    return found


def _kind(annotation: Any) -> str:
    text = str(annotation) if not isinstance(annotation, type) else annotation.__name__
    text = re.sub(r"typing\.|pathlib\.|pydantic\.types\.|oversight\.[a-z_.]+\.", "", text)
    text = re.sub(r"\b(\w+)\[\1, ?", r"\1[", text)
    if list(_inner(annotation)):
        return "table" + (" or none" if "None" in text else "")
    if text.startswith("Optional["):
        text = text.removeprefix("Optional[").removesuffix("]") + " | None"
    text = text.replace(" | None", " or none").replace("] or none", " or none")
    text = text.replace("Literal[", "").replace("'", "") if text.startswith("Literal[") else text
    return _cell(text.removesuffix("]") if "[" not in text else text)


def _default(field: Any) -> str:
    if field.default_factory is not None:
        return "`{}`"
    if field.default is PydanticUndefined:
        return "needed"
    if isinstance(field.default, BaseModel):
        return "below"
    value = field.default
    if value is None:
        return "none"
    return f"`{json.dumps(value, default=str)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _option(loss: Any, name: str, default: Any) -> str:
    """An option with its default and the numbers that it may be."""
    accepted = range_of(loss, name)
    text = "" if accepted is None else f" ({accepted})"
    return f"`{name} = {json.dumps(default)}`{text}"


def _losses(family: str, title: str) -> str:
    rows = ["| name | what it is | paper | options |", "|---|---|---|---|"]
    for name in losses.names(family):
        registered = losses.load(family, name)
        options = registered.options.items()
        shown = "; ".join(_option(registered.loss, key, value) for key, value in options)
        found = PAPER.search(" ".join((registered.loss.__doc__ or "").split()))
        paper = found[0] if found else ""
        rows.append(f"| `{name}` | {_cell(registered.summary)} | {paper} | {shown} |")
    return f"## {title}\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
