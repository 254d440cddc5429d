"""Functions and classes that a recipe names: "package.module:name" or "file.py:name".

They are the user's own code. Its file is named on stderr before it is imported, and an import
that raises becomes one error that names the setting.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError


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
