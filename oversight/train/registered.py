"""Registration of trainers: what a trainer is, the decorator that makes one, and trainers by name.

A file of this package with a function under `@trainer` is a command of `oversight train`, by the
file's name. A trainer of one's own is given there as "file.py:function", or added by another
distribution under the entry-point group `oversight.trainers`. Names are read from the files'
text, so that listing them imports nothing.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from oversight.errors import ConfigError, UnknownNameError
from oversight.registry import check_path, load_named, nearest

if TYPE_CHECKING:
    from oversight.train.plan import Plan
    from oversight.train.settings import TrainSettings

GROUP = "oversight.trainers"
"""Entry points of other distributions, `name = "package.module:function"`."""
Makes = Literal["policy", "reward model"]


@dataclass(frozen=True, slots=True)
class Trainer:
    """A registered trainer."""

    function: Callable[..., Path]
    """`train(config, *, rows=None, resume=False)`, which gives the finished model's folder."""
    settings: type[TrainSettings]
    """Of a run: what its recipe holds."""
    plan: Callable[[Any], Plan]
    """From settings to what a run would be; it refuses all that the run would refuse."""
    makes: Makes = "policy"
    """Kind of the finished model."""

    def __call__(self, *args: Any, **kwargs: Any) -> Path:
        """Train, and give the folder of the finished model."""
        return self.function(*args, **kwargs)


class TrainerModule(ModuleType):
    """A trainer's module, which can be called: `oversight.train.dpo(rows, out="runs/dpo", …)`."""

    def __call__(self, rows: Any = None, *, resume: bool = False, **settings: Any) -> Path:
        """Train, and give the folder of the finished model.

        Args:
            rows: Rows or preference records in memory, or a pandas frame; unset, those of the
                files that `data` names.
            resume: Go on with the run in the folder `out`, if there is one.
            **settings: The run's, as its recipe has them; `model` may be a path or a hub name.

        Raises:
            ConfigError: A setting is wrong.
            DataError: Rows cannot be used.
        """
        [found] = [each for each in vars(self).values() if isinstance(each, Trainer)]
        if isinstance(settings.get("model"), str):
            settings["model"] = {"path": settings["model"]}
        if rows is not None:
            settings.setdefault("data", {})
            rows = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        return found(found.settings.parse(settings), rows=rows, resume=resume)


def trainer(
    settings: type[TrainSettings], *, plan: Callable[[Any], Plan], makes: Makes = "policy"
) -> Callable[[Callable[..., Path]], Trainer]:
    """Register `function(config, *, rows=None, resume=False)` as a trainer.

    Args:
        settings: The class of `config`.
        plan: From settings to what a run would be, for `--dry-run`.
        makes: Kind of the finished model.
    """

    def register(function: Callable[..., Path]) -> Trainer:
        module = sys.modules.get(function.__module__)
        if type(module) is ModuleType:
            module.__class__ = TrainerModule
        return Trainer(function, settings, plan, makes)

    return register


# Searched for, as parsing the files would take as long as all else of `oversight --help`.
_REGISTERED = re.compile(r"^@trainer\([^@]*?\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_FIRST_LINE = re.compile(r'(?:\s|#.*\n)*r?"""(.*?)(?:"""|\n)')


@functools.cache
def _files() -> dict[str, tuple[str, str]]:
    """Each trainer of this package: its function, and the first line of its file's docstring."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        function = _REGISTERED.search(text)
        if function is not None:
            said = _FIRST_LINE.match(text)
            found[path.stem] = (function[1], said[1].strip() if said else "")
    return found


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def own_names() -> list[str]:
    """Trainers of this package."""
    return sorted(_files())


def names() -> list[str]:
    """All trainers, found without importing any."""
    return sorted({*_files(), *_plugins()})


def summary(name: str) -> str:
    """One line on a trainer, without importing it."""
    return _files()[name][1] if name in _files() else f"from {_plugins()[name]}"


def load(name: str) -> Trainer:
    """The trainer of a name, or the user's own: "file.py:function" or "package.module:function".

    Raises:
        UnknownNameError: There is none of that name.
        ConfigError: The user's is no trainer.
    """
    check_path(name, "trainer", "trainer", code="function")
    if name in _files():
        found = getattr(import_module(f"{__package__}.{name}"), _files()[name][0])
    elif ":" in name or name in _plugins():
        found = _own(_plugins().get(name, name), Path.cwd())
    else:
        raise UnknownNameError(f"there is no trainer {name!r}.{nearest(name, names())}")
    if not isinstance(found, Trainer):
        kind = "function" if inspect.isfunction(found) else type(found).__name__
        raise ConfigError(
            f"trainer = {name!r}: this {kind} is not registered as a trainer; put "
            "@trainer(Config, plan=plan) from oversight.train.registered above it"
        )
    return found


@functools.cache
def _own(name: str, folder: Path) -> Any:
    """Return the object of a user's name in a folder, whose file is told and imported once."""
    return load_named(name, "trainer", __file__)
