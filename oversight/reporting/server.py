"""The viewer's server: pages of stores and training runs over HTTP, read-only.

It answers only to its own names, and beyond loopback only to who has the token; what it sends may
load nothing from elsewhere and run no script but its own file.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
import socket
import sqlite3
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from oversight.errors import ConfigError, OversightError, StoreError
from oversight.reporting import rendering
from oversight.reporting.entries import FACETS, LIST_PARAMS, ListQuery
from oversight.reporting.index import Index, Progress
from oversight.reporting.pages import call_page, compare_page, probability
from oversight.reporting.rendering import ServerLinks, belief_plot, render
from oversight.reporting.runs import run_page, run_row
from oversight.reporting.transcripts import transcript_page
from oversight.store import Store
from oversight.store.schema import key_text

if TYPE_CHECKING:  # the first page does not wait for what only other pages need
    from oversight.reporting.experiments import RunRulings

T = TypeVar("T")

COOKIE = "oversight_view"
MAX_NAMED = 20
"""Runs that a message names."""
MAX_HELD = 4
"""Runs whose rulings are kept for the next page on them."""
FIRST_WAIT_S = 0.5
"""Seconds that the first list waits for the newest debates to be read."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store that is viewed, with its index."""

    store: Store
    index: Index


class NotThere(Exception):
    """A link leads to nothing: what is wrong, and what to do."""

    def __init__(self, said: str, advice: str) -> None:
        super().__init__(said)
        self.said, self.advice = said, advice


