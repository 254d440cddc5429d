"""Options and tables that commands share, and `oversight datasets`, `models` and `protocols`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from oversight import registry
from oversight.errors import ConfigError, OversightError
from oversight.models import EMBEDDED
from oversight.text.terminal import rich_text

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.types import Slot


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
    from oversight.cli.runs import runs_at_hand

    found = runs_at_hand(ctx.params)
    return [(name, command) for name, command, _ in found if name.startswith(incomplete)]


def tag_names(ctx: typer.Context, incomplete: str) -> Completed:
    """Completes the names of the tags in the store at hand, each up to its sign "="."""
    from oversight.cli.runs import runs_at_hand

    names = {f"{name}=": "" for *_, tags in runs_at_hand(ctx.params) for name in tags}
    return [each for each in names.items() if each[0].startswith(incomplete)]


Store = Annotated[
    str, typer.Option("--store", help="Path of an SQLite file, or a postgresql:// URL.")
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


NUM_SHOWN = 3
"""Number of questions shown where none was asked for."""

Sets = Annotated[
    list[str] | None, set_option("difficulty=3", "Set one of the data set's own settings")
]


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A data set to look into.",
            show_default=False,
            autocompletion=registered("datasets"),
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="How many questions to show.", show_default=str(NUM_SHOWN)),
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Go on without rows that cannot be used.")] = False,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """List the data sets, or show questions of one: oversight datasets world --set difficulty=3."""
    if name is None:
        rows = [(each, registry.summary("datasets", each)) for each in registry.names("datasets")]
        show_table("Data sets", ("name", "description"), rows, as_json)
        return
    from oversight.config import DatasetSettings, assignments
    from oversight.datasets.base import load_questions
    from oversight.errors import ConfigError

    settings = DatasetSettings(
        dataset=name,
        settings=assignments(sets or ()),
        limit=limit or NUM_SHOWN,
        skip_bad=skip_bad,
    )
    try:
        loaded = load_questions(settings)
    except ConfigError as error:
        # Here --set names settings of the data set, and not of a recipe around it.
        raise ConfigError(str(error).replace("dataset.settings.", "")) from None
    from rich.console import Console

    from oversight.text.terminal import rich_text

    if limit and loaded.shortage:
        Console(stderr=True).print(rich_text(f"{loaded.shortage}.", style="yellow"), soft_wrap=True)
    if as_json:
        typer.echo(json.dumps([q.model_dump(mode="json") for q in loaded.questions], indent=2))
        return
    console = Console()
    for question in loaded.questions:
        console.rule(rich_text(question.id, style="bold"))
        if question.source:
            console.print(rich_text(_excerpt(question.source.text), style="dim"))
        for message in question.history:
            console.print(rich_text(f"{message.role}: {message.content}", style="dim"))
        console.print(rich_text(question.text, style="bold"))
        for index, option in enumerate(question.options):
            mark = "✓" if index == question.correct else " "
            console.print(rich_text(f"  {mark} {option.text}"))


EXCERPT_CHARS = 1200


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + " …"


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="An agent, an engine or an embedded model to look into.",
            show_default=False,
            autocompletion=lambda incomplete: (
                registered("agents", "engines")(incomplete) + complete_models(incomplete)
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List agents with their roles, engines and embedded models, or show settings of one."""
    if name is not None:
        _show_model(name, as_json=as_json)
        return
    agents = [_agent(name) for name in registry.names("agents")]
    engines = [(name, registry.summary("engines", name)) for name in registry.names("engines")]
    embedded = [(model.name, model.description) for model in EMBEDDED.values()]
    if as_json:
        document = {
            "agents": [{"name": n, "roles": r.split(), "description": d} for n, r, d in agents],
            "engines": [{"name": n, "description": d} for n, d in engines],
            "embedded": [{"name": n, "description": d} for n, d in embedded],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    show_table("Agents", ("name", "roles", "description"), agents, as_json=False)
    typer.echo("")
    show_table("Engines", ("name", "description"), engines, as_json=False)
    typer.echo("")
    show_table("Embedded models", ("name", "description"), embedded, as_json=False)


def _show_model(name: str, *, as_json: bool) -> None:
    """Print what goes by a name: roles, description, and the settings with their defaults.

    Raises:
        UnknownNameError: There is neither an agent nor an engine nor an embedded model.
    """
    from pydantic_core import to_jsonable_python

    from oversight.config import settings_of
    from oversight.errors import UnknownNameError

    found: list[dict[str, Any]] = []
    for group in ("agents", "engines"):
        if name in registry.names(group) or (group == "agents" and registry.is_own(name)):
            fields = settings_of(registry.load(group, name), name).model_fields
            about = {"kind": registry.GROUPS[group].noun, "name": name}
            if group == "agents":
                about["roles"] = _agent(name)[1]
            if not registry.is_own(name):
                about["description"] = registry.summary(group, name)
            defaults = {
                each: "needed"
                if field.is_required()
                else to_jsonable_python(field.get_default(call_default_factory=True), fallback=str)
                for each, field in fields.items()
            }
            found.append(about | {"settings": defaults})
    if name in EMBEDDED:
        model = EMBEDDED[name]
        about = {"kind": "embedded model", "name": name, "description": model.description}
        found.append(about | {"folder": str(model.folder)})
    if not found:
        known = [*registry.names("agents"), *registry.names("engines"), *EMBEDDED]
        raise UnknownNameError(
            f"there is no agent, engine or embedded model {name!r}.{registry.nearest(name, known)} "
            "`oversight models` lists them"
        )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = Console(highlight=False)
    for each in found:
        given = each.pop("settings", {})
        for key, value in each.items():
            console.print(rich_text(f"{key}: {value}"), soft_wrap=True)
        rows = [(setting, json.dumps(value)) for setting, value in given.items()]
        if rows:
            show_table("", ("setting", "default"), rows, as_json=False)


def _agent(name: str) -> tuple[str, str, str]:
    """An agent's name, roles and summary; one that cannot be loaded has its error for a summary."""
    from oversight.agents import roles

    try:
        return name, " ".join(sorted(roles(name))), registry.summary("agents", name)
    except OversightError as error:
        return name, "", str(error)


def protocols(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A protocol to look into: a name, or a .toml file.",
            show_default=False,
            autocompletion=registered("protocols"),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the protocols (debates, consultancies, critiques), or show one, step by step."""
    if name is None:
        known = registry.names("protocols")
        rows = [(each, registry.summary("protocols", each)) for each in known]
        show_table("Protocols", ("name", "description"), rows, as_json)
        return
    from oversight.protocols import load

    found = load(name)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    console = Console(highlight=False)
    console.print(rich_text(f"{found.name}: {found.description}", style="bold"), soft_wrap=True)
    steps = [
        (each.index + 1, each.round, ", ".join(map(_in_words, each.slots)))
        for each in found.schedule()
    ]
    show_table("", ("step", "round", "at the same time"), steps, as_json=False)
    values = found.model_dump(mode="json", exclude={"name", "description", "opening", "round"})
    show_table("", ("setting", "value"), [(k, json.dumps(v)) for k, v in values.items()], False)


def _in_words(slot: Slot) -> str:
    """A seat and its act, such as "judge: believe"."""
    several = f" (best of {slot.candidates})" if slot.candidates > 1 else ""
    return f"{slot.seat.value}: {slot.act.value}{several}"
