"""`oversight store`, `view` and `show`: look after a store, and at what is in it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    DEFAULT_STORE,
    CommandLine,
    Json,
    RunNames,
    RunTags,
    Store,
    places,
    show_table,
)
from oversight.cli.report import OnlyDataset, OnlyProtocol
from oversight.errors import StoreError
from oversight.files import check_place
from oversight.redaction import without_password
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from oversight.reporting.entries import DebateRow
    from oversight.reporting.server import Shelf
    from oversight.store import Problem, Seal
    from oversight.store import Store as OpenStore


NUM_LISTED = 20
"""Number of problems, or of debates, that are listed; the rest are only counted."""

store = CommandLine(
    help="Look after a store: check it, seal it, count what is in it.", no_args_is_help=True
)

File = Annotated[
    str | None,
    typer.Argument(
        help="The store, in place of --store.", show_default=False, autocompletion=places(".db")
    ),
]


def _chosen(file: str | None, store: str) -> str:
    """The store that is meant.

    Raises:
        ConfigError: It is named twice.
    """
    from oversight.errors import ConfigError

    if file is not None and store not in (DEFAULT_STORE, file):
        raise ConfigError(
            f"{file} and --store {without_password(store)} name two stores: leave one out"
        )
    return file or store


SealOption = Annotated[
    str | None,
    typer.Option(
        "--seal", metavar="FILE", help="Also compare with a seal: its file, or its digest."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write the ends of all chains to.")
]


@store.command()
def check(
    file: File = None, store: Store = DEFAULT_STORE, seal: SealOption = None, as_json: Json = False
) -> None:
    """Verify that every row parses, that every reference holds, and that all chains of
    what was written fit. Exits with 1 if anything is wrong."""
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    store, sealed = _chosen(file, store), _read_seal(seal)
    with OpenStore.open(store, create=False, only_read=True) as opened:
        problems = opened.check(None if isinstance(sealed, str) else sealed)
        counts, now = opened.counts(), _seal_of(opened)
        num_before = opened.num_before_chains()
    if isinstance(sealed, str) and now is not None and sealed != now.digest:
        problems.append(_other_digest(sealed, now))
    if as_json:
        rows = [asdict(problem) for problem in problems]
        facts = {"problems": rows, "counts": counts, "digest": now and now.digest}
        typer.echo(json.dumps(facts | {"before_chains": num_before}, indent=2))
    elif problems:
        typer.echo(f"{opened.url}: {count(len(problems), 'problem')}")
        for each in problems[:NUM_LISTED]:
            typer.echo(visible(_line(each), newlines=False))
        if len(problems) > NUM_LISTED:
            typer.echo(f"… and {len(problems) - NUM_LISTED} more; --json lists them all")
    elif now is not None:
        total = f"{count(sum(counts.values()), 'row')} in {count(len(counts), 'table')}"
        typer.echo(f"{opened.url}: {total}, all sound")
        typer.echo(_chained(now, num_before, is_sealed=sealed is not None))
        if sealed is not None:
            typer.echo(_since(sealed, now))
    if problems:
        raise typer.Exit(1)


def _seal_of(opened: OpenStore) -> Seal | None:
    """Its seal; None where the ends of chains cannot be read, which the check has named."""
    try:
        return opened.seal()
    except StoreError:
        return None


def _line(problem: Problem) -> str:
    place = f"{problem.table or 'database'} {problem.row}".strip()
    of = f" (debate {problem.debate})" if problem.debate not in ("", problem.row) else ""
    return f"  {place}{of}: {problem.reason}"


def _read_seal(given: str | None) -> Seal | str | None:
    """The seal in a file, or a digest as it was given."""
    from oversight.store.sealing import Seal, is_digest

    if given is None or (is_digest(given) and not Path(given).exists()):
        return given
    return Seal.read(Path(given))


def _other_digest(digest: str, now: Seal) -> Problem:
    from oversight.store import Problem

    return Problem(
        "heads",
        "",
        f"its seal has the digest {now.digest} now, not {digest}: it has grown since then, or was "
        "changed; the seal's file tells which, see --seal FILE",
    )


def _chained(now: Seal, num_before: int, *, is_sealed: bool) -> str:
    """As much as chains show: they hold no secret, so a writer of the store can make them anew."""
    from oversight.text.numbers import count

    fit = f"{count(now.num_rows, 'link')} in {count(len(now.heads), 'chain')} fit"
    if num_before:
        rows = f"{num_before} rows were" if num_before > 1 else "1 row was"
        fit += (
            f"; {rows} written by an oversight without chains: what was changed before that does "
            "not show"
        )
    if is_sealed:
        return fit
    return (
        f"{fit}; whether all chains were made anew, or rows cut off together with their links, "
        "only a seal kept elsewhere shows: oversight store seal"
    )


def _since(sealed: Seal | str, now: Seal) -> str:
    if isinstance(sealed, str):
        return f"seal {sealed}: exactly what was sealed"
    from oversight.text.numbers import count

    more = count(now.num_rows - sealed.num_rows, "row")
    return f"seal {sealed.digest}: all that was sealed is there, and {more} more"


@store.command()
def seal(
    file: File = None, store: Store = DEFAULT_STORE, out: Out = None, as_json: Json = False
) -> None:
    """Print a short digest of all that is written, for a paper; with --out, write the ends of
    all chains to a file, which `oversight store check --seal` compares with."""
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    store = _chosen(file, store)
    if out is not None:
        check_place(out, "--out")
    with OpenStore.open(store, create=False, only_read=True) as opened:
        problems = opened.check()
        found = opened.seal()
    if problems:
        raise StoreError(
            f"store {opened.url} has {count(len(problems), 'problem')} and is not sealed: "
            f"see `oversight store check {opened.url}`"
        )
    if out is not None:
        found.write(out)
    num_debates = len(found.heads.keys() - {""})
    if as_json:
        typer.echo(found.text(), nl=False)
        return
    typer.echo(found.digest)
    before = (
        f", {count(found.num_before, 'row')} from before there were chains" if found.before else ""
    )
    typer.echo(f"{count(found.num_rows, 'row')}, {count(num_debates, 'debate')}{before}", err=True)


@store.command()
def info(file: File = None, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Count the records of each kind."""
    from oversight.store import Store as OpenStore

    store = _chosen(file, store)
    with OpenStore.open(store, create=False, only_read=True) as opened:
        counts = opened.counts()
    show_table(opened.url, ("table", "rows"), list(counts.items()), as_json)


