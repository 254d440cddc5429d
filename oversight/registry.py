"""From a name to the thing: the name of the file, or of the folder, is the registered name.

`names("agents")` looks at the folder without importing anything from it;
`load("agents", "debater")` imports that one module. Other distributions add
their own under the entry-point group of the same name as the package.

    [project.entry-points."oversight.agents"]
    my_debater = "my_package.my_debater"

Their code is named on stderr before it runs, and what is wrong with it becomes one error.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import sys
import tomllib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from oversight.errors import ConfigError, OversightError, UnknownNameError


@dataclass(frozen=True)
class Group:
    """A folder in which every file of one suffix, or package, is a thing of that name."""

    noun: str
    package: str
    support: frozenset[str] = frozenset()
    """Files that help the others and are no things themselves."""
    suffix: str = ".py"
    needs: tuple[str, ...] = ()
    """What the module of another distribution has to hold, whatever it is used for."""


GROUPS: dict[str, Group] = {
    "agents": Group(
        "agent",
        "oversight.agents",
        frozenset({"speaking", "judging"}),
        needs=("Config", "build"),
    ),
    "engines": Group("engine", "oversight.engines", frozenset({"base"}), needs=("Config", "build")),
    "datasets": Group(
        "data set", "oversight.datasets", frozenset({"base"}), needs=("Config", "rows")
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
                "stage",
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
        ConfigError: It is of another distribution, and cannot be imported or lacks what it needs.
    """
    if name in _files(group):
        return importlib.import_module(f"{GROUPS[group].package}.{name}")
    plugins = _plugins(group)
    if name in plugins:
        return _load_plugin(GROUPS[group], name, plugins[name])
    raise UnknownNameError(_unknown(group, name))


def _load_plugin(group: Group, name: str, module_name: str) -> ModuleType:
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
        raise ConfigError(
            f"{what}: {module_name!r}, which the entry point {group.package!r} names, cannot be "
            f"imported ({type(error).__name__}{': ' if said else ''}{said}{raised_at(error)})"
        ) from error
    if lacking := [each for each in group.needs if not hasattr(module, each)]:
        raise ConfigError(
            f"{what}: {module_name!r}, which the entry point {group.package!r} names, has no "
            f"{' and no '.join(lacking)}; a module of that group holds {', '.join(group.needs)}"
        )
    return module


_told: set[str] = set()


def tell_import(what: str, file: str | None) -> None:
    """Say once a process, on stderr, which file's code is about to run, and by which name or
    setting it was called; of several processes of a training run the first does."""
    if file is None or file in _told or os.environ.get("RANK", "0") != "0":
        return
    _told.add(file)
    line = f"{what}: importing {file}, whose code runs as part of this command"
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    sys.stderr.write(f"{shown}\n")
    sys.stderr.flush()


def origin(module_name: str) -> str | None:
    """The file of a module, or of the package that it is in: finding that runs no code."""
    spec = importlib.util.find_spec(module_name.partition(".")[0])
    if spec is None or "." not in module_name:
        return None if spec is None else spec.origin
    return f"{spec.origin} ({module_name})"


def raised_at(error: BaseException, *ours: str) -> str:
    """The file and line, in parentheses, at which foreign code raised an error; "" if it did not.

    Args:
        error: What was raised.
        ours: Files that the error is not said to come from.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if frame.filename not in (__file__, importlib.__file__, *ours)
        and not frame.filename.startswith("<frozen ")
    ]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _unknown(group: str, name: str) -> str:
    noun, package = GROUPS[group].noun, GROUPS[group].package
    if GROUPS[group].suffix == ".py" and (":" in name or name.endswith(".py")):
        article = "an" if noun[0] in "aeiou" else "a"
        return (
            f"there is no {noun} {name!r}: {article} {noun} is called by its name; one of your own "
            f"gets it from the entry point {package!r} of its distribution, see CONTRIBUTING.md"
        )
    return f"there is no {noun} {name!r}.{nearest(name, names(group))}"
