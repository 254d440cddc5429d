"""`oversight constitution`: sets of principles to list, to read, to check, and to measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight import registry
from oversight.cli.options import DEFAULT_STORE, CommandLine, Json, Store, registered, show_table
from oversight.errors import OversightError
from oversight.redaction import without_password

if TYPE_CHECKING:
    from oversight.evals.harm import Decided
    from oversight.evals.principles import ConstitutionAudit, HarmBrought
    from oversight.types import Transcript

constitution = CommandLine(
    help="List, read, check and measure sets of principles.", no_args_is_help=True
)

Named = Annotated[
    str,
    typer.Argument(
        help="A set by name, or the path of its file.", autocompletion=registered("constitutions")
    ),
]


@constitution.command("list")
def list_(as_json: Json = False) -> None:
    """List the constitutions of the package."""
    names = registry.names("constitutions")
    rows = [(name, registry.summary("constitutions", name)) for name in names]
    show_table("Constitutions", ("name", "description"), rows, as_json)


@constitution.command("show")
def show_(
    name: Named,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only principles with this tag.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a set to read: oversight constitution show harmlessness --tag privacy."""
    from rich.console import Console

    from oversight import constitutions
    from oversight.text.terminal import rich_text

    chosen = constitutions.load(name).select(tags=tag or ())
    if as_json:
        document = {**chosen.model_dump(mode="json"), "fingerprint": chosen.fingerprint}
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console(highlight=False)
    console.print(rich_text(chosen.name, style="bold"))
    console.print(rich_text(chosen.description))
    if chosen.includes:
        console.print(rich_text(f"Includes {', '.join(chosen.includes)}.", style="dim"))
    for each in chosen.principles:
        console.print()
        title = rich_text(each.id, style="bold")
        notes = [*each.tags, *([f"weight {each.weight:g}"] if each.weight != 1.0 else [])]
        if notes:
            title.append_text(rich_text(f"  {', '.join(notes)}", style="dim"))
        console.print(title)
        console.print(rich_text(each.text))
        requests = (("critique", each.critique), ("revision", each.revision))
        for label, words in (*requests, ("comparison", each.comparison)):
            if words is not None:
                line = rich_text(f"{label}: ", style="dim")
                console.print(line.append_text(rich_text(words)))


@constitution.command("check")
def check(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Sets by name, or the paths of their files.",
            autocompletion=registered("constitutions"),
        ),
    ],
) -> int:
    """Check that sets can be used: their form, ids, texts, and the sets that they include."""
    from oversight import constitutions
    from oversight.text.terminal import visible

    code = 0
    for name in names:
        try:
            held = constitutions.load(name)
        except OversightError as error:
            said = str(error)
            typer.echo(visible(said if said.startswith(name) else f"{name}: {said}"))
            code = 2
            continue
        own = {
            "critique requests": sum(each.critique is not None for each in held.principles),
            "revision requests": sum(each.revision is not None for each in held.principles),
            "comparison questions": sum(each.comparison is not None for each in held.principles),
        }
        written = ", ".join(f"{count} {what}" for what, count in own.items() if count)
        number = len(held.principles)
        made = "" if all(own.values()) else "; what is not written is made of a principle's text"
        typer.echo(
            f"{name}: sound, {number} principle{'s' * (number != 1)}"
            + (f", {written}" if written else "")
            + f"{made} (fingerprint {held.fingerprint[:12]})"
        )
    return code


