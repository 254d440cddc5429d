"""Options that commands share, what completes them, and the table that lists are printed as."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from oversight import registry
from oversight.errors import ConfigError
from oversight.models import EMBEDDED
from oversight.text.terminal import rich_text


class _PlainFlags:
    """Help in which a flag, which takes no value, has no kind of one."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, `--help` included."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in params:
            if getattr(each, "is_bool_flag", False) and each.metavar is None:
                each.metavar = ""
        return params


class Command(_PlainFlags, TyperCommand):
    """A command of `CommandLine`."""


class Commands(_PlainFlags, TyperGroup):
    """A group of commands of `CommandLine`."""


class CommandLine(typer.Typer):
    """Commands with `-h` beside `--help`, and flags that show no kind of value."""

    def __init__(self, *, cls: type[Commands] = Commands, **how: Any) -> None:
        names = {"help_option_names": ["-h", "--help"]}
        super().__init__(cls=cls, context_settings=names, rich_markup_mode="rich", **how)

    def command(self, name: str | None = None, **how: Any) -> Callable[[Any], Any]:
        """As of `typer.Typer`."""
        return super().command(name, **({"cls": Command} | how))


Completed = list[tuple[str, str]]
"""Words that complete what was typed, each with a line on it."""


def registered(*groups: str) -> Callable[[str], Completed]:
    """Completes the names of registered things, and files where a folder is begun.

    Args:
        groups: Of the registry, such as "protocols".
    """

    def complete(incomplete: str) -> Completed:
        found = [
            (name, registry.summary(group, name))
            for group in groups
            for name in registry.names(group)
            if name.startswith(incomplete)
        ]
        return found or places(".toml", ".jsonl", ".py")(incomplete)

    return complete


def places(*endings: str) -> Callable[[str], Completed]:
    """Completes folders, and files with one of these endings."""

    def complete(incomplete: str) -> Completed:
        folder, slash, begun = incomplete.rpartition("/")
        try:
            inside = sorted(Path(f"{folder}{slash}" or ".").expanduser().iterdir())
        except OSError:
            return []
        shown = [each for each in inside if each.name.startswith(begun)]
        shown = [each for each in shown if begun or not each.name.startswith(".")]
        return [
            (f"{folder}{slash}{each.name}{'/' if each.is_dir() else ''}", "")
            for each in shown
            if each.suffix in endings or each.is_dir()
        ]

    return complete


def one_of(known: Callable[[], Iterable[str]]) -> Callable[[str], Completed]:
    """Completes words that are known once they are asked for."""
    return lambda incomplete: [(each, "") for each in known() if each.startswith(incomplete)]


def complete_models(incomplete: str) -> Completed:
    """Embedded models, and folders."""
    own = [(each.name, each.description) for each in EMBEDDED.values()]
    return [each for each in own if each[0].startswith(incomplete)] or places()(incomplete)


def run_names(ctx: typer.Context, incomplete: str) -> Completed:
    """Completes the names of the runs in the store at hand."""
    found = runs_at_hand(ctx.params)
    return [(name, command) for name, command, _ in found if name.startswith(incomplete)]


def tag_names(ctx: typer.Context, incomplete: str) -> Completed:
    """Completes the names of the tags in the store at hand, each up to its sign "="."""
    names = {f"{name}=": "" for *_, tags in runs_at_hand(ctx.params) for name in tags}
    return [each for each in names.items() if each[0].startswith(incomplete)]


NUM_COMPLETED = 200
"""Runs that completion offers, the newest ones."""