LOOK_EVERY_S = 1.0
"""Seconds between two looks into the folders for runs that were begun meanwhile."""
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
    import gc
    from contextlib import ExitStack

    gc.disable()  # nothing of what is imported becomes garbage, and the first page waits for it
    from oversight.reporting import server
    from oversight.reporting.runs import FoldersFound, find, named_folders
    from oversight.text.terminal import visible

    gc.freeze()
    gc.enable()
    token_asked = server.token_for(host, token)
    stores, folders = _places(places)
    with ExitStack() as stack:
        shelves, refused = _shelves(stores, stack)
        listening = stack.enter_context(server.listen(host, port))
        bound = listening.getsockname()[1]

        looked: tuple[float, FoldersFound] | None = None

        def there() -> FoldersFound:
            """Runs, stores and experiments in the folders, read again once a second at most."""
            nonlocal looked
            if looked is None or time.monotonic() - looked[0] > LOOK_EVERY_S:
                every = [find(folder) for folder in folders]
                runs = [run for each in every for run in each.runs]
                experiments = [one for each in every for one in each.experiments]
                looked = time.monotonic(), FoldersFound(runs, [], experiments)
            return looked[1]

        if refused and not (shelves or there().runs or there().experiments):
            raise refused[0]
        for each in refused:
            typer.echo(visible(f"Left out: {each}", newlines=False), err=True)
        viewer = server.Viewer(
            shelves,
            lambda: named_folders(there().runs),
            lambda: named_folders(there().experiments),
        )
        app = viewer.app(server.gate_of(host, bound, token_asked))
        address = server.address_of(host, bound, token_asked)
        typer.echo(f"Viewing at {visible(address, newlines=False)} — Ctrl-C ends it.")
        if browser and server.is_loopback(host):
            typer.launch(address)
        server.serve(app, listening)


def _places(given: Sequence[str] | None) -> tuple[dict[str, bool], list[Path]]:
    """Stores, each with True if it was named itself, and folders in which runs are looked for.

    Raises:
        ConfigError: A place is none of both, or there is nothing to view.
    """
    from oversight.errors import ConfigError
    from oversight.reporting.runs import find

    stores: dict[str, bool] = {}
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
            stores[place] = True
            continue
        found = find(path)
        if not found.runs and not found.stores and given:
            raise ConfigError(
                f"{place}: no store (*.db) and no training run is in this folder; name a store's "
                "file or the folder of a run"
            )
        for each in found.stores:
            stores.setdefault(str(each), False)
        folders.append(path)
    return stores, folders


