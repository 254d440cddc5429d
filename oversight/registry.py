"""From a name to the thing: the name of the file, or of the folder, is the registered name.

`names("agents")` looks at the folder without importing anything from it;
`load("agents", "debater")` imports that one module. Other distributions add
their own under the entry-point group of the same name as the package.

    [project.entry-points."oversight.agents"]
    my_debater = "my_package.my_debater"
"""

from __future__ import annotations

import ast
import difflib
import importlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from oversight.errors import UnknownNameError


@dataclass(frozen=True)
class Group:
    """A folder in which every file of one suffix, or package, is a thing of that name."""

    noun: str
    package: str
    support: frozenset[str] = frozenset()
    """Files that help the others and are no things themselves."""
    suffix: str = ".py"


GROUPS: dict[str, Group] = {
    "agents": Group("agent", "oversight.agents", frozenset({"speaking", "judging"})),
    "engines": Group("engine", "oversight.engines", frozenset({"base"})),
    "datasets": Group("data set", "oversight.datasets", frozenset({"base"})),
    "graphs": Group(
        "graph",
        "oversight.graphs",
        frozenset(
            {
                "casting",
                "nodes",
                "persons",
                "planning",
                "rounds",
                "running",
                "serving",
                "stage",
                "state",
                "views",
            }
        ),
    ),
    "protocols": Group("protocol", "oversight.protocols", suffix=".toml"),
    "constitutions": Group("constitution", "oversight.constitutions", suffix=".toml"),
}


def nearest(name: str, known: Iterable[str]) -> str:
    """A closing sentence that names the nearest of `known`, and all of them if they are few."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = f" Known: {', '.join(options)}." if options and len(options) <= 20 else ""
    return hint + listing


def folder(group: str) -> Path:
    """The folder of a group, found without importing its package."""
    import oversight

    leaf = GROUPS[group].package.rsplit(".", 1)[1]
    return Path(next(iter(oversight.__path__))) / leaf


@cache
def _files(group: str) -> dict[str, Path]:
    spec = GROUPS[group]
    found = list(folder(group).glob(f"*{spec.suffix}"))
    if spec.suffix == ".py":
        found += folder(group).glob("*/__init__.py")
    named = {(path.parent if path.stem == "__init__" else path).stem: path for path in found}
    named.pop(folder(group).stem, None)  # the group's own __init__
    return {
        name: named[name]
        for name in sorted(named)
        if not name.startswith("_") and name not in spec.support
    }


def _plugins(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUPS[group].package)}


def names(group: str) -> list[str]:
    """All names of a group, our own and those that other distributions add."""
    return sorted({*_files(group), *_plugins(group)})


def path(group: str, name: str) -> Path:
    """The file of a built-in thing.

    Raises:
        UnknownNameError: There is none of that name.
    """
    files = _files(group)
    if name not in files:
        raise UnknownNameError(_unknown(group, name))
    return files[name]


def summary(group: str, name: str) -> str:
    """The first line of what the thing says of itself, read without importing it."""
    if name not in _files(group):
        return f"from {_plugins(group)[name]}"
    text = path(group, name).read_text(encoding="utf-8")
    if GROUPS[group].suffix == ".toml":
        return str(tomllib.loads(text).get("description", ""))
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def load(group: str, name: str) -> ModuleType:
    """Import the one module that `name` stands for.

    Raises:
        UnknownNameError: There is none of that name.
        MissingDependencyError: It needs a package that is not installed.
    """
    if name in _files(group):
        return importlib.import_module(f"{GROUPS[group].package}.{name}")
    plugins = _plugins(group)
    if name in plugins:
        return importlib.import_module(plugins[name])
    raise UnknownNameError(_unknown(group, name))


def _unknown(group: str, name: str) -> str:
    return f"there is no {GROUPS[group].noun} {name!r}.{nearest(name, names(group))}"