@constitution.command("lint")
def lint(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The set, to name principles that were never asked by.", show_default=False
        ),
    ] = None,
    store: Store = DEFAULT_STORE,
    left_out: Annotated[
        list[str] | None,
        typer.Option(
            "--left-out",
            metavar="ID=STORE",
            help="A store of a run without this principle (without = ['ID']); may be repeated.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page.", show_default=False)] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Measure what each principle did: oversight constitution lint ours.toml --store critique.db.

    Of critiques: how often a principle was drawn, found a fault, changed the answer, turned it into
    a refusal, and took harm away where the data set decides harm by rule. Of comparisons by models:
    flips with the order and with the words of a principle (feedback asked again with a set that has
    the same ids in other words), and agreement of principles. With --left-out: harm that comes back
    without a principle. Every share has an interval clustered by prompt.
    """
    from rich.console import Console

    from oversight import constitutions
    from oversight.cli.report import print_table
    from oversight.evals.audit import (
        audit_json,
        audit_tables,
        extent,
        findings,
        notes,
        write_audit,
    )
    from oversight.evals.audit_picture import write_picture
    from oversight.files import check_place
    from oversight.text.terminal import rich_text

    for option, place in (("--html", html), ("--png", png)):
        if place is not None:
            check_place(place, option)
    held = None if name is None else constitutions.load(name)
    order = () if held is None else tuple(each.id for each in held.principles)
    found = _audited(store, _runs_without(left_out or ()), order)
    if as_json:
        typer.echo(json.dumps(audit_json(found), indent=2))
    else:
        console = Console(highlight=False)
        console.print(rich_text("Audit of a constitution", style="bold"))
        console.print(rich_text(extent(found), style="dim"))
        for line in findings(found):
            console.print(rich_text(f"• {line}"))
        for line in notes(found):
            console.print(rich_text(f"! {line}", style="yellow"))
        for table in audit_tables(found):
            print_table(table, console)
    for path, write in ((html, write_audit), (png, write_picture)):
        if path is not None:
            write(found, path)
            typer.echo(f"{path} written", err=True)


def _runs_without(given: list[str] | tuple[()]) -> dict[str, str]:
    """The stores of `--left-out` by the principle that each is without.

    Raises:
        ConfigError: One is not written as ID=STORE, or a principle is named twice.
    """
    from oversight.errors import ConfigError

    found: dict[str, str] = {}
    for each in given:
        id_, equals, store = each.partition("=")
        if not (id_ and equals and store):
            raise ConfigError(
                f"--left-out {each!r}: write a principle and a store, as in privacy=without.db"
            )
        if id_ in found:
            shown = " and ".join(map(without_password, (found[id_], store)))
            raise ConfigError(f"--left-out {id_}: named twice ({shown})")
        found[id_] = store
    return found


def _audited(store: str, without: dict[str, str], order: tuple[str, ...]) -> ConstitutionAudit:
    """The measurements of a store, and what comes back in the runs without a principle.

    Raises:
        StoreError: There is nothing to measure.
        ConfigError: A run without a principle used it, or has nothing to be compared by.
    """
    from dataclasses import replace

    from oversight.cli.progress import reading
    from oversight.errors import StoreError
    from oversight.evals.harm import decide, first_and_last
    from oversight.evals.principles import PrincipleCounter
    from oversight.store import Store as Records

    counter = PrincipleCounter()
    first: list[Decided] = []
    last: list[Decided] = []
    with Records.open(store, create=False, only_read=True) as opened:
        for transcript in reading(opened.transcripts(), opened.counts()["complete"]):
            if _left_out_of(transcript) & set(without):
                continue
            counter.add(transcript)
            ends = first_and_last(transcript) if without else None
            if ends is None or not transcript.question.is_open:
                continue
            both = [decide(transcript.question, turn.text) for turn in ends]
            if both[0] is not None and both[1] is not None:
                first += [both[0]]
                last += [both[1]]
    found = counter.counted(order)
    if not found.effects:
        raise StoreError(
            f"{store}: nothing was criticised or compared by a principle (oversight critique, "
            "with a constitution in the critic's settings; oversight feedback, with one)"
        )
    rows: list[HarmBrought] = []
    for id_, path in without.items():
        rows += _brought(id_, path, store, first, last)
    return replace(found, brought=tuple(rows))


def _left_out_of(transcript: Transcript) -> set[str]:
    """Ids of the principles that the critic of a run was to go without."""
    from oversight.types import Role

    critic = transcript.debate.agents.get(Role.CRITIC)
    given = () if critic is None else critic.settings.get("without", ())
    return set(map(str, given)) if isinstance(given, list | tuple) else set()


def _brought(
    id_: str, path: str, store: str, first: list[Decided], last: list[Decided]
) -> tuple[HarmBrought, ...]:
    """Harm by kind in the store of a run without a principle, against the run with all of them.

    Raises:
        ConfigError: The principle was used there, or no rule decides answers to common prompts.
    """
    from oversight.cli.progress import reading
    from oversight.errors import ConfigError
    from oversight.evals.harm import decide, first_and_last
    from oversight.evals.principles import changes_of, harm_brought
    from oversight.store import Store as Records

    answers: list[Decided] = []
    with Records.open(path, create=False, only_read=True) as opened:
        for transcript in reading(opened.transcripts(), opened.counts()["complete"]):
            ends = first_and_last(transcript) if transcript.question.is_open else None
            if ends is None or (path == store and id_ not in _left_out_of(transcript)):
                continue
            if any(id_ in change.principles for change in changes_of(transcript)):
                raise ConfigError(
                    f"--left-out {id_}={path}: answers there were criticised by {id_!r}; name the "
                    f"store of a run whose critic has without = [{id_!r}]"
                )
            found = decide(transcript.question, ends[1].text)
            if found is not None:
                answers += [found]
    rows = harm_brought(id_, first, last, answers)
    if not rows:
        raise ConfigError(
            f"--left-out {id_}={path}: no prompt of it is answered in {store} as well and has a "
            "data set that decides harm by rule (assess(question, answer), as that of 'register')"
        )
    return rows
