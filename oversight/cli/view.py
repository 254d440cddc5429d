"""`oversight view` and `oversight show`: transcripts and training runs in a browser, or here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store

if TYPE_CHECKING:
    from oversight.reporting.server import Shelf

RUNS = Path("runs")
"""Folder of training runs that is looked into where nothing is named."""


def view(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE or FOLDER]...",
            help="Stores, run folders, or folders that hold some. Without any: oversight.db and "
            "runs/ in this folder.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8421,
    token: Annotated[
        str | None,
        typer.Option(help="Ask for this token; beyond this machine one is drawn if none is given."),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Look at debates, transcripts and training runs in a browser; nothing is written.

    Lists with filters and search, each transcript with its prompts, quotes, beliefs, candidates
    and judgments, two of them side by side, and runs with live curves. Ctrl-C ends it.
    """
    from contextlib import ExitStack

    from oversight.reporting import server
    from oversight.reporting.runs import named_folders
    from oversight.text.terminal import visible

    token_asked = server.token_for(host, token)
    stores, folders = _places(places)
    with ExitStack() as stack:
        shelves = _shelves(stores, stack)
        listening = stack.enter_context(server.listen(host, port))
        bound = listening.getsockname()[1]

        def runs() -> dict[str, Path]:
            return named_folders([run for folder in folders for run in _runs_in(folder)])

        app = server.Viewer(shelves, runs).app(server.gate_of(host, bound, token_asked))
        address = server.address_of(host, bound, token_asked)
        typer.echo(f"Viewing at {visible(address, newlines=False)} — Ctrl-C ends it.")
        if browser and server.is_loopback(host):
            typer.launch(address)
        server.serve(app, listening)


def _places(given: Sequence[str] | None) -> tuple[list[str], list[Path]]:
    """Stores, and folders in which runs are looked for.

    Raises:
        ConfigError: A place is none of both, or there is nothing to view.
    """
    from oversight.errors import ConfigError
    from oversight.reporting.runs import find

    stores: list[str] = []
    folders: list[Path] = []
    named = given or [each for each in (DEFAULT_STORE, str(RUNS)) if Path(each).exists()]
    if not named:
        raise ConfigError(
            f"there is neither {DEFAULT_STORE} nor {RUNS}/ here: name a store or a folder, as in "
            "oversight view demo/demo.db, or make one: oversight debate"
        )
    for place in named:
        path = Path(place).expanduser()
        if "://" in place or not path.is_dir():
            stores.append(place)
            continue
        runs, held = find(path)
        if not runs and not held and given:
            raise ConfigError(
                f"{place}: no store (*.db) and no training run is in this folder; name a store's "
                "file or the folder of a run"
            )
        stores += [str(each) for each in held]
        folders.append(path)
    return list(dict.fromkeys(stores)), folders


def _runs_in(folder: Path) -> list[Path]:
    from oversight.reporting.runs import find

    return find(folder)[0]


def _shelves(stores: Sequence[str], stack: object) -> dict[str, Shelf]:
    """The stores with their indexes, by the shortest names that tell them apart."""
    from contextlib import ExitStack

    from oversight.reporting.index import Index
    from oversight.reporting.server import Shelf
    from oversight.store import Store as Records
    from oversight.store.database import hidden

    assert isinstance(stack, ExitStack)
    shelves: dict[str, Shelf] = {}
    for place in stores:
        opened = stack.enter_context(Records.open(place, create=False, only_read=True))
        index = Index(opened)
        stack.callback(index.close)
        index.start()
        name = hidden(place) if "://" in place else Path(place).name
        shelves[name if name not in shelves else hidden(place)] = Shelf(opened, index)
    return shelves


def show(
    ids: Annotated[
        list[str],
        typer.Argument(help="Ids of debates, turns or judgments, or their beginnings."),
    ],
    store: Store = DEFAULT_STORE,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Also every prompt as it was sent, and raw answers.")
    ] = False,
    source: Annotated[bool, typer.Option("--source", help="Also the whole source.")] = False,
    as_json: Json = False,
) -> None:
    """Show transcripts: turns, quotes, beliefs, judgments: oversight show 3f2a9c.

    Ids stand in `oversight view`, in exports and in messages; the beginning of one is enough.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from oversight.errors import StoreError
    from oversight.reporting.calls import call_page, samples_of
    from oversight.reporting.terminal import print_call, print_transcript
    from oversight.reporting.transcripts import transcript_page
    from oversight.store import Store as Records

    console = Console(highlight=False)
    with Records.open(store, create=False, only_read=True) as opened:
        documents = []
        for given in ids:
            found = opened.find_debates(given) if given else []
            if len(found) != 1 and given not in found:
                told = f"begins the ids of several debates ({', '.join(found)}); give more of it"
                raise StoreError(
                    f"{opened.url}: {given!r} {told}"
                    if found
                    else f"{opened.url}: no debate, turn or judgment has an id that begins with "
                    f"{given!r}; `oversight view {store}` lists them"
                )
            id_ = given if given in found else found[0]
            page = transcript_page(opened, id_)
            calls = []
            if prompts:
                keys = [key for key, *_ in samples_of(opened.transcript(id_))]
                calls = [call_page(opened, id_, key) for key in keys]
            if as_json:
                documents.append(asdict(page) | {"calls": [asdict(call) for call in calls]})
                continue
            print_transcript(page, console, with_source=source)
            for call in calls:
                print_call(call, console)
        if as_json:
            typer.echo(json.dumps(documents, indent=2))
