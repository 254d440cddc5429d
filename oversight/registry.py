"""From a name to the thing: files of the package, other distributions, a user's own code.

`names("agents")` looks at the folder without importing anything from it;
`load("agents", "debater")` imports that one module. A file that is several things lists the other
names in a literal `NAMES = {"name": "A line on it."}`, and `named(name)` in it gives what stands
under one of them, with what a module of its own would hold. Other distributions add their own under
the entry-point group of the same name as the package.

    [project.entry-points."oversight.agents"]
    my_debater = "my_package.my_debater"

An agent or a data set of a user's own needs no package: its name is "file.py:Class", and a recipe
names a function as "package.module:name" or "file.py:name". Foreign code is named on stderr before
it runs, and what is wrong with it becomes one error, which names the setting.

A path is taken in the same way wherever a name is: code as "file.py:name", data as a file
("file.jsonl" for questions, "file.toml" for a protocol). `check_path` says of all what they lack.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

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
    """Members that the module of another distribution has to have, whatever it is used for."""
    members: tuple[str, ...] = ()
    """Members of a user's own class of this kind, "file.py:Name"; empty where none is taken."""
    files: tuple[str, ...] = ()
    """Endings of files of data that are taken by their path in place of a name."""


GROUPS: dict[str, Group] = {
    "agents": Group(
        "agent",
        "oversight.agents",
        frozenset({"judging", "prompting", "speaking"}),
        needs=("Config", "build"),
        members=("ROLES", "Config", "act"),
    ),
    "engines": Group("engine", "oversight.engines", needs=("Config", "build")),
    "datasets": Group(
        "data set",
        "oversight.datasets",
        frozenset({"base"}),
        needs=("Config", "rows"),
        members=("Config", "rows"),
        files=(".jsonl",),
    ),
    "graphs": Group(
        "graph",
        "oversight.graphs",
        frozenset({"nodes", "planning", "rejudging", "running", "runtime", "views"}),
        needs=("NUM_SPEAKERS", "build"),
    ),
    "checks": Group(
        "check",
        "oversight.guard.checks",
        frozenset({"base"}),
        needs=("Config", "build"),
        members=("Config", "build"),
    ),
    "interop": Group(
        "format",
        "oversight.interop",
        frozenset(
            {
                *("base", "inspect_evals", "inspect_files", "inspect_records"),
                *("inspect_samples", "inspect_solvers", "inspect_tasks"),
            }
        ),
        needs=("Config", "read"),
        members=("Config", "read"),
    ),
    "policies": Group("policy", "oversight.guard.policies", suffix=".toml"),
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

    parts = GROUPS[group].package.split(".")[1:]
    return Path(next(iter(oversight.__path__))).joinpath(*parts)


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
    spec = GROUPS[group]
    if spec.members:
        setting = spec.noun.replace(" ", "")
        check_path(name, setting, spec.noun, code="class", files=spec.files)
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
"""Beginning of the names that `models.content_of` gives."""


def _unknown(group: str, name: str) -> str:
    spec = GROUPS[group]
    if spec.suffix == ".py" and (":" in name or name.endswith(".py")):
        article = "an" if spec.noun[0] in "aeiou" else "a"
        return (
            f"there is no {spec.noun} {name!r}: {article} {spec.noun} is called by its name; one "
            f"of your own gets it from the entry point {spec.package!r} of its distribution, see "
            "CONTRIBUTING.md"
        )
    return f"there is no {spec.noun} {name!r}.{nearest(name, names(group))}"


_IS_PATH = re.compile(
    r".*\.(?:py|jsonl?|toml|csv|tsv|txt|parquet|ya?ml|ipynb)|.*[/\\].*", re.DOTALL
)


def check_path(
    value: str, setting: str, noun: str, *, code: str, files: tuple[str, ...] = ()
) -> None:
    """Refuse a path that leads to nothing, or to nothing of that kind; a name passes.

    Args:
        value: A name, "file.py:name", "package.module:name", or the path of a file of data.
        setting: The dotted setting that it stands in.
        noun: The kind of thing, for messages.
        code: Kind of what a file of code has of it: class or function.
        files: Endings of files of data that are taken.

    Raises:
        ConfigError: One line that names the setting, the value and what is accepted.
    """
    file, colon, name = value.rpartition(":") if ":" in value else (value, "", "")
    path = Path(file).expanduser()
    if colon and (not name or not file.endswith(".py")):
        return  # a module's name, or what has no form at all: its import says so
    if not _IS_PATH.fullmatch(file):
        return
    place = f"{setting} = {value!r}"
    if file.endswith(".py") or (path.suffix in files and not colon):
        if not path.is_file():
            raise ConfigError(f"{place}: there is no such file")
        if file.endswith(".py") and not colon:
            raise ConfigError(f"{place}: name the {code} in the file too, as '{value}:name'")
        return
    forms = " or ".join(f"'file{each}'" for each in (*files, f".py:{code}"))
    raise ConfigError(f"{place}: this is no file of a {noun}; give a name, or {forms}")


def load_named(path: str, setting: str, *ours: str, kind: str = "function") -> Any:
    """The object that `path` names in its module.

    Its module is imported, which runs the code in it; its file is said on stderr first.

    Args:
        path: "package.module:name" or "file.py:name".
        setting: The dotted setting that the path stands in.
        ours: Files that an error is not said to come from, as the module calls them.
        kind: Function or class, for messages.

    Raises:
        ConfigError: The path is no such name, the module cannot be imported or has nothing that
            can be called by that name.
    """
    module_name, _, name = path.rpartition(":")
    place = f"{setting} = {path!r}"
    check_path(path, setting, setting.partition(".")[0], code=kind)
    if not module_name or not name:
        raise ConfigError(f"{place}: write it as 'package.module:{kind}' or 'file.py:{kind}'")
    try:
        found = getattr(_module(module_name, setting), name, None)
    except (Exception, SystemExit) as error:  # its code may raise whatever there is
        raise ConfigError(
            f"{place}: {module_name!r} cannot be imported ({shown_error(error, *ours)})"
        ) from error
    if not callable(found):
        raise ConfigError(f"{place}: {module_name!r} has no {kind} {name!r}")
    return found


def shown_error(error: BaseException, *ours: str, theirs: str | None = None) -> str:
    """An error with the file and line that it was raised at.

    Args:
        error: The error.
        ours: Files not to be named.
        theirs: The user's file: its last line on the way to the error is named, where it has one.
    """
    place = raised_at(error, *ours, theirs=theirs)
    words = shortened(" ".join(str(error).split()), 300)
    return f"{type(error).__name__}{': ' if words else ''}{words}{place}"


def shortened(text: str, length: int = 100) -> str:
    """The first `length` characters of a text."""
    return text if len(text) <= length else text[:length] + "…"


def _module(name: str, setting: str) -> Any:
    """A module by its name, or by its file, which is told before its code runs."""
    if not name.endswith(".py"):
        tell_import(setting, None if name in sys.modules else origin(name))
        return importlib.import_module(name)
    file = Path(name).expanduser()
    spec = importlib.util.spec_from_file_location(f"oversight_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is no Python file")
    if not file.is_file():
        raise ImportError("there is no such file")
    tell_import(setting, str(file.resolve()))
    module = importlib.util.module_from_spec(spec)
    # Where a module's own dataclasses look for it.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
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


def raised_at(error: BaseException, *ours: str, theirs: str | None = None) -> str:
    """The file and line, in parentheses, at which foreign code raised an error; "" if it did not.

    Args:
        error: The error.
        ours: Files that the error is not said to come from.
        theirs: The foreign file: its last line on the way to the error is named, where it has one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if frame.filename not in (__file__, importlib.__file__, *ours)
        and not frame.filename.startswith("<frozen ")
    ]
    own = [frame for frame in own if frame.filename == theirs] or own
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
