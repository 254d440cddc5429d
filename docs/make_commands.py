"""Makes the list of all commands with their options, from the command line itself.

python docs/make_commands.py        # writes docs/reference/commands.md
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from oversight.cli import main

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """\
# Commands

Made from the program by `python docs/make_commands.py`; a test holds it against the program.
`oversight COMMAND --help` shows the same in the terminal.
"""
KINDS = {str: "TEXT", int: "N", float: "X", Path: "PATH"}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(main.app), ("oversight",))])


def _sections(command: Any, name: tuple[str, ...]) -> Iterator[str]:
    for each, inner in sorted(getattr(command, "commands", {}).items()):
        if inner.hidden:
            continue
        if hasattr(inner, "commands"):
            yield from _sections(inner, (*name, each))
        else:
            yield _section(inner, (*name, each))


def _section(command: Any, name: tuple[str, ...]) -> str:
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option" and each.name != "help"]
    usage = [*name, *(_place(each) for each in arguments), *(["[OPTIONS]"] if options else [])]
    lines = [f"## {' '.join(name)}", "", f"`{' '.join(usage)}`", "", _help(command.help or ""), ""]
    if options or arguments:
        lines += ["| argument or option | meaning |", "|---|---|"]
        lines += [f"| {_place(each, code=True)} | {_cell(each.help or '')} |" for each in arguments]
        lines += [
            f"| {_flags(each)} | {_cell(each.help or '')}{_default(each)} |" for each in options
        ]
        lines.append("")
    return "\n".join(lines)


def _place(argument: Any, *, code: bool = False) -> str:
    name = str(argument.metavar or argument.name).upper().strip("[]")
    name = name if argument.required else f"[{name}]"
    return f"`{name}`" if code else name


def _flags(option: Any) -> str:
    kind = "" if option.is_flag else str(option.metavar or _kind(option))
    flags = ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))
    return f"{flags} {_cell(kind)}".strip()


def _kind(option: Any) -> str:
    kind = option.type_descriptor.annotation
    found = get_args(kind)
    if get_origin(kind) is list:
        kind = found[0]
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(str(each.value) for each in kind)
    return KINDS.get(kind, "VALUE")


def _default(option: Any) -> str:
    given = option.default
    if isinstance(option.show_default, str):
        return f" Default: {_cell(option.show_default)}."
    if option.is_flag or given is None or callable(given) or given in ((), [], ""):
        return ""
    return f" Default: `{getattr(given, 'value', given)}`."


def _help(text: str) -> str:
    """A command's help as paragraphs."""
    return _escaped(re.sub(r"\[/?\w+\]|\x08", "", inspect.cleandoc(text)))


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    """The text without marks that Markdown would take for its own."""
    return re.sub(r"([<>*_\[\]])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
