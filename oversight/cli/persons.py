"""Common parts of `oversight judge` and `oversight rate`: options, and the three ways in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from oversight.cli.ending import in_browser
from oversight.cli.options import set_option
from oversight.errors import ConfigError

if TYPE_CHECKING:
    from oversight.judging.settings import JudgingSettings, SessionSettings
    from oversight.tui.keys import Keys


LOOPBACK = "127.0.0.1"

OfStore = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Path of an SQLite file, or a postgresql:// URL.",
        show_default="oversight.db",
    ),
]
Pseudonym = Annotated[
    str | None,
    typer.Option("--judge", help="Your pseudonym.", show_default="your user name"),
]
OnlyDataset = Annotated[str | None, typer.Option("--dataset", help="Only this data set.")]
OnlyProtocol = Annotated[str | None, typer.Option("--protocol", help="Only this protocol.")]
Linear = Annotated[
    bool, typer.Option("--linear", help="Plain lines, for screen readers, pipes and scripts.")
]
Web = Annotated[bool, typer.Option("--web", help="In a browser on this machine.")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", help="Port of --web; 0 takes a free one.", show_default="8765", min=0, max=65535
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host", help="Address that --web listens on; another than loopback needs a reverse proxy."
    ),
]
PublicUrl = Annotated[
    str | None,
    typer.Option(
        "--public-url",
        help="With --web: the address that the reverse proxy has for others.",
        show_default=False,
    ),
]
Light = Annotated[bool, typer.Option("--light", help="Dark text on a light ground.")]
ListKeys = Annotated[
    bool,
    typer.Option("--keys", help="List the keys and the names by which `keys.NAME` changes them."),
]

S = TypeVar("S", bound="SessionSettings")
Flags = Mapping[str, Any]


class App(Protocol):
    """A full screen."""

    @property
    def return_code(self) -> int | None:
        """0 if all went well."""

    def run(self) -> object:
        """Until its user leaves."""


def session(
    kind: type[S], study: Path | None, flags: Flags, port: int | None, sets: Sequence[str] | None
) -> S:
    """A study's settings, with flags and `--set` over them.

    Raises:
        ConfigError: The file or a value is wrong; says which.
    """
    from oversight.config import assignments, override, read_toml

    given = {**flags, "port": port}
    changes = {key: value for key, value in given.items() if value is not None}
    changes |= assignments(sets or [])
    base = read_toml(study) if study else {}
    return kind.parse(override(base, changes), where=study.name if study else "")


def check_ways(
    *, linear: bool, web: bool, port: int | None, host: str, public_url: str | None, light: bool
) -> None:
    """Refuse two ways in at a time, and options that the way chosen has no use for.

    Raises:
        ConfigError: Names the option, and with what it is of use.
    """
    if web and linear:
        raise ConfigError("--web and --linear are two ways in: choose one")
    given = {"port": port is not None, "host": host != LOOPBACK, "public-url": public_url}
    for name in (name for name, is_given in given.items() if is_given and not web):
        raise ConfigError(f"--{name} says where --web serves: add --web, or leave it out")
    if light and linear:
        raise ConfigError("--light is for a screen, and --linear has none: leave one out")


def again(
    command: str, flags: Flags, sets: Sequence[str] | None, arguments: Sequence[object]
) -> list[str]:
    """The command that begins with the same settings: flags, `--set`, and what has no option.

    A value stands in one word with its option, so that none is taken for an option.
    """
    words = [sys.executable, "-m", "oversight.cli.main", command]
    for name, value in flags.items():
        if value is False and name == "stepped":
            words.append("--whole")
        elif name == "theme":
            words += ["--light"] if value == "light" else []
        elif value is not None:
            words.append(f"--{name}={value}")
    words += [f"--set={each}" for each in sets or []]
    return [*words, "--", *map(str, arguments)] if arguments else words


def show(app: App) -> None:
    """Run a full screen.

    Raises:
        ConfigError: There is no terminal to show it in.
        typer.Exit: It ended with a fault, which it has shown.
    """
    if not in_browser() and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("there is no terminal to show a screen in; --linear reads plain lines")
    app.run()
    if app.return_code:
        raise typer.Exit(app.return_code)
    if not in_browser():  # where the page says it
        typer.echo("You have left. Everything you did is kept.")


def print_keys(settings: SessionSettings, keys: Keys) -> None:
    """The names by which keys are changed, with the keys that they have now."""
    from oversight.tui.keys import key_of, keymap

    keymap(settings.keys, keys)
    for name, (_, does) in keys.items():
        typer.echo(f"keys.{name:<16} {key_of(name, settings.keys, keys):<8} {does}")


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
        return
    load_assistance(settings)
    if web:
        command = again("judge", flags, sets, [study] if study else [])
        serve_judging(settings, command, host, public_url)
    else:
        run_judging(settings, linear=linear)


def load_assistance(settings: JudgingSettings) -> None:
    """Import the code of the assistants and their engines, before a screen hides the terminal on
    which the code of other distributions is named.

    Raises:
        UnknownNameError: There is no agent, or no engine, of a name.
        ConfigError: Code of another distribution cannot be imported.
    """
    from oversight import registry

    for assistant in settings.assistance.values():
        registry.load("agents", assistant.agent)
        if assistant.engine is not None:
            registry.load("engines", settings.engines[assistant.engine].engine)


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
            from oversight.tui.person_app import JudgeApp

            show(JudgeApp(store, settings))
