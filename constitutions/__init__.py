"""Constitutions: sets of principles, one set a file; this package only loads and checks them.

description = "What the set is for, in one sentence."
includes = ["honesty"]             # other sets: a name, or a path from this file's folder

[[principles]]
id = "no-private-facts"            # unique in the set; what a preference row refers to
text = "Keep to yourself what others have a right to keep private."
tags = ["privacy"]                 # what it is about; critiques can be drawn by tag
critique = "Name what the answer gives away."    # the next three: made of `text` by default
revision = "Write the answer without that."
comparison = "Which answer gives less away?"
weight = 2.0                       # of being drawn, against the others' weights
origin = "Written for this set."

The published formats of others are read as well: see `oversight.constitutions.published`.
"""

from __future__ import annotations

if __name__ != "oversight.constitutions":
    raise ImportError(
        "import this package as oversight.constitutions, not as a top-level 'constitutions'"
    )

import random
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from oversight import registry
from oversight.config import describe
from oversight.constitutions.published import SUFFIXES, published
from oversight.errors import ConfigError
from oversight.ids import content_id

__all__ = ["Constitution", "Principle", "draw", "is_path", "load", "parse", "read"]

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]

HOLE = re.compile(r"\{\{?\s*[A-Za-z_]?[\w.]*\s*\}?\}|\$\{\w+\}|%\(\w+\)s|\[\[\s*\w+\s*\]\]")
"""A place in a text that a template engine would fill in; nothing here does."""


class Principle(BaseModel):
    """One rule by which words are weighed, criticised, revised and compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Short name in lower case with hyphens; what provenance records."""
    text: Text
    """The rule itself, in a sentence or two."""
    tags: tuple[Tag, ...] = ()
    """Subjects of the rule, by which principles are chosen."""
    critique: Text | None = None
    """Request for a critique; None: made of the text."""
    revision: Text | None = None
    """Request for a revision; None: made of the text."""
    comparison: Text | None = None
    """Question that two responses are compared by; None: made of the text."""
    weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Chance of being drawn, in proportion to the weights of the others."""
    origin: str = ""
    """Source of the words: a paper, a document, a person."""

    @field_validator("text", "critique", "revision", "comparison", "origin")
    @classmethod
    def _has_no_hole(cls, given: str | None) -> str | None:
        if given is not None and (hole := HOLE.search(given)):
            raise ValueError(f"{hole.group()} is a hole that nothing fills in: write the words out")
        return given

    @property
    def critique_request(self) -> str:
        """The request for a critique by this principle."""
        return self.critique or (
            "Say where the answer goes against this principle, and where it keeps to it: "
            f"{self.text}"
        )

    @property
    def revision_request(self) -> str:
        """The request for a revision by this principle."""
        return self.revision or (
            f"Rewrite the answer so that it keeps to this principle: {self.text}"
        )

    @property
    def comparison_question(self) -> str:
        """The question that two responses are compared by under this principle."""
        return self.comparison or f"Which answer keeps better to this principle? {self.text}"


class Constitution(BaseModel):
    """A named set of principles, in the order in which they are read out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: Text
    includes: tuple[Text, ...] = ()
    """Other sets as the file names them; their principles stand before its own."""
    principles: tuple[Principle, ...] = Field(min_length=1)

    @cached_property
    def fingerprint(self) -> str:
        """Id of the principles as they read now."""
        return content_id("constitution", [[each.id, each.text] for each in self.principles])

    @cached_property
    def content(self) -> str:
        """Id of everything that the principles say and ask, with their weights and tags."""
        return content_id("principles", [each.model_dump(mode="json") for each in self.principles])

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags in order."""
        return tuple(sorted({tag for each in self.principles for tag in each.tags}))

    def __getitem__(self, principle: str) -> Principle:
        """The principle of that id.

        Raises:
            ConfigError: There is none; the message names the nearest.
        """
        by_id = {each.id: each for each in self.principles}
        if principle not in by_id:
            raise ConfigError(
                f"constitution {self.name!r} has no principle {principle!r}."
                + registry.nearest(principle, by_id)
            )
        return by_id[principle]

    def select(self, tags: Collection[str] = (), without: Collection[str] = ()) -> Self:
        """The set with the principles of any of these tags alone, and without those of these ids.

        Raises:
            ConfigError: A tag or an id stands in no principle, or nothing is left.
        """
        for tag in tags:
            if tag not in self.tags:
                raise ConfigError(
                    f"constitution {self.name!r} has no principle with the tag {tag!r}."
                    + registry.nearest(tag, self.tags)
                )
        out = {self[id_].id for id_ in without}
        left = tuple(
            each
            for each in self.principles
            if each.id not in out and (not tags or set(tags) & set(each.tags))
        )
        if not left:
            raise ConfigError(f"constitution {self.name!r}: no principle is left of this choice")
        return self.model_copy(update={"principles": left})

    def draw(self, rng: random.Random, number: int) -> tuple[Principle, ...]:
        """`number` different principles, drawn by weight.

        Raises:
            ConfigError: There are fewer principles.
        """
        if number > len(self.principles):
            raise ConfigError(
                f"constitution {self.name!r} has {len(self.principles)} principles, and {number} "
                "are to be drawn"
            )
        return draw(self.principles, rng, number)


def draw(principles: Sequence[Principle], rng: random.Random, number: int) -> tuple[Principle, ...]:
    """`number` different ones of the principles, each with a chance in proportion to its weight.

    Weighted sampling without replacement (Efraimidis and Spirakis 2006).
    """
    if len({each.weight for each in principles}) == 1:
        return tuple(rng.sample(principles, number))
    keys = [rng.random() ** (1.0 / each.weight) for each in principles]
    order = sorted(range(len(principles)), key=keys.__getitem__, reverse=True)
    return tuple(principles[index] for index in order[:number])


def load(name: str, folder: Path | None = None) -> Constitution:
    """The constitution of that name, or in the file at that path.

    Args:
        name: Of a set of the package; or a path, which holds a `/` or ends like a file.
        folder: Relative paths begin here; default: the working directory.

    Raises:
        UnknownNameError: There is no constitution of that name.
        ConfigError: The file is broken; the message names the file, the key and the value.
    """
    return _load(name, folder, ())


def read(path: Path) -> Constitution:
    """The constitution in a file (.toml, or a published format); its name is the file's.

    Raises:
        ConfigError: The file is broken; the message names the file, the key and the value.
    """
    return _read(path, ())


def parse(
    data: Mapping[str, Any], name: str, where: str, folder: Path | None = None
) -> Constitution:
    """Check a constitution given as plain data; `where` begins the message of an error.

    Raises:
        ConfigError: One line that names the key, its value and what is accepted.
    """
    return _parse(data, name, where, folder, ())


# --- files, and the sets that they include ---


class _File(BaseModel):
    """A set as it is written, before the sets that it includes are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Text
    includes: tuple[Text, ...] = ()
    principles: tuple[Principle, ...] = ()