class Viewer:
    """Pages of stores and runs, by their names.

    Args:
        shelves: Stores by name, the first of which is shown first.
        runs: Gives the run folders by name; asked each time, as runs begin meanwhile.
        experiments: Gives the folders of experiments by name, likewise.
    """

    def __init__(
        self,
        shelves: dict[str, Shelf],
        runs: Callable[[], dict[str, Path]],
        experiments: Callable[[], dict[str, Path]] = dict,
    ) -> None:
        self._shelves = shelves
        self._runs = runs
        self._experiments = experiments
        self._rulings: dict[object, RunRulings] = {}

    def app(self, gate: Callable[[ASGIApp], ASGIApp] | None = None) -> ASGIApp:
        """The application; `gate` stands before it."""
        pages = {
            "/": self._list,
            "/t/{id}": self._transcript,
            "/t/{id}/call/{key}": self._call,
            "/compare": self._compare,
            "/stored-runs": self._stored_runs,
            "/experiments": self._list_experiments,
            "/experiments/{name:path}": self._experiment,
            "/runs": self._list_runs,
            "/runs/{name:path}": self._run,
            "/assets/{stamp}/{name}": self._asset,
            "/{rest:path}": self._nothing,
        }
        routes = [Route(path, self._guarded(page)) for path, page in pages.items()]
        app: ASGIApp = Starlette(routes=routes)
        return app if gate is None else gate(app)

    def _guarded(self, page: Callable[[Request], Response]) -> Callable[[Request], object]:
        """The page, or one that says in plain words why there is none."""

        async def answer(request: Request) -> Response:
            try:
                return await run_in_threadpool(page, request)
            except NotThere as error:
                return self._problem(404, "There is no such page", error.said, error.advice)
            except (OversightError, OSError, sqlite3.Error) as error:
                advice = "Nothing is lost: this page only reads. Mend it, and load the page again."
                return self._problem(503, "The store cannot be read", str(error), advice)
            except Exception as error:
                traceback.print_exc()
                said = f"{type(error).__name__}: {error}"
                advice = "The other pages are not touched; where it failed stands in the terminal."
                return self._problem(500, "This page failed", said, advice)

        return answer

    def _problem(self, code: int, heading: str, said: str, advice: str) -> Response:
        text = self._render("problem.html", "", heading=heading, said=said, advice=advice)
        return HTMLResponse(text, status_code=code)

    def _render(self, template: str, store: str, place: str = "", **values: object) -> str:
        links = self._links(store)
        return render(
            template,
            links,
            place=place,
            sections=list(self._sections(store, links)),
            report_link="",
            stores=list(self._shelves),
            store=store,
            **values,
        )

    def _links(self, store: str) -> ServerLinks:
        return ServerLinks(store if len(self._shelves) > 1 else "")

    def _sections(self, store: str, links: ServerLinks) -> Iterator[tuple[str, str, str]]:
        """Kind of place, address and label of what there is besides debates."""
        shelf = self._shelves.get(store) or next(iter(self._shelves.values()), None)
        with contextlib.suppress(sqlite3.Error):  # the page itself says what is wrong
            if shelf is not None and shelf.index.has_runs():
                yield "stored", links.stored_runs(), "Runs"
        if self._runs():
            yield "runs", links.run(), "Training runs"
        if self._experiments():
            yield "experiments", links.experiment(), "Experiments"

    # --- debates --------------------------------------------------------------------

    def _shelf(self, request: Request) -> tuple[str, Shelf]:
        if not self._shelves:
            said = "No store is being viewed."
            raise NotThere(said, "Name one: oversight view oversight.db runs")
        name = request.query_params.get("store") or next(iter(self._shelves))
        return name, _named(name, self._shelves, "store")

    def _list(self, request: Request) -> Response:
        if not self._shelves and (there := next(iter(self._sections("", self._links(""))), None)):
            return RedirectResponse(there[1])
        name, shelf = self._shelf(request)
        for given in sorted({*request.query_params} - LIST_PARAMS):
            advice = f"There is: {', '.join(FACETS)}."
            raise NotThere(f"No list has a filter {given!r}.", advice)
        shelf.index.wait_for_first(FIRST_WAIT_S)
        query = ListQuery.parse(request.query_params.multi_items())
        listing = shelf.index.listing(query)
        links = self._links(name)
        kept = [*query.filters, *([("q", query.words)] if query.words else [])]
        chosen = {kind: value for kind, value in query.filters if kind in FACETS}
        progress = shelf.index.progress
        text = self._render(
            "list.html",
            name,
            "list",
            heading="Debates" if len(self._shelves) < 2 else f"Debates in {name}",
            query=query,
            listing=listing,
            progress=progress,
            values=shelf.index.values(),
            facets=FACETS,
            chosen=chosen,
            hidden=[each for each in query.filters if each[0] not in FACETS],
            told_filters=[(FACETS.get(kind, kind), value) for kind, value in query.filters],
            older=links.listing([*kept, ("before", str(listing.older))]) if listing.older else "",
            newer=links.listing([*kept, ("after", str(listing.newer))]) if listing.newer else "",
            nothing=_why_empty(query, progress, shelf.store.url),
        )
        return HTMLResponse(text)

    def _transcript(self, request: Request) -> Response:
        name, shelf, id_ = self._debate(request, request.path_params["id"])
        if id_ != request.path_params["id"]:
            query = urlencode(request.query_params.multi_items())
            return RedirectResponse(f"/t/{id_}?{query}" if query else f"/t/{id_}")
        page = transcript_page(shelf.store, id_)
        drawn = None if page.chart is None else belief_plot(page.chart)
        shown: dict[str, Any] = {"page": page, "drawn": drawn, "store_address": shelf.store.url}
        return HTMLResponse(self._render("transcript.html", name, **shown))

    def _debate(self, request: Request, given: str) -> tuple[str, Shelf, str]:
        """The store and the whole id of a debate, of which the beginning may be given."""
        named, _ = self._shelf(request)
        order = [named, *(each for each in self._shelves if each != named)]
        for name in order:
            found = self._shelves[name].store.find_debates(given) if given else []
            if len(found) == 1:
                return name, self._shelves[name], found[0]
            if given in found:
                return name, self._shelves[name], given
            if found:
                raise NotThere(
                    f"{given!r} begins the ids of several debates: {', '.join(found)}.",
                    "Give more of the id.",
                )
        places = ", ".join(shelf.store.url for shelf in self._shelves.values())
        raise NotThere(
            f"No debate, turn or judgment has an id that begins with {given!r} in {places}.",
            "Check the link, or look for the debate in the list.",
        )

    def _call(self, request: Request) -> Response:
        name, shelf, id_ = self._debate(request, request.path_params["id"])
        try:
            page = call_page(shelf.store, id_, request.path_params["key"])
        except StoreError as error:
            if "has no call" not in str(error):
                raise
            advice = "Open the transcript; its calls are listed with their turns."
            raise NotThere(str(error), advice) from None
        text = self._render("call.html", name, page=page, probability=probability)
        return HTMLResponse(text)

    def _compare(self, request: Request) -> Response:
        asked: QueryParams = request.query_params
        a, b = asked.get("a", ""), asked.get("b", "")
        said, compared, others = "", None, None
        name, shelf = self._shelf(request)
        try:
            if a:
                name, shelf, a = self._debate(request, a)
                left = transcript_page(shelf.store, a)
                if b:
                    _, other, b = self._debate(request, b)
                    compared = compare_page(left, transcript_page(other.store, b))
                else:
                    same = ListQuery((("question", left.question_id),))
                    others = shelf.index.listing(same)
        except NotThere as error:
            said = f"{error.said} {error.advice}"
        shown = {"page": compared, "others": others, "said": said, "a": a, "b": b}
        return HTMLResponse(self._render("compare.html", name, "", **shown))

    def _stored_runs(self, request: Request) -> Response:
        """The runs of a store, one of them, or two side by side."""
        from oversight.reporting.experiments import runs_page

        name, shelf = self._shelf(request)
        stored = {run.name: run for run in shelf.store.runs(counted=False)}
        asked = [request.query_params.get(side, "") for side in ("a", "b")]
        for each in asked:
            if each and each not in stored:
                known = ", ".join(list(stored)[-MAX_NAMED:]) or "none"
                raise NotThere(f"{shelf.store.url} has no run {each!r}.", f"There is: {known}.")
        chosen = [stored[each] for each in asked if each]
        page = None
        if len(chosen) == 2:
            rulings = [self._rulings_of(name, shelf, run.name) for run in chosen]
            page = runs_page(chosen[0], chosen[1], rulings[0], rulings[1])
        text = self._render(
            "stored_runs.html",
            name,
            "stored",
            runs=list(reversed(stored.values())),
            numbers=shelf.index.numbers("run"),
            chosen=chosen,
            page=page,
            a=asked[0],
            b=asked[1],
            key=key_text,
        )
        return HTMLResponse(text)

    def _rulings_of(self, name: str, shelf: Shelf, run: str) -> RunRulings:
        """The rulings of a run, read once for each state of its store."""
        from oversight.reporting.experiments import RunRulings

        key = (name, run, tuple(shelf.store.marks().items()))
        if key not in self._rulings:
            while len(self._rulings) >= MAX_HELD:
                self._rulings.pop(next(iter(self._rulings)), None)
            self._rulings[key] = RunRulings.read(shelf.store, run)
        return self._rulings[key]

    # --- folders --------------------------------------------------------------------

    def _list_runs(self, request: Request) -> Response:
        rows = [run_row(name, folder) for name, folder in self._runs().items()]
        return HTMLResponse(self._render("runs.html", "", "runs", runs=rows))

    def _run(self, request: Request) -> Response:
        name, runs = request.path_params["name"], self._runs()
        _named(name, runs, "training run")
        beside = request.query_params.get("with", "")
        page = run_page(name, runs, beside)
        return HTMLResponse(self._render("run.html", "", "runs", page=page, beside=beside))

    def _list_experiments(self, request: Request) -> Response:
        from oversight.reporting.experiments import experiment_row

        rows = [experiment_row(name, path) for name, path in self._experiments().items()]
        return HTMLResponse(self._render("experiments.html", "", "experiments", rows=rows))

    def _experiment(self, request: Request) -> Response:
        from oversight.reporting.experiments import experiment_page

        name, experiments = request.path_params["name"], self._experiments()
        page = experiment_page(name, _named(name, experiments, "experiment"))
        runs = {path.resolve(): run for run, path in self._runs().items()}
        stores = {
            Path(shelf.store.url).resolve(): self._links(each).listing()
            for each, shelf in self._shelves.items()
        }
        shown = {"page": page, "runs": runs, "listings": stores}
        return HTMLResponse(self._render("experiment.html", "", "experiments", **shown))

    # --- files ----------------------------------------------------------------------

    def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in rendering.ASSETS:
            raise NotThere(f"There is no file {name!r}.", "Load the page again.")
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(rendering.asset(name), media_type=rendering.ASSETS[name], headers=kept)

    def _nothing(self, request: Request) -> Response:
        advice = "Begin at the list of debates, or check the link."
        raise NotThere(f"Nothing is at {request.url.path!r}.", advice)


