"""From a name to the thing: a file registers its own name, and such others as it lists.

`names("agents")` looks at the folder without importing anything from it;
`load("agents", "debater")` imports that one module. A file that is several things lists the other
names in a literal `NAMES = {"name": "A line on it."}`, and `named(name)` in it gives what stands
under one of them, with what a module of its own would hold. Other distributions add their own under
the entry-point group of the same name as the package.

    [project.entry-points."oversight.agents"]
    my_debater = "my_package.my_debater"

Their code is named on stderr before it runs, and what is wrong with it becomes one error. An agent
or a data set of a user's own needs no package: its name is "file.py:Class".
"""

from __future__ import annotations

import ast
import difflib
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError, OversightError, UnknownNameError
from oversight.user_code import load_named, origin, raised_at, tell_import


@dataclass(frozen=True)
class Group:
    """A folder in which every file of one suffix, or package, is a thing of that name."""

    noun: str
    package: str
    support: frozenset[str] = frozenset()
    """Files that help the others and are no things themselves."""
    suffix: str = ".py"
    needs: tuple[str, ...] = ()
    """Members that the module of another distribution has to have, whatever it is used for."""
    members: tuple[str, ...] = ()
    """Members of a user's own class of this kind, "file.py:Name"; empty where none is taken."""


GROUPS: dict[str, Group] = {
    "agents": Group(
        "agent",
        "oversight.agents",
        frozenset({"speaking", "judging"}),
        needs=("Config", "build"),
        members=("ROLES", "Config", "act"),
    ),
    "engines": Group("engine", "oversight.engines", frozenset({"base"}), needs=("Config", "build")),
    "datasets": Group(
        "data set",
        "oversight.datasets",
        frozenset({"base"}),
        needs=("Config", "rows"),
        members=("Config", "rows"),
    ),
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
                "runtime",
                "state",
                "views",
            }
        ),
        needs=("NUM_SPEAKERS", "build"),
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


@dataclass(frozen=True)
class _Entry:
    """A registered name and the file that registers it."""

    path: Path
    module: str = ""
    """Last part of the module's name; empty where the thing is data."""
    summary: str | None = None
    """The line on a name that the file lists in `NAMES`; None of the file's own name."""


@cache
def _entries(group: str) -> dict[str, _Entry]:
    """The names that the files of a group register, in order."""
    spec = GROUPS[group]
    files = list(folder(group).glob(f"*{spec.suffix}"))
    if spec.suffix == ".py":
        files += folder(group).glob("*/__init__.py")
    found: dict[str, _Entry] = {}
    for path in files:
        own = (path.parent if path.stem == "__init__" else path).stem
        if own == folder(group).stem or own.startswith("_") or own in spec.support:
            continue  # the group's own __init__, and what is no thing
        module = own if spec.suffix == ".py" else ""
        found[own] = _Entry(path, module)
        for name, line in _listed(path).items() if module else ():
            found[name] = _Entry(path, module, line)
    return dict(sorted(found.items()))


def _listed(path: Path) -> dict[str, str]:
    """Further names in a file's `NAMES`, read without importing it."""
    text = path.read_text(encoding="utf-8")
    if "\nNAMES = " not in text:
        return {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES":
            return dict(ast.literal_eval(node.value))
    return {}


def _plugins(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUPS[group].package)}


def names(group: str) -> list[str]:
    """All names of a group, our own and those that other distributions add."""
    return sorted({*_entries(group), *_plugins(group)})


def path(group: str, name: str) -> Path:
    """The file that registers a built-in thing.

    Raises:
        UnknownNameError: There is none of that name.
    """
    entries = _entries(group)
    if name not in entries:
        raise UnknownNameError(_unknown(group, name))
    return entries[name].path