def _load(name: str, folder: Path | None, chain: tuple[Path, ...]) -> Constitution:
    if is_path(name):
        return _read((folder or Path()) / name, chain)
    return _read(registry.path("constitutions", name), chain)


def _read(path: Path, chain: tuple[Path, ...]) -> Constitution:
    place = path.resolve()
    if place in chain:
        circle = (*chain[chain.index(place) :], place)
        names = " includes ".join(repr(each.name) for each in circle)
        raise ConfigError(f"constitution file {str(path)!r} includes itself: {names}")
    where = f"constitution file {str(path)!r}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from None
    if path.suffix in SUFFIXES:
        data = published(text, path)
    else:
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
            raise ConfigError(f"{where} is not TOML: {error}") from None
    return _parse(data, path.stem, str(path), path.parent, (*chain, place))


def _parse(
    data: Mapping[str, Any], name: str, where: str, folder: Path | None, chain: tuple[Path, ...]
) -> Constitution:
    try:
        written = _File.model_validate(data)
    except ValidationError as error:
        said = describe(error, _File, noun="constitution file")
        raise ConfigError(f"{where}: {said}") from None
    counts = Counter(each.id for each in written.principles)
    for id_, count in counts.items():
        if count > 1:
            raise ConfigError(
                f"{where}: principles.id = {id_!r} stands {count} times; "
                "each id must be unique in its file"
            )
    found: dict[str, Principle] = {}
    for each in written.includes:
        for principle in _load(each, folder, chain).principles:
            # One that comes by two ways is one principle.
            if found.setdefault(principle.id, principle) != principle:
                raise ConfigError(
                    f"{where}: includes = {each!r}: its principle {principle.id!r} reads otherwise "
                    "in a set included before; leave one of the two out"
                )
    for principle in written.principles:
        if principle.id in found:
            raise ConfigError(
                f"{where}: principles.id = {principle.id!r} stands in an included set already; "
                "give it an id of its own"
            )
        found[principle.id] = principle
    if not found:
        raise ConfigError(f"{where}: principles = []: give at least one, or include a set")
    return Constitution(
        name=name,
        description=written.description,
        includes=written.includes,
        principles=tuple(found.values()),
    )


def is_path(name: str) -> bool:
    """True of a path to a constitution's file, in place of a name."""
    return "/" in name or Path(name).suffix in {".toml", *SUFFIXES}
