"""`oversight judge`: judge debates, in a full screen, in a browser, or line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import set_option
from oversight.cli.persons import (
    LOOPBACK,
    Host,
    Light,
    Linear,
    ListKeys,
    OfStore,
    OnlyDataset,
    OnlyProtocol,
    Port,
    Pseudonym,
    PublicUrl,
    Web,
    again,
    check_ways,
    print_keys,
    session,
    show,
)

if TYPE_CHECKING:
    from oversight.judging.settings import JudgingSettings


Sets = Annotated[list[str] | None, set_option("require_rationale=true")]


def judge(
    study: Annotated[
        Path | None,
        typer.Argument(help="A study's TOML file; see docs/judging.md.", show_default=False),
    ] = None,
    store: OfStore = None,
    name: Pseudonym = None,
    dataset: OnlyDataset = None,
    protocol: OnlyProtocol = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Show recorded debates whole, not round by round.")
    ] = False,
    linear: Linear = False,
    web: Web = False,
    port: Port = None,
    host: Host = LOOPBACK,
    public_url: PublicUrl = None,
    light: Light = False,
    keys: ListKeys = False,
    sets: Sets = None,
) -> None:
    """Judge debates: those that are recorded, and live ones that wait for you.

    Every act is kept as it happens: leave at any moment, come back, go on.
    """
    from oversight.judging.settings import JudgingSettings
    from oversight.tui.keys import KEYS

    flags = {
        "store": store,
        "judge": name,
        "dataset": dataset,
        "protocol": protocol,
        "stepped": False if whole else None,
        "theme": "light" if light else None,
    }
    check_ways(linear=linear, web=web, port=port, host=host, public_url=public_url, light=light)
    settings = session(JudgingSettings, study, flags, port, sets)
    if keys:
        print_keys(settings, KEYS)
    elif web:
        command = again("judge", flags, sets, [study] if study else [])
        serve_judging(settings, command, host, public_url)
    else:
        run_judging(settings, linear=linear)


def serve_judging(
    settings: JudgingSettings, command: list[str], host: str, public_url: str | None
) -> None:
    """Serve `command` to browsers, once it is known that the store can be opened."""
    from oversight.store import Store
    from oversight.tui.keys import keymap
    from oversight.tui.web import serve

    keymap(settings.keys)
    Store.open(settings.store, create=False).close()
    serve(
        command,
        host=host,
        port=settings.port,
        public_url=public_url,
        max_tabs=settings.max_tabs,
    )


def run_judging(settings: JudgingSettings, *, linear: bool) -> None:
    """Open the store and judge."""
    from oversight.store import Store

    with Store.open(settings.store, create=False) as store:
        if linear:
            from oversight.tui.linear.judging import run_linear_in_terminal

            run_linear_in_terminal(store, settings)
        else:
            from oversight.tui.app import JudgeApp

            show(JudgeApp(store, settings))