def _named(name: str, known: Mapping[str, T], noun: str) -> T:
    """The thing that is viewed under a name.

    Raises:
        NotThere: Nothing is; says what there is.
    """
    if name not in known:
        there = ", ".join(known) or "none"
        raise NotThere(f"No {noun} {name!r} is being viewed.", f"There is: {there}.")
    return known[name]


def _why_empty(query: ListQuery, progress: Progress, url: str) -> str:
    """Reason for an empty list, and the way on."""
    if query.filters or query.words:
        return (
            "No debate fits. Take a filter back, or search for fewer words: all of them have to "
            "stand in one text."
        )
    if progress.done:
        return "No debate is on this page of the list."
    return f"This store holds no debate yet: oversight debate --store {quote(url)} makes some."


# --- who may come in -------------------------------------------------------------------------


class Gate:
    """Refuses who calls by another name or has no token, and sends the headers of safety."""

    def __init__(self, app: ASGIApp, names: frozenset[str] | None, token: str) -> None:
        self._app = app
        self._names = names
        """Names that a browser may call it by; None for any, where a token is asked for."""
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refused = self._refuse(request)

        async def sending(message: dict) -> None:  # type: ignore[type-arg]
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                extra = dict(rendering.HEADERS)
                if b"cache-control" not in headers:
                    extra[b"cache-control"] = b"no-store"
                message["headers"] = [*message["headers"], *extra.items()]
            await send(message)

        answer = refused or self._app
        await answer(scope, receive, sending)  # type: ignore[arg-type]

    def _refuse(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("This server only reads.\n", 405)
        headers: Headers = request.headers
        if self._names is not None and headers.get("host", "") not in self._names:
            return PlainTextResponse("This address answers only to its own name.\n", 403)
        if not self._token:
            return None
        given = request.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), self._token.encode()):
            rest = [pair for pair in request.query_params.multi_items() if pair[0] != "token"]
            way = request.url.path + (f"?{urlencode(rest)}" if rest else "")
            # One slash: "//elsewhere" would be another server.
            answer = RedirectResponse("/" + way.lstrip("/"))
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        held = request.cookies.get(COOKIE, "")
        if hmac.compare_digest(held.encode(), self._token.encode()):
            return None
        said = "Open the address with the token that `oversight view` printed.\n"
        return PlainTextResponse(said, 403)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigError: It cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; --port 0 takes a free port"
        ) from None


def address_of(host: str, port: int, token: str) -> str:
    """The address to open in a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def gate_of(host: str, port: int, token: str) -> Callable[[ASGIApp], Gate]:
    """Middleware before the application when it listens there."""
    names = None
    if is_loopback(host):
        own = urlsplit(address_of(host, port, "")).netloc
        names = frozenset({own, *(f"{name}:{port}" for name in LOOPBACK_NAMES)})
    return lambda app: Gate(app, names, token)


def token_for(host: str, given: str | None) -> str:
    """The token to ask for: the one given, none on loopback, else one that is drawn.

    Raises:
        ConfigError: The one given is too short to keep anybody out.
    """
    if given is not None:
        if len(given) < MIN_TOKEN_CHARS or not given.isascii() or not given.isprintable():
            raise ConfigError(
                f"--token takes at least {MIN_TOKEN_CHARS} printable ASCII characters; leave it "
                "out, and one is drawn where it is needed"
            )
        return given
    return "" if is_loopback(host) else secrets.token_urlsafe(24)


MIN_TOKEN_CHARS = 16


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(
        app, log_level="warning", lifespan="off", access_log=False, server_header=False
    )
    # Ctrl-C is how a person ends it, and no failure.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
