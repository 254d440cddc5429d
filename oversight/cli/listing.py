"""Lists of what there is to choose from: `oversight datasets`, `models`, `protocols`, `prompts`;
and `oversight propose`, by which a red team writes more prompts from seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from oversight import registry
from oversight.cli.batch import Batch, Shards
from oversight.cli.options import (
    Json,
    Recipe,
    complete_models,
    registered,
    set_option,
    show_table,
)
from oversight.errors import ConfigError, OversightError
from oversight.models import EMBEDDED
from oversight.text.terminal import rich_text

if TYPE_CHECKING:
    from oversight.agents.prompting import AgentPrompts
    from oversight.jobs.writing import Writing, WritingProgress
    from oversight.types import Slot


def prompts(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[AGENT]...",
            help="Agents whose templates are shown, or a file of them to check.",
            show_default=False,
        ),
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option("--copy", help="Write them to this file, to be changed.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the prompt templates of agents, copy them out, or check a file of them.

    oversight prompts debater --copy prompts.toml writes a file to change, and
    oversight prompts prompts.toml checks it. The setting debater.prompts is the file's place:
    docs/prompts.md.
    """

    files = [name for name in names or () if name.endswith(".toml")]
    if not names:
        if copy is not None:
            raise ConfigError("--copy: name the agents, as in oversight prompts debater --copy ...")
        _list_agents(as_json=as_json)
    elif files and (len(names) > 1 or copy is not None):
        raise ConfigError(f"{files[0]!r} is a file, and is checked by itself; name agents beside")
    elif files:
        _check_file(files[0], as_json=as_json)
    else:
        _show_agents(names, copy, as_json=as_json)


def _list_agents(*, as_json: bool) -> None:
    """Print the agents that have templates, each with their names."""
    from oversight import registry
    from oversight.agents.prompting import declared
    from oversight.errors import OversightError

    rows = []
    for name in registry.names("agents"):
        try:
            found = declared(name).prompts
        except OversightError:
            continue  # `oversight models` says what is wrong with it
        if found:
            rows.append((name, " ".join(found)))
    show_table("Prompts of agents", ("agent", "templates"), rows, as_json)


def _show_agents(names: Sequence[str], copy: Path | None, *, as_json: bool) -> None:
    """Print the templates of agents as the file that would replace them, or write that file."""
    from oversight.agents.prompting import declared
    from oversight.files import check_place, write_text

    found = {name: declared(name) for name in names}
    for name, own in found.items():
        if not own.prompts:
            raise ConfigError(
                f"agent {name!r} has no prompt templates; `oversight prompts` lists those that have"
            )
    text = "\n".join(_as_file(each) for each in found.values())
    if copy is not None:
        if copy.exists():
            raise ConfigError(f"--copy {str(copy)!r}: it is there already; name another file")
        check_place(copy, "--copy")
        write_text(copy, text, "--copy")
        agent = next(iter(found.values())).agent
        typer.echo(f"Written to {copy}. Change it, and use it: --set {agent}.prompts={copy}")
    elif as_json:
        typer.echo(json.dumps({name: _described(own) for name, own in found.items()}, indent=2))
    else:
        typer.echo(text, nl=False)


def _check_file(path: str, *, as_json: bool) -> None:
    """Check a prompt file, and print which templates in it are not the agents' own."""
    from oversight.agents.prompting import read_file

    found = read_file(path)
    rows = [(agent, " ".join(changed) or "none") for agent, changed in found.items()]
    show_table(f"{path} is in order", ("agent", "templates changed"), rows, as_json)


def _described(own: AgentPrompts) -> dict[str, Any]:
    return {
        name: {
            "about": each.about,
            "variables": each.variables,
            "needed": sorted(each.needed),
            "text": each.text,
        }
        for name, each in own.prompts.items()
    }


def _as_file(own: AgentPrompts) -> str:
    """The table of an agent in a prompt file, with what is to be known of each template."""
    from oversight.files import toml_block

    lines = [f"[{own.agent}]"]
    for name, each in own.prompts.items():
        given = ", ".join(
            f"{{{{ {variable} }}}}" + " (needed)" * (variable in each.needed)
            for variable in each.variables
        )
        lines += [f"# {each.about}", *([f"# Variables: {given}."] if given else [])]
        lines += [f"{name} = {toml_block(each.text)}", ""]
    return "\n".join(lines)


