"""`oversight diff`: answers and their revisions, word by word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import DEFAULT_STORE, Json, RunNames, RunTags, Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from oversight.evals.principles import Change
    from oversight.store import Store as Records
    from oversight.types import Transcript


SIDE_BY_SIDE = 110
"""Columns of a terminal from which an answer and its revision stand side by side."""
STYLES = {"kept": "", "removed": "red strike", "added": "green bold"}
MARKS = {"kept": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
"""Signs around changed words where there is no colour."""


def diff(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of prompts or debates, or their beginnings.", show_default=False),
    ] = None,
    store: Store = DEFAULT_STORE,
    principle: Annotated[
        str | None,
        typer.Option("--principle", help="Only critiques by this principle.", show_default=False),
    ] = None,
    run: RunNames = None,
    tag: RunTags = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many changes.")] = 5,
    every: Annotated[
        bool, typer.Option("--all", help="Also critiques that changed nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show answers, critiques and revisions, word by word: oversight diff --principle no-sermons.

    Removed words are struck out in red, added ones green; where there is no colour they stand
    between [- -] and {+ +}.
    """
    from itertools import islice

    from rich.console import Console

    from oversight.cli.runs import names_of
    from oversight.errors import StoreError
    from oversight.evals.principles import changes_of
    from oversight.store import Store as Records
    from oversight.text.terminal import rich_text

    with Records.open(store, create=False, only_read=True) as opened:
        runs = names_of(opened, run or (), tag or ())
        found = (
            change
            for transcript in opened.transcripts(runs=runs)
            if transcript.debate.protocol.is_open and _is_named(transcript, ids or ())
            for change in changes_of(transcript)
            if _is_by(change, principle, every=every) and (every or _changed(change))
        )
        shown = list(islice(found, limit))
        if not shown:
            raise StoreError(f"{opened.url}: {_why_none(opened, ids or [], principle)}")
        if as_json:
            typer.echo(json.dumps([_as_json(each) for each in shown], indent=2))
            return
        console = Console(highlight=False)
        for change in shown:
            _print(change, console)
        said = f"{len(shown)} shown; --limit shows more."
        console.print(rich_text(said, style="dim"))


def _why_none(opened: Records, ids: list[str], principle: str | None) -> str:
    """The reason why a store has no such change, and what to do."""
    from oversight.evals.principles import changes_of
    from oversight.registry import nearest

    changes = [each for found in opened.transcripts() for each in changes_of(found)]
    if not changes:
        return "no answer was criticised there; `oversight critique` makes such answers"
    for id_ in ids:
        if not any(_is_named(each.transcript, [id_]) for each in changes):
            return f"no criticised prompt or debate has an id that begins with {id_!r}"
    known = {each for change in changes for each in change.principles}
    if principle is not None and principle not in known:
        return (
            f"--principle {principle!r}: nothing was criticised by it.{nearest(principle, known)}"
        )
    return "nothing was changed by such a critique; --all shows those that changed nothing"


def _is_named(transcript: Transcript, ids: list[str] | tuple[()]) -> bool:
    names = (transcript.debate.id, transcript.question.id)
    return not ids or any(name.startswith(each) for each in ids for name in names)


def _is_by(change: Change, principle: str | None, *, every: bool) -> bool:
    """True if a critique was made by a principle and, unless all are shown, found a fault by it."""
    if principle is None:
        return True
    asked = principle in change.principles
    return asked and (every or not change.violated or principle in change.violated)


def _changed(change: Change) -> bool:
    return change.revision is not None and not change.revision.unchanged


def _as_json(change: Change) -> dict[str, Any]:
    from oversight.text.revisions import differences

    after = "" if change.revision is None else change.revision.text
    return {
        "debate_id": change.transcript.debate.id,
        "question_id": change.transcript.question.id,
        "prompt": change.transcript.question.text,
        "principles": list(change.principles),
        "violated": list(change.violated),
        "before": change.before.text,
        "critique": change.critique.text,
        "critique_defects": [each.value for each in change.critique.defects],
        "finds_no_fault": change.critique.unchanged,
        "revision": None if change.revision is None else after,
        "revision_defects": []
        if change.revision is None
        else [each.value for each in change.revision.defects],
        "pieces": []
        if change.revision is None
        else [[p.change, p.text] for p in differences(change.before.text, after)],
    }


def _print(change: Change, console: Console) -> None:
    from rich.columns import Columns
    from rich.panel import Panel

    from oversight.text.terminal import rich_text

    question = change.transcript.question
    console.rule(rich_text(question.id, style="bold"))
    console.print(rich_text(question.text, style="bold"))
    by = ", ".join(change.violated or change.principles) or "freely"
    if change.violated:
        by += f" (of {len(change.principles)} asked)"
    notes = "".join(f" · {each.value}" for each in change.critique.defects)
    console.print(rich_text(f"Criticised: {by}{notes}", style="cyan"))
    console.print(rich_text(change.critique.text, style="italic"))
    before, after = _marked(change, console, of="before"), _marked(change, console, of="after")
    if change.revision is None or change.revision.unchanged:
        console.print(rich_text("Nothing changed:", style="cyan"))
        console.print(rich_text(change.before.text))
    elif console.width >= SIDE_BY_SIDE:
        width = console.width // 2 - 1
        panels = (
            Panel(before, title="before", width=width),
            Panel(after, title=_title(change), width=width),
        )
        console.print(Columns(panels, padding=(0, 1)))
    else:
        console.print(rich_text(_title(change).capitalize() + ":", style="cyan"))
        console.print(_marked(change, console, of="both"))
    console.print()


def _title(change: Change) -> str:
    defects = change.revision.defects if change.revision is not None else ()
    return "revised" + "".join(f" · {each.value}" for each in defects)


def _marked(change: Change, console: Console, *, of: str) -> Text:
    """The words of a side, or of both, with the changed ones marked."""
    from oversight.text.revisions import differences
    from oversight.text.terminal import rich_text

    after = change.before.text if change.revision is None else change.revision.text
    marked = rich_text("")
    coloured = console.color_system is not None
    for piece in differences(change.before.text, after):
        if (of, piece.change) in (("before", "added"), ("after", "removed")):
            continue
        opening, closing = ("", "") if coloured else MARKS[piece.change]
        marked.append_text(rich_text(opening + piece.text + closing, style=STYLES[piece.change]))
    return marked