def _shelves(
    stores: Mapping[str, bool], stack: object
) -> tuple[dict[str, Shelf], list[StoreError]]:
    """The stores with their indexes, by the shortest names that tell them apart.

    With them, the reasons why files that were only found in a folder cannot be viewed.

    Raises:
        StoreError: A store that was named itself cannot be viewed.
    """
    from contextlib import ExitStack

    from oversight.reporting.index import Index
    from oversight.reporting.runs import named_folders
    from oversight.reporting.server import Shelf
    from oversight.store import Store as Records

    assert isinstance(stack, ExitStack)
    shelves: dict[str, Shelf] = {}
    refused: list[StoreError] = []
    files = [Path(place) for place in stores if "://" not in place]
    names = {path: name for name, path in named_folders(files).items()}
    for place, is_named in stores.items():
        try:
            found = Records.open(place, create=False, only_read=True, follow=True)
        except StoreError as error:
            if is_named:
                raise
            refused += [error]
            continue
        opened = stack.enter_context(found)
        index = Index(opened)
        stack.callback(index.close)
        index.start()
        shelves[without_password(place) if "://" in place else names[Path(place).resolve()]] = (
            Shelf(opened, index)
        )
    return shelves, refused


def show(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of debates, turns or judgments, or their beginnings. Without any, the newest "
            "debates are listed.",
            show_default=False,
        ),
    ] = None,
    store: Store = DEFAULT_STORE,
    protocol: OnlyProtocol = None,
    dataset: OnlyDataset = None,
    run: RunNames = None,
    tag: RunTags = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="List at most so many debates.", show_default=str(NUM_LISTED)),
    ] = None,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Also every prompt as it was sent, and raw answers.")
    ] = False,
    source: Annotated[bool, typer.Option("--source", help="Also the whole source.")] = False,
    as_json: Json = False,
) -> None:
    """Show transcripts: turns, quotes, beliefs, judgments: oversight show 3f2a9c.

    Without ids it lists the newest debates with theirs, those that the options choose. Ids stand
    in `oversight view`, in exports and in messages as well; the beginning of one is enough.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from oversight.errors import ConfigError, StoreError
    from oversight.reporting.pages import call_page, samples_of
    from oversight.reporting.terminal import print_call, print_transcript
    from oversight.reporting.transcripts import transcript_page
    from oversight.store import Store as Records

    console = Console(highlight=False)
    filters = {"protocol": protocol, "dataset": dataset, "run": run, "tag": tag, "limit": limit}
    if not ids:
        if prompts or source:
            raise ConfigError("--prompts and --source show one debate: give its id, too")
        _list_debates(store, filters, as_json=as_json)
        return
    if given_too := next((name for name, value in filters.items() if value), None):
        raise ConfigError(f"--{given_too} chooses what is listed; leave it out, or the ids")
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
                    f"{given!r}; `oversight show --store {opened.url}` lists the newest"
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


def _list_debates(store: str, filters: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the newest debates that `filters` choose: id, question, protocol, verdict.

    Raises:
        StoreError: There is none.
    """
    from oversight.cli.runs import chosen_by, names_of, nothing_in
    from oversight.reporting.entries import entry_of
    from oversight.store import Store as Records

    of: dict[str, Any] = {name: filters[name] for name in ("protocol", "dataset")}
    runs, tags = filters["run"] or (), filters["tag"] or ()
    with Records.open(store, create=False, only_read=True) as opened:
        opened.require_debates(**of)
        ids = opened.debate_ids(**of, runs=names_of(opened, runs, tags))
        if not ids:
            chosen = chosen_by(runs=runs, tags=tags, **of)
            num = opened.counts()["complete"]
            raise StoreError(nothing_in(opened.url, chosen, num, "to show"))
        newest = ids[: -(filters["limit"] or NUM_LISTED) - 1 : -1]
        rows_of = {each.row.id: each.row for each in map(entry_of, opened.rows_of(newest))}
    found = [rows_of[each] for each in newest]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2))
        return
    rows = [(row.id[:ID_CHARS], row.question, row.protocol, _verdict(row)) for row in found]
    show_table(opened.url, ("id", "question", "protocol", "verdict"), rows, as_json=False)
    if len(ids) > len(found):
        older = f"{len(ids) - len(found):,} older ones: --limit {len(ids)}"
        typer.echo(f"{older}, or oversight view {opened.url}")


ID_CHARS = 12
"""Characters of an id in a list: enough to give it to `oversight show`."""


def _verdict(row: DebateRow) -> str:
    """The rulings on a debate, each with its mark where it is known which option is right."""
    marks = {True: " ✓", False: " ✗", None: ""}
    said = [f"{each.choice or each.verdict}{marks[each.right]}" for each in row.judged]
    return "; ".join(said) or row.status
