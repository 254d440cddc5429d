"""Constitutions: one set of principles a file (.toml); this module only loads and checks them.

description = "What the set is for, in one sentence."

[[principles]]
id = "evidence-over-eloquence"     # unique in the file; what a preference row refers to
text = "Weigh what is shown from the source above how well it is put."
"""

from __future__ import annotations

if __name__ != "oversight.constitutions":
    raise ImportError(
        "import this package as oversight.constitutions, not as a top-level 'constitutions'"
    )

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from oversight import registry
from oversight.config import describe
from oversight.errors import ConfigError

__all__ = ["Constitution", "Principle", "load", "parse", "read"]

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Principle(BaseModel):
    """One rule by which words are weighed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Short name in lower case with hyphens; what provenance records."""
    text: Text


class Constitution(BaseModel):
    """A named set of principles, in the order in which they are read out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: Text
    principles: tuple[Principle, ...] = Field(min_length=1)


def load(name: str) -> Constitution:
    """The constitution of that name.

    Raises:
        UnknownNameError: There is no constitution of that name.
        ConfigError: The file is broken; the message names the file, the key and the value.
    """
    path = registry.path("constitutions", name)
    return read(path)


def read(path: Path) -> Constitution:
    """The constitution in a .toml file; its name is the file's.

    Raises:
        ConfigError: The file is broken; the message names the file, the key and the value.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"constitution file {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise ConfigError(f"constitution file {str(path)!r} is not TOML: {error}") from None
    return parse(data, name=path.stem, where=str(path))


def parse(data: Mapping[str, Any], name: str, where: str) -> Constitution:
    """Check a constitution given as plain data; `where` begins the message of an error.

    Raises:
        ConfigError: One line that names the key, its value and what is accepted.
    """
    try:
        constitution = Constitution.model_validate({**data, "name": name})
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, Constitution)}") from None
    counts = Counter(principle.id for principle in constitution.principles)
    twice = [identity for identity, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(
            f"{where}: principles.id = {twice[0]!r} stands {counts[twice[0]]} times; "
            "each id must be unique in its file"
        )
    return constitution
