"""`oversight runs`: which commands made the records of a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight import __version__
from oversight.cli.options import DEFAULT_STORE, Json, Store, read_tag, show_table
from oversight.redaction import command_line, without_password

if TYPE_CHECKING:
    from oversight.errors import StoreError
    from oversight.evals.properties import Property
    from oversight.evals.report import Report
    from oversight.store import Store as OpenStore
    from oversight.store.runs import RunTokens, StoredRun


def runs(
    name: Annotated[
        str | None, typer.Argument(help="Show this run alone.", show_default=False)
    ] = None,
    store: Store = DEFAULT_STORE,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag", metavar="NAME=VALUE", help="Only runs with this tag.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the runs of a store: when, by which command and versions, with what, and how much.

    Every command that makes records is a run, by the name that `--run` gives it or by its time. A
    debate that a run found complete counts in it like one that it made.
    """
    from oversight.store import Store as OpenStore
    from oversight.text.terminal import visible

    with OpenStore.open(store, create=False, only_read=True) as opened:
        if name is not None:
            opened.require_run(name)
        known = opened.runs()
        found = [
            (each, opened.run_tokens(each.name))
            for each in tagged(known, tag or ())
            if name in (None, each.name)
        ]
    if as_json:
        typer.echo(json.dumps([_as_json(*each) for each in found], indent=2))
    elif name is not None:
        for each in found:
            _print_one(*each)
    elif found:
        columns = ("run", "begun", "command", "models", "seeds", "debates", "people", "tokens")
        show_table(opened.url, columns, [_row(*each) for each in found], as_json=False)
        if empty := [run.name for run, tokens in found if _is_unanswered(run, tokens)]:
            typer.echo(f"{visible(', '.join(empty), newlines=False)}: {UNANSWERED}")
    else:
        typer.echo(f"{opened.url}: {none_tagged(known, tag or ())}")


UNANSWERED = "no model or person has answered yet; the same command goes on with it"


def _is_unanswered(run: StoredRun, tokens: RunTokens) -> bool:
    """True for a run whose engine refused, or that was stopped, before there was an answer."""
    return not (run.num_complete or run.num_judgments or run.num_ratings or tokens.calls)


def tagged(found: Sequence[StoredRun], tags: Sequence[str]) -> list[StoredRun]:
    """The runs that have all of these tags.

    Raises:
        ConfigError: A tag is not written as NAME=VALUE.
    """
    wanted = dict(read_tag(each) for each in tags)
    return [each for each in found if wanted.items() <= each.tags.items()]


def none_tagged(found: Sequence[StoredRun], tags: Sequence[str]) -> str:
    """The words on a store of which no run has these tags, with those that there are."""
    from oversight.registry import nearest

    if not found:
        return "no run; a command that makes records begins one: oversight debate --run NAME"
    given = " ".join(f"--tag {each}" for each in tags)
    known = {f"{name}={value}" for each in found for name, value in each.tags.items()}
    hint = nearest(tags[0], known) if known else " No run has a tag."
    return f"no run has {given}.{hint} `oversight runs` lists all of them"