def runs_at_hand(params: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The newest runs of the stores that a command line names so far: name, command, tags.

    For completion: an SQLite file is read as it is, without the library that looks after stores. A
    server is not asked, and whatever goes wrong gives nothing.

    Args:
        params: Parameters of the command line, as far as it is typed.
    """
    given = params.get("store") or DEFAULT_STORE
    found: dict[str, tuple[str, list[str]]] = {}
    for place in [given] if isinstance(given, str) else given:
        with suppress(Exception):
            path = Path(str(place).rpartition("=")[2]).expanduser().resolve(strict=True)
            query = "SELECT body FROM runs ORDER BY seq DESC LIMIT ?"
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as db:
                for (body,) in db.execute(query, (NUM_COMPLETED,)):
                    start = json.loads(body)
                    found.setdefault(start["run"], (start["action"], [*start.get("tags", {})]))
    return [(name, *each) for name, each in found.items()]


Store = Annotated[
    str, typer.Option("--store", help="Path of an SQLite file, or a postgresql:// URL.")
]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for everything.", show_default="the recipe's"),
]
Quick = Annotated[bool, typer.Option("--quick", help="The recipe's short form, in minutes.")]
Processes = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes.", show_default="the recipe's")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Recipe = Annotated[
    Path | None,
    typer.Argument(
        help="A run's TOML file; see recipes/.", show_default=False, autocompletion=places(".toml")
    ),
]


RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Name this run; the same name again goes on with it.",
        show_default="time and command",
        autocompletion=run_names,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="NAME=VALUE",
        help="Tag this run. May be repeated.",
        show_default=False,
        autocompletion=tag_names,
    ),
]


RunNames = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="Only what this run made or found. May be repeated.",
        show_default=False,
        autocompletion=run_names,
    ),
]
RunTags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="NAME=VALUE",
        help="Only runs with this tag. May be repeated.",
        show_default=False,
        autocompletion=tag_names,
    ),
]


Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices", help="A TOML file of prices by model; see docs/servers.md.", show_default=False
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", min=1, help="Stop at so many tokens, to go on later.", show_default=False
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost", help="Stop at so much money, by --prices, to go on later.", show_default=False
    ),
]


def bounded(
    max_tokens: int | None, max_cost: float | None, prices: Path | None
) -> dict[str, object]:
    """The settings, by dotted name, that the options for spending stand for."""
    given = {
        "spending.max_tokens": max_tokens,
        "spending.max_cost": max_cost,
        "spending.prices": None if prices is None else str(prices),
    }
    return {name: value for name, value in given.items() if value is not None}


def labelled(run: str | None, tags: Sequence[str] | None) -> dict[str, str]:
    """The settings, by dotted name, that `--run` and `--tag` stand for.

    Raises:
        ConfigError: A tag is not written as NAME=VALUE, or is given twice.
    """
    found = {} if run is None else {"run": run}
    for each in tags or ():
        name, value = read_tag(each)
        if f"tags.{name}" in found:
            raise ConfigError(f"--tag {each}: {name} is given twice")
        found[f"tags.{name}"] = value
    return found


def read_tag(text: str) -> tuple[str, str]:
    """The name and the value of a tag.

    Raises:
        ConfigError: It is not written as NAME=VALUE.
    """
    from oversight.config import TAG_NAME

    name, equals, value = text.partition("=")
    if not equals or not value or not TAG_NAME.fullmatch(name):
        raise ConfigError(
            f"--tag {text!r}: write NAME=VALUE, as in --tag prompt=short; a name is letters, "
            "digits and _ -"
        )
    return name, value


def set_option(example: str, what: str = "Override one setting") -> Any:
    """The option `--set` of one command, with an example that this command takes."""
    return typer.Option("--set", help=f"{what}: --set {example}. May be repeated.")


DEFAULT_STORE = "oversight.db"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def part_of(shard: str | None) -> tuple[int, int]:
    """The index (from 0) and number of parts that I/N stands for; (0, 1) for all.

    Raises:
        ConfigError: It is no such pair.
    """
    if shard is None:
        return 0, 1
    first, slash, second = shard.partition("/")
    if not slash or not first.isdecimal() or not second.isdecimal():
        raise ConfigError(f"--shard {shard!r}: write it as 2/8, the second of eight parts")
    index, number = int(first), int(second)
    if not 1 <= index <= number:
        raise ConfigError(f"--shard {shard!r}: parts are counted from 1 to {number}")
    return index - 1, number


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str | int]], as_json: bool
) -> None:
    """Print rows under their columns; as JSON, a list of objects, in which numbers are numbers."""
    if as_json:
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(rich_text(f"{each:,}" if isinstance(each, int) else each) for each in row))
    Console().print(table)
