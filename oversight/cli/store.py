"""`oversight store`: look after a store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store, show
from oversight.errors import StoreError
from oversight.files import check_place
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from oversight.store import Problem, Seal
    from oversight.store import Store as OpenStore

NUM_LISTED = 20
"""Number of problems that are listed; the rest are only counted."""

store = typer.Typer(
    help="Look after a store: check it, seal it, count what is in it.", no_args_is_help=True
)

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
def check(store: Store = DEFAULT_STORE, seal: SealOption = None, as_json: Json = False) -> None:
    """Verify that every row parses, that every reference holds, and that all chains of
    what was written fit. Exits with 1 if anything is wrong."""
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    sealed = _read_seal(seal)
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
        typer.echo(f"{store}: {count(len(problems), 'problem')}")
        for each in problems[:NUM_LISTED]:
            typer.echo(visible(_line(each), newlines=False))
        if len(problems) > NUM_LISTED:
            typer.echo(f"… and {len(problems) - NUM_LISTED} more; --json lists them all")
    elif now is not None:
        total = f"{count(sum(counts.values()), 'row')} in {count(len(counts), 'table')}"
        typer.echo(f"{store}: {total}, all sound")
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
def seal(store: Store = DEFAULT_STORE, out: Out = None, as_json: Json = False) -> None:
    """Print a short digest of all that is written, for a paper; with --out, write the ends of
    all chains to a file, which `oversight store check --seal` compares with."""
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    if out is not None:
        check_place(out, "--out")
    with OpenStore.open(store, create=False, only_read=True) as opened:
        problems = opened.check()
        found = opened.seal()
    if problems:
        raise StoreError(
            f"store {store} has {count(len(problems), 'problem')} and is not sealed: "
            f"see `oversight store check --store {store}`"
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
def info(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Count the records of each kind."""
    from oversight.store import Store as OpenStore

    with OpenStore.open(store, create=False, only_read=True) as opened:
        counts = opened.counts()
    show(store, ("table", "rows"), [(name, str(n)) for name, n in counts.items()], as_json)
