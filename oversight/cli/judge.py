"""`oversight judge`: judge debates, in a full screen, in a browser, or line by line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import Sets
from oversight.errors import ConfigError

if TYPE_CHECKING:
    from oversight.judging.settings import JudgingSettings

LOOPBACK = "127.0.0.1"


def judge(
    study: Annotated[
        Path | None,
        typer.Argument(help="A study's TOML file; see docs/judging.md.", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Path of an SQLite file, or a postgresql:// URL.", show_default="oversight.db"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--judge", help="Your pseudonym.", show_default="your user name"),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Show recorded debates whole, not round by round.")
    ] = False,
    linear: Annotated[
        bool,
        typer.Option("--linear", help="Plain lines, for screen readers, pipes and scripts."),
    ] = False,
    web: Annotated[bool, typer.Option("--web", help="In a browser on this machine.")] = False,
    port: Annotated[
        int | None,
        typer.Option(help="Of --web; 0 takes a free one.", show_default="8765", min=0, max=65535),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Of --web: another address than loopback, behind a reverse proxy.")
    ] = LOOPBACK,
    public_url: Annotated[
        str | None,
        typer.Option(help="Of --web: the reverse proxy's address.", show_default=False),
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="List the keys by their names.")] = False,
    sets: Sets = None,
) -> None:
    """Judge debates: those that are recorded, and live ones that wait for you.

    Every act is kept as it happens: leave at any moment, come back, go on.
    """
    from oversight.judging.settings import JudgingSettings

    flags = {
        "store": store,
        "judge": name,
        "dataset": dataset,
        "protocol": protocol,
        "stepped": False if whole else None,
        "theme": "light" if light else None,
    }
    if keys:
        print_keys(load_study(JudgingSettings, study, flags, sets or []))
        return
    if web and linear:
        raise ConfigError("--web and --linear are two ways of judging: choose one")
    given = {**flags, "port": port}
    settings = load_study(JudgingSettings, study, given, sets or [])
    if web:
        serve_judging(settings, again(study, flags, sets or []), host, public_url)
    else:
        run_judging(settings, linear=linear)


def print_keys(settings: JudgingSettings) -> None:
    """The names by which keys are changed, with the keys that they have now."""
    from oversight.tui.keys import KEYS, key_of, keymap

    keymap(settings.keys)
    for key_name, (_, does) in KEYS.items():
        typer.echo(f"keys.{key_name:<16} {key_of(key_name, settings.keys):<8} {does}")


def again(study: Path | None, flags: dict[str, Any], sets: list[str]) -> list[str]:
    """The command that judges with the same settings: the study, flags and `--set`.

    A value stands in one word with its option, so that none is taken for an option.
    """
    words = [sys.executable, "-m", "oversight.cli.main", "judge"]
    for key in ("store", "judge", "dataset", "protocol"):
        if flags[key] is not None:
            words.append(f"--{key}={flags[key]}")
    if flags["stepped"] is False:
        words.append("--whole")
    if flags["theme"] == "light":
        words.append("--light")
    words += [f"--set={each}" for each in sets]
    return words if study is None else [*words, "--", str(study)]


def serve_judging(
    settings: JudgingSettings, command: list[str], host: str, public_url: str | None
) -> None:
    """Serve `command` to browsers, once it is known that the store can be opened."""
    from oversight.store import Store
    from oversight.tui.keys import keymap
    from oversight.tui.web import serve

    keymap(settings.keys)
    Store.open(settings.store, create=False).close()
    serve(command, host=host, port=settings.port, public_url=public_url)


def load_study(
    kind: type[JudgingSettings], study: Path | None, flags: dict[str, Any], sets: list[str]
) -> JudgingSettings:
    """A study's settings, with flags and `--set` over them."""
    from oversight.config.recipe import assignments, override, read_toml

    changes = {key: value for key, value in flags.items() if value is not None}
    changes |= assignments(sets)
    base = read_toml(study) if study else {}
    return kind.parse(override(base, changes), where=study.name if study else "")


def run_judging(settings: JudgingSettings, *, linear: bool) -> None:
    """Open the store and judge."""
    from oversight.store import Store

    with Store.open(settings.store, create=False) as store:
        if linear:
            from oversight.tui.linear import run_linear_in_terminal

            run_linear_in_terminal(store, settings)
        else:
            from oversight.tui.app import JudgeApp

            app = JudgeApp(store, settings)
            app.run()
            if app.return_code:
                raise typer.Exit(app.return_code)