def summary(group: str, name: str) -> str:
    """The first line of what the thing says of itself, read without importing it."""
    entry = _entries(group).get(name)
    if entry is None:
        return f"from {_plugins(group)[name]}"
    if entry.summary is not None:
        return entry.summary
    text = entry.path.read_text(encoding="utf-8")
    if GROUPS[group].suffix == ".toml":
        return str(tomllib.loads(text).get("description", ""))
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def load(group: str, name: str) -> Any:
    """Import the one module that registers `name`; the module, or what it has under that name.

    Of a user's own, "file.py:Name" or "package.module:Name", it is the class of that name, and its
    file is said on stderr before its code runs.

    Raises:
        UnknownNameError: There is none of that name.
        MissingDependencyError: It needs a package that is not installed.
        ConfigError: A user's own, or one of another distribution, cannot be imported, or lacks what
            it needs.
    """
    if is_own(name):
        return _own(group, name, Path.cwd())
    entry = _entries(group).get(name)
    if entry is not None:
        module = importlib.import_module(f"{GROUPS[group].package}.{entry.module}")
        return module if entry.summary is None else module.named(name)
    plugins = _plugins(group)
    if name in plugins:
        return _load_plugin(GROUPS[group], name, plugins[name])
    raise UnknownNameError(_unknown(group, name))


def _load_plugin(group: Group, name: str, module_name: str) -> Any:
    """Import the module of another distribution, whose file is told first."""
    what = f"{group.noun} {name!r}"
    try:
        file = None if module_name in sys.modules else origin(module_name)
        tell_import(what, file)
        module = importlib.import_module(module_name)
    except OversightError:
        raise
    except (Exception, SystemExit) as error:  # its code may raise whatever there is
        said = " ".join(str(error).split())
        place = raised_at(error, __file__)
        raise ConfigError(
            f"{what}: {module_name!r}, which the entry point {group.package!r} names, cannot be "
            f"imported ({type(error).__name__}{': ' if said else ''}{said}{place})"
        ) from error
    if lacking := [each for each in group.needs if not hasattr(module, each)]:
        raise ConfigError(
            f"{what}: {module_name!r}, which the entry point {group.package!r} names, has no "
            f"{' and no '.join(lacking)}; a module of that group holds {', '.join(group.needs)}"
        )
    return module


def is_own(name: str) -> bool:
    """True if a name stands for a user's own code and not for what is registered."""
    return ":" in name


@cache
def _own(group: str, name: str, folder: Path) -> Any:
    """The class that a user's name stands for in a folder."""
    spec = GROUPS[group]
    setting = spec.noun.replace(" ", "")
    if not spec.members:
        raise UnknownNameError(_unknown(group, name))
    if _BY_CONTENT.match(name):
        raise UnknownNameError(
            f"there is no {spec.noun} {name!r}: so records name one from a user's own file, by the "
            "file's content; give the file itself, as 'file.py:Name'"
        )
    found = load_named(name, setting, __file__, kind="class")
    lacking = [each for each in spec.members if not hasattr(found, each)]
    if lacking or not isinstance(found, type):
        what = f"has no {' and no '.join(lacking)}" if lacking else "is no class"
        raise ConfigError(
            f"{setting} = {name!r}: it {what}; a user's own {spec.noun} is a class with "
            f"{', '.join(spec.members)}"
        )
    return found


_BY_CONTENT = re.compile(r"py:[0-9a-f]{16}:")
"""Beginning of the names that `models.identity.content_of` gives."""


def _unknown(group: str, name: str) -> str:
    spec = GROUPS[group]
    if spec.members and name.endswith(".py"):
        return f"there is no {spec.noun} {name!r}; of a file name the class too: '{name}:Name'"
    if spec.suffix == ".py" and (":" in name or name.endswith(".py")):
        article = "an" if spec.noun[0] in "aeiou" else "a"
        return (
            f"there is no {spec.noun} {name!r}: {article} {spec.noun} is called by its name; one "
            f"of your own gets it from the entry point {spec.package!r} of its distribution, see "
            "CONTRIBUTING.md"
        )
    return f"there is no {spec.noun} {name!r}.{nearest(name, names(group))}"