def names_of(opened: OpenStore, runs: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Names of the runs that `--run` and `--tag` choose, in the order given, then of the store.

    Raises:
        StoreError: A run is not stored, or none has these tags.
        ConfigError: A tag is not written as NAME=VALUE.
    """
    from oversight.errors import StoreError

    for each in runs:
        opened.require_run(each)
    if not tags:
        return list(dict.fromkeys(runs))
    known = opened.runs()
    found = [each.name for each in tagged(known, tags)]
    chosen = [each for each in runs if each in found] if runs else found
    if not chosen:
        raise StoreError(f"{opened.url}: {none_tagged(known, tags)}")
    return list(dict.fromkeys(chosen))


def _row(run: StoredRun, tokens: RunTokens) -> tuple[str, ...]:
    from oversight.text.numbers import compact

    people = run.num_judgments + run.num_ratings
    more = f" (+{len(run.starts) - 1})" if len(run.starts) > 1 else ""
    tags = "".join(f" {name}={value}" for name, value in run.tags.items())
    return (
        run.name + tags,
        run.starts[0].at.replace("T", " ").removesuffix("+00:00") + more,
        run.starts[0].action,
        ", ".join(run.models) or "–",
        ", ".join(map(str, run.seeds)) or "–",
        _debates(run) if run.num_debates else "–",
        f"{people:,}" if people else "–",
        compact(tokens.prompt + tokens.completion) if tokens.calls else "–",
    )


def _debates(run: StoredRun) -> str:
    """Complete debates; where the run was stopped, and those that it had begun by then.

    A store holds none that were only planned, so their number is not known here.
    """
    if run.num_complete == run.num_debates:
        return f"{run.num_complete:,}"
    return f"{run.num_complete:,} of {run.num_debates:,} begun"


def _print_one(run: StoredRun, tokens: RunTokens) -> None:
    from oversight.text.numbers import count, duration, listed
    from oversight.text.terminal import visible

    def say(text: str) -> None:
        typer.echo(visible(text, newlines=False))

    say(run.name + "".join(f"  {name}={value}" for name, value in run.tags.items()))
    begun = "" if run.num_complete == run.num_debates else " begun"
    say(f"  {count(run.num_debates, 'debate')}{begun}, {run.num_complete:,} complete")
    if _is_unanswered(run, tokens):
        say(f"  {UNANSWERED}")
    if run.num_judgments or run.num_ratings:
        judged, rated = count(run.num_judgments, "judgment"), count(run.num_ratings, "rating")
        say(f"  {judged} by people, {rated}")
    for model, used in tokens.by_model.items():
        cached = f" ({used.cached:,} cached)" if used.cached else ""
        say(
            f"  {model}: {count(used.calls, 'call')}, {used.prompt:,} prompt tokens{cached}, "
            f"{used.completion:,} written, {duration(used.seconds)} of calls"
        )
    for start in run.starts:
        versions = [f"{name} {version}" for name, version in start.versions.items()]
        seeds = f"; seed {listed(list(map(str, start.seeds)))}" if start.seeds else ""
        say(f"  {start.at}: {start.command}")
        say(f"    {', '.join(versions)}; git {start.git or 'none'}{seeds}")
        say(f"    settings {start.settings_id[:12]}; models {', '.join(start.models) or 'none'}")


def _as_json(run: StoredRun, tokens: RunTokens) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "run": run.name,
        "tags": run.tags,
        "models": run.models,
        "seeds": run.seeds,
        "debates": run.num_debates,
        "complete": run.num_complete,
        "judgments_by_people": run.num_judgments,
        "ratings": run.num_ratings,
        "tokens": asdict(tokens),
        "starts": [
            start.model_dump(mode="json", exclude={"run", "tags"}) | {"id": start.id}
            for start in run.starts
        ],
    }


# --- what a report is on ---


def properties(given: Sequence[str]) -> list[Property]:
    """The properties of `--by`, each once.

    Raises:
        ConfigError: One is unknown.
    """
    from oversight.evals.properties import property_of

    return [property_of(each) for each in dict.fromkeys(given)]


def stores_of(given: Sequence[str], default: str, arms: dict[str, str]) -> dict[str, str]:
    """The stores that are reported on, by the names that they are told apart by.

    Raises:
        ConfigError: They are named in two ways, or one of them twice.
    """
    from oversight.errors import ConfigError
    from oversight.store.database import parse_address, shown_address

    if given and (arms or default != DEFAULT_STORE):
        other = "--arm" if arms else "--store"
        raise ConfigError(f"{given[0]}: stores are named by {other} already; leave one out")
    if len(given) < 2:
        return arms or {"": given[0] if given else default}
    shown = [shown_address(parse_address(each)) for each in given]
    if twice := next((each for each in shown if shown.count(each) > 1), None):
        raise ConfigError(f"{twice}: named twice; a store is compared with another one")
    short = [Path(each).name for each in shown]
    names = shown if len(set(short)) < len(short) else short
    return dict(zip(names, given, strict=True))


@dataclass(frozen=True)
class ReportChoice:
    """Choice of what is reported on."""

    stores: dict[str, str]
    """By name; empty where there is one."""
    runs: Sequence[str]
    tags: Sequence[str]
    protocol: str | None
    dataset: str | None

    def report(
        self,
        by: Sequence[Property],
        prices: Path | None,
        turn_price: float,
        *,
        each_person: bool = False,
        groups: Mapping[str, str] | None = None,
    ) -> Report:
        """The report.

        Raises:
            StoreError: There is nothing to report on, or no such run.
            ConfigError: A tag or a price is wrong.
        """
        from dataclasses import replace

        from oversight.cli.progress import reading
        from oversight.cli.sharing import (
            ReadPart,
            divided,
            read_beside,
            runs_by_debate,
            uncollected,
        )
        from oversight.config import PriceTable
        from oversight.evals.breakdown import ReportOrigin, RunMembership
        from oversight.evals.report import build_report
        from oversight.store import Store as OpenStore

        table = None if prices is None else PriceTable.read(prices)
        where: dict[str, Any] = {"protocol": self.protocol, "dataset": self.dataset}
        read: dict[str, Any] = {}
        failed: list[Any] = []
        members: dict[str, RunMembership] = {}
        origins: list[StoredRun] = []
        parts: list[ReadPart] = []
        num_complete = 0
        with ExitStack() as stack:
            stack.enter_context(uncollected())
            opened = {
                name: stack.enter_context(OpenStore.open(url, create=False, only_read=True))
                for name, url in self.stores.items()
            }
            chosen = self._chosen(opened)
            self._require_debates(opened.values())
            for name, store in opened.items():
                num = store.counts()["complete"]
                num_complete += num
                known = store.runs()
                tags = {each.name: each.tags for each in known}
                for group, names in self._groups(name, chosen[name]):
                    mine, others = divided(store.debate_ids(complete=True, runs=names, **where))
                    found = store.transcripts(debate_ids=mine, runs=names)
                    read[group] = reading(found, num - len(others))
                    if others:
                        parts.append(ReadPart(group, name, self.stores[name], others, names))
                    failed += [store.transcripts(complete=False, runs=names, **where)]
                    members[group] = RunMembership(runs_by_debate(store), tags)
                origins += [
                    each for each in known if not self._is_filtered or each.name in chosen[name]
                ]
            built = build_report(
                read.pop("", ()),
                failed=chain.from_iterable(failed),
                arms=read,
                by=by,
                runs=members,
                prices=table,
                turn_price=turn_price,
                each_person=each_person,
                others=stack.enter_context(read_beside(parts, by, opened)),
                groups=groups,
            )
        if not built.num_debates:
            again = [start.command for each in origins for start in each.starts][-1:]
            raise self._nothing(built, num_complete, "".join(again))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        origin = ReportOrigin(
            made_at=now,
            version=__version__,
            command=command_line(["oversight", *sys.argv[1:]]),
            stores=tuple(store.url for store in opened.values()),
            runs=tuple(dict.fromkeys(each.name for each in origins)),
            run_commands=tuple(start.command for each in origins for start in each.starts),
            models=built.models,
            seeds=built.seeds,
        )
        return replace(built, origin=origin)

    def _require_debates(self, opened: Collection[OpenStore]) -> None:
        """Refuse a protocol or data set that none of the stores has."""
        from oversight.errors import StoreError

        lacking: list[StoreError] = []
        for store in opened:
            try:
                store.require_debates(protocol=self.protocol, dataset=self.dataset)
            except StoreError as error:
                lacking += [error]
        if len(lacking) == len(opened):
            raise lacking[0]

    @property
    def _is_filtered(self) -> bool:
        return bool(self.runs or self.tags)

    def _chosen(self, opened: Mapping[str, OpenStore]) -> dict[str, list[str]]:
        """Of each store the runs that are reported on; a run has to be in one of them."""
        if len(opened) == 1:
            return {name: names_of(store, self.runs, self.tags) for name, store in opened.items()}
        stored = {name: {each.name for each in store.runs()} for name, store in opened.items()}
        for run in self.runs:
            if not any(run in names for names in stored.values()):
                next(iter(opened.values())).require_run(run)
        return {
            name: names_of(store, [run for run in self.runs if run in stored[name]], self.tags)
            for name, store in opened.items()
        }

    def _groups(self, store: str, runs: list[str]) -> list[tuple[str, list[str]]]:
        """Groups that are measured apart: each named run, or all that a store has of them."""
        if len(self.runs) > 1:
            return [(f"{store}:{run}" if store else run, [run]) for run in runs]
        return [] if self._is_filtered and not runs else [(store, runs)]

    def filters(
        self, opened: Mapping[str, OpenStore]
    ) -> tuple[tuple[tuple[str, str], ...], dict[str, tuple[tuple[str, str], ...]]]:
        """Filters of the whole report, and by name those of each part that is measured apart: kinds
        and values by which pages list debates."""
        from oversight.store.schema import key_text

        chosen = self._chosen(opened)
        asked = [("protocol", self.protocol), ("dataset", self.dataset)]
        only = [(kind, value) for kind, value in asked if value]
        if self._is_filtered:
            names = dict.fromkeys(name for names in chosen.values() for name in names)
            only += [("run", key_text(name)) for name in names]
        groups = {}
        for store in opened:
            of_store = (("store", store),) if store else ()
            for group, runs in self._groups(store, chosen[store]):
                groups[group] = (*of_store, *(("run", key_text(name)) for name in runs))
        return tuple(only), groups

    def _nothing(self, built: Report, num_complete: int, again: str) -> StoreError:
        from oversight.errors import StoreError

        causes = ", ".join(f"{f.num} × {f.cause.replace('_', ' ')}" for f in built.failures)
        chosen = chosen_by(self.runs, self.tags, protocol=self.protocol, dataset=self.dataset)
        stores = ", ".join(self.stores.values())
        purpose = "to report on"
        return StoreError(nothing_in(stores, chosen, num_complete, purpose, causes, again))


def chosen_by(
    runs: Sequence[str], tags: Sequence[str], *, protocol: str | None, dataset: str | None
) -> str:
    """The options that choose among the debates of a store, as they were typed."""
    given = [("--protocol", protocol), ("--dataset", dataset)]
    given += [*(("--run", each) for each in runs), *(("--tag", each) for each in tags)]
    return " ".join(f"{option} {value}" for option, value in given if value)


def nothing_in(
    store: str, chosen: str, num_complete: int, purpose: str, causes: str = "", again: str = ""
) -> str:
    """The words on a store that has no complete debate of those that the options choose.

    Args:
        store: Its path or URL.
        chosen: The options (`chosen_by`); empty if there are none.
        num_complete: Complete debates without them.
        purpose: What they were wanted for: "to report on".
        causes: Why debates failed, if any did.
        again: The command that was given last; debates that failed are tried again by it.
    """
    from oversight.text.numbers import count

    store = without_password(store)
    which = f" with {chosen}" if chosen else ""
    advice = f"run `oversight debate --store {store}`"
    if which and num_complete:
        there = count(num_complete, "complete debate")
        advice = f"without that it has {there}: `oversight report --store {store}`"
    elif causes and again:
        advice = f"it is tried again by `{again}`"
    failed = f"failed: {causes}; " if causes else ""
    return f"{store}: no complete debate{which} {purpose}; {failed}{advice}"


def arms_of(given: Sequence[str]) -> dict[str, str]:
    """The stores of `--arm` by the names of the arms.

    Raises:
        ConfigError: One is not written as NAME=STORE, or a name stands twice.
    """
    from oversight.errors import ConfigError

    found: dict[str, str] = {}
    for each in given:
        name, equals, store = each.partition("=")
        if not (name and equals and store):
            raise ConfigError(f"--arm {each!r}: write a name and a store, as in start=start.db")
        if name in found:
            shown = " and ".join(map(without_password, (found[name], store)))
            raise ConfigError(f"--arm {name!r}: named twice ({shown})")
        found[name] = store
    return found
