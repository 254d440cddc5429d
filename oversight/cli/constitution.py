"""`oversight constitution`: sets of principles to list, to read, and to check."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from oversight import registry
from oversight.cli.options import Json, show
from oversight.errors import OversightError

constitution = typer.Typer(help="List, read and check sets of principles.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(help="A set by name, or the path of its file.")]


@constitution.command("list")
def list_(as_json: Json = False) -> None:
    """List the constitutions of the package."""
    names = registry.names("constitutions")
    rows = [(name, registry.summary("constitutions", name)) for name in names]
    show("Constitutions", ("name", "description"), rows, as_json)


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
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
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
    names: Annotated[list[str], typer.Argument(help="Sets by name, or the paths of their files.")],
) -> int:
    """Check that sets can be used: their form, ids, texts, and the sets that they include."""
    from oversight import constitutions

    code = 0
    for name in names:
        try:
            held = constitutions.load(name)
        except OversightError as error:
            typer.echo(f"{name}: {error}")
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
