"""Functions that a recipe names: "package.module:function" or "file.py:function".

They are the user's own code. Its file is named on stderr before it is imported, and an import
that raises becomes one error that names the setting.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError
from oversight.registry import origin, raised_at, tell_import


def load_named(path: str, setting: str, *ours: str) -> Any:
    """The object that `path` names in its module.

    Its module is imported, which runs the code in it; its file is said on stderr first.

    Args:
        path: "package.module:function" or "file.py:function".
        setting: The dotted setting that the path stands in.
        ours: Files that an error is not said to come from, as the module calls them.

    Raises:
        ConfigError: The path is no such name, the module cannot be imported or has nothing that
            can be called by that name.
    """
    module_name, _, name = path.rpartition(":")
    place = f"{setting} = {path!r}"
    if not module_name or not name:
        raise ConfigError(f"{place}: write it as 'package.module:function' or 'file.py:function'")
    try:
        found = getattr(_module(module_name, setting), name, None)
    except (Exception, SystemExit) as error:  # its code may raise whatever there is
        raise ConfigError(
            f"{place}: {module_name!r} cannot be imported ({shown_error(error, *ours)})"
        ) from error
    if not callable(found):
        raise ConfigError(f"{place}: {module_name!r} has no function {name!r}")
    return found


def shown_error(error: BaseException, *ours: str) -> str:
    """An error with the file and line that it was raised at; `ours` are files not to be named."""
    place = raised_at(error, __file__, *ours)
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