def propose(
    recipe: Recipe = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="So many new prompts.", show_default="num of the recipe"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File of the new prompts.", show_default="recipe's"),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls in flight at once.", show_default="32")
    ] = None,
    batch: Batch = None,
    shards: Shards = 1,
    sets: Annotated[list[str] | None, set_option("min_distance=0.4")] = None,
    as_json: Json = False,
) -> None:
    """Have a red team write new prompts from seeds, none twice: oversight propose RECIPE.

    Examples are drawn anew for each call, the more novel ones more often (recipes/propose.toml).
    Each new prompt is kept with its distance to the nearest one before it; what is left out is
    counted by its reason. The same command goes on after an interruption. With --batch calls go by
    files, as in `oversight critique`.
    """
    from rich.console import Console

    from oversight.config import chosen, read_toml
    from oversight.files import check_place
    from oversight.jobs.writing import Writing, WritingSettings

    if recipe is None:
        raise ConfigError("name a recipe: oversight propose recipes/propose.toml")
    flags = {"num": limit, "out": None if out is None else str(out), "concurrency": concurrency}
    changes = chosen(flags, sets or ())
    settings = WritingSettings.changed(read_toml(recipe), changes, where=recipe.name)
    check_place(settings.out, "out")
    console = Console(stderr=as_json)
    told: dict[str, Any] = {}
    if batch is None:
        progress = _run(Writing(settings))
    else:
        from oversight.cli.batch import of_folder
        from oversight.jobs.folder import JobFolder, file_engines

        with JobFolder(batch) as job:
            taken = job.take_in()
            with job.wave(shards) as wave:
                progress = _run(Writing(settings, file_engines(job, wave)))
            told = of_folder(job, taken, wave.num_requests)
    if as_json:
        typer.echo(json.dumps({**_document(progress), **told, "out": str(settings.out)}, indent=2))
    else:
        _tell(progress, told, settings.out, console)
    if progress.failures or progress.stopped:
        raise typer.Exit(1)


def _run(writing: Writing) -> WritingProgress:
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import RunProgress

    with RunProgress(writing.settings.num, Console(stderr=True), noun="prompts") as shown:
        return INTERRUPTS.run(writing.run(shown.wrote))


def _document(progress: WritingProgress) -> dict[str, Any]:
    from oversight.text.new_prompts import summary_of

    return {
        "wanted": progress.num,
        "written": progress.taken,
        "found": progress.found,
        "calls": progress.calls,
        "tokens": progress.tokens,
        "waiting": progress.waiting,
        "left_out": dict(progress.left_out.most_common()),
        "distances": summary_of(progress.distances),
        "failures": progress.failures,
        "stopped": progress.stopped,
    }


REASONS = {
    "refused": "refused to be written",
    "empty": "without a word",
    "cut_off": "cut off at max_tokens",
    "imitates_format": "with the format of further turns",
    "hole": "with a place to be filled in",
    "too_long": "too long",
    "doubled": "written before, word for word",
    "near": "nearer than min_distance to one before",
}
"""Reasons to leave a prompt out, for people."""
NUM_FAILURES = 5
"""Number of failed calls that are listed with their reason."""


def _tell(progress: WritingProgress, told: dict[str, Any], out: Path, console: Console) -> None:
    from oversight.cli.batch import print_folder
    from oversight.text.new_prompts import summary_of
    from oversight.text.numbers import count, decimal
    from oversight.text.terminal import rich_text

    def say(text: str, style: str = "") -> None:
        console.print(rich_text(text, style=style), soft_wrap=True)

    of = f"{progress.taken:,} of {count(progress.num, 'new prompt')}"
    found = f", {progress.found:,} of them found written" if progress.found else ""
    say(f"{of}{found}, in {count(progress.calls, 'call')} and {progress.tokens:,} tokens.")
    if progress.left_out:
        parts = [f"{n:,} {REASONS.get(why, why)}" for why, n in progress.left_out.most_common()]
        say(f"Left out: {', '.join(parts)}.")
    if known := summary_of(progress.distances):
        shown = {name: decimal(value) for name, value in known.items()}
        say(
            "Distance to the nearest prompt before: "
            f"median {shown['median']}, 10 to 90 %: {shown['p10']} to {shown['p90']}, least "
            f"{shown['min']}; mean {shown['mean']}, of the first fifth {shown['first_fifth']}, of "
            f"the last {shown['last_fifth']}."
        )
    for name, reason in list(progress.failures.items())[:NUM_FAILURES]:
        say(f"  call {name} failed: {reason}")
    if len(progress.failures) > NUM_FAILURES:
        say(f"  … and {len(progress.failures) - NUM_FAILURES:,} more calls that failed")
    if progress.stopped:
        say(f"Stopped: {progress.stopped}.", "yellow")
    print_folder(told, console)
    say(f'Written to {out}; dataset = "prompts" reads it.', "dim")


# --- data sets, models, protocols ---


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
