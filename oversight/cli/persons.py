"""`oversight judge`, and its common parts with `oversight rate`: options, and the three ways in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_type_hints

import typer

from oversight.cli.ending import INTERRUPTS, in_browser
from oversight.cli.options import (
    RunName,
    Tags,
    complete_models,
    labelled,
    places,
    registered,
    set_option,
)
from oversight.errors import ConfigError

if TYPE_CHECKING:
    from oversight.judging.settings import JudgingSettings, SessionSettings
    from oversight.store import Store
    from oversight.tui.keys import Keys


RaterModel = Annotated[
    str | None,
    typer.Option(
        help="Model that rates, by folder, hub name or a server's name.",
        show_default=False,
        autocompletion=complete_models,
    ),
]
RaterEngine = Annotated[
    str | None,
    typer.Option(
        help="Engine that runs --model.",
        show_default="transformers; openai by --base-url",
        autocompletion=registered("engines"),
    ),
]
ServerUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url",
        help="Address of the model's server, up to /v1. May be repeated, for several servers.",
        show_default=False,
    ),
]

LOOPBACK = "127.0.0.1"

S = TypeVar("S", bound="SessionSettings")
Flags = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PersonOptions:
    """Options of a person who judges or rates."""

    store: Annotated[
        str | None,
        typer.Option(
            help="Path of an SQLite file, or a postgresql:// URL.", show_default="oversight.db"
        ),
    ] = None
    judge: Annotated[
        str | None, typer.Option(help="Your pseudonym.", show_default="your user name")
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(help="Only this data set.", autocompletion=registered("datasets")),
    ] = None
    protocol: Annotated[
        str | None,
        typer.Option(help="Only this protocol.", autocompletion=registered("protocols")),
    ] = None
    from_run: Annotated[
        str | None, typer.Option("--from-run", metavar="NAME", help="Only debates of this run.")
    ] = None
    run: RunName = None
    tag: Tags = None
    linear: Annotated[
        bool, typer.Option("--linear", help="Plain lines, for screen readers, pipes and scripts.")
    ] = False
    web: Annotated[bool, typer.Option("--web", help="In a browser on this machine.")] = False
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of --web; 0 takes a free one.", show_default="8765", min=0, max=65535
        ),
    ] = None
    host: Annotated[
        str,
        typer.Option(
            help="Address that --web listens on; another than loopback needs a reverse proxy."
        ),
    ] = LOOPBACK
    public_url: Annotated[
        str | None,
        typer.Option(
            help="With --web: the address that the reverse proxy has for others.",
            show_default=False,
        ),
    ] = None
    light: Annotated[bool, typer.Option("--light", help="Dark text on a light ground.")] = False
    keys: Annotated[
        bool,
        typer.Option(
            "--keys", help="List the keys and the names by which `keys.NAME` changes them."
        ),
    ] = False
    sets: tuple[str, ...] = ()
    """Values of `--set`, which each command declares with an example of its own."""

    def flags(self, **own: object) -> dict[str, Any]:
        """Settings by name, as these options and a command's `own` give them."""
        return {
            "store": self.store,
            "judge": self.judge,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "from_run": self.from_run,
            "theme": "light" if self.light else None,
            **labelled(self.run, self.tag),
            **own,
        }

    def of_persons(self) -> dict[str, object]:
        """Options that have no use where a model rates, each with its value if it was given."""
        return {
            "judge": self.judge,
            "linear": self.linear,
            "web": self.web,
            "port": self.port is not None,
            "host": self.host != LOOPBACK,
            "public-url": self.public_url,
            "light": self.light,
            "keys": self.keys,
        }

    def check(self) -> None:
        """Refuse two ways in at a time, and options that the way chosen has no use for.

        Raises:
            ConfigError: Names the option, and with what it is of use.
        """
        if self.web and self.linear:
            raise ConfigError("--web and --linear are two ways in: choose one")
        given = self.of_persons()
        for name in ("port", "host", "public-url"):
            if given[name] and not self.web:
                raise ConfigError(f"--{name} says where --web serves: add --web, or leave it out")
        if self.light and self.linear:
            raise ConfigError("--light is for a screen, and --linear has none: leave one out")

    def begin(
        self,
        settings: SessionSettings,
        keys: Keys,
        command: list[str],
        *,
        check: Callable[[Store], object],
        lines: Callable[[Store], None],
        screen: Callable[[Store], App],
    ) -> None:
        """List the keys, serve to browsers, or open the store and show lines or a screen.

        Args:
            settings: Of the session.
            keys: All keys of the screen.
            command: The command that a browser's tab runs.
            check: Called before browsers are served, to refuse what a tab would refuse.
            lines: Runs plain lines over a store.
            screen: Makes a full screen over a store.
        """
        from oversight.store import Store
        from oversight.tui.keys import keymap

        if self.keys:
            print_keys(settings, keys)
        elif self.web:
            from oversight.tui.web import serve

            keymap(settings.keys, keys)
            with Store.open(settings.store, create=False) as opened:
                require_chosen(opened, settings)
                check(opened)
            serve(
                command,
                host=self.host,
                port=settings.port,
                public_url=self.public_url,
                max_tabs=settings.max_tabs,
            )
        else:
            with Store.open(settings.store, create=False) as opened:
                begin_run(opened, settings, command[3])
                lines(opened) if self.linear else show(screen(opened))


def person_options(example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `PersonOptions`, passed on as its first argument, and `--set`.

    Args:
        example: Of `--set`, in the help.
    """
    hints = get_type_hints(PersonOptions, include_extras=True)
    shared = [
        Parameter(
            each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name]
        )
        for each in fields(PersonOptions)
        if each.name != "sets"
    ]
    sets = Parameter(
        "sets",
        Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[list[str] | None, set_option(example)],
    )

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(command, eval_str=True).parameters.values())[1:]
        all_of_it = [*shared, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in own), sets]

        @wraps(command)
        def run(**given: Any) -> None:
            options = {each.name: given.pop(each.name) for each in shared}
            options["sets"] = tuple(given.pop("sets") or ())
            command(PersonOptions(**options), **given)

        run.__annotations__ = {each.name: each.annotation for each in all_of_it}
        run.__signature__ = Signature(all_of_it)  # type: ignore[attr-defined]
        return run

    return with_options


def begin_run(store: Store, settings: SessionSettings, action: str) -> None:
    """Begin the run of a session, or go on with it; raises as `require_chosen`."""
    from oversight.store.runs import start_of

    require_chosen(store, settings)
    store.begin_run(start_of(settings, action))


def require_chosen(store: Store, settings: SessionSettings) -> None:
    """Refuse to choose debates by a name that the store does not have.

    Raises:
        StoreError: There is no such run, or no debate of the protocol or the data set.
    """
    if settings.from_run is not None:
        store.require_run(settings.from_run)
    store.require_debates(protocol=settings.protocol, dataset=settings.dataset)


class App(Protocol):
    """A full screen."""

    @property
    def return_code(self) -> int | None:
        """0 if all went well."""

    def run(self) -> object:
        """Run until its user leaves."""

    def leave_soon(self) -> bool:
        """Have it leave, from a signal's handler; false if it has not begun."""


def addresses(given: Sequence[str] | None) -> str | tuple[str, ...] | None:
    """The setting `base_url` that the addresses of `--base-url` stand for; None without any."""
    if not given:
        return None
    return given[0] if len(given) == 1 else tuple(given)


def described(
    name: str,
    model: str | None,
    engine: str | None,
    base_urls: Sequence[str] | None,
    option: str = "--model",
) -> dict[str, object]:
    """The settings, by dotted name, of the engine `name` that options for a model stand for.

    Args:
        name: The engine's, among `engines`.
        model: A folder, a hub name, or a server's name; None if no model is named.
        engine: That runs it; None for openai where there is an address, else transformers.
        base_urls: Of its servers.
        option: The option that names the model, for messages.

    Raises:
        ConfigError: An engine or an address is named without a model, or an address beside an
            engine that asks none.
    """
    base_url = addresses(base_urls)
    if model is None:
        for other, value in (("engine", engine), ("base-url", base_url)):
            if value is not None:
                raise ConfigError(
                    f"--{other} {value!r} needs {option}; or describe it in a study's file"
                )
        return {}
    runs = engine or ("openai" if base_url else "transformers")
    if base_url is not None and runs != "openai":
        raise ConfigError(f"--base-url is for the engine openai, and --engine is {runs!r}")
    found: dict[str, object] = {
        f"engines.{name}.engine": runs,
        f"engines.{name}.settings.model": model,
    }
    return found | ({f"engines.{name}.settings.base_url": base_url} if base_url else {})


def session(kind: type[S], study: Path | None, flags: Flags, options: PersonOptions) -> S:
    """A study's settings, with flags and `--set` over them.

    Raises:
        ConfigError: The file or a value is wrong; says which.
    """
    from oversight.config import chosen, read_toml

    changes = chosen({**flags, "port": options.port}, options.sets)
    base = read_toml(study, "study") if study else {}
    return kind.changed(base, changes, where=study.name if study else "")


def again(
    command: str, flags: Flags, sets: Sequence[str] | None, arguments: Sequence[object]
) -> list[str]:
    """The command that begins with the same settings: flags, `--set`, and arguments.

    A value stands in one word with its option, so that none is taken for an option.
    """
    words = [sys.executable, "-m", "oversight.cli.main", command]
    for name, value in flags.items():
        if value is False and name == "stepped":
            words.append("--whole")
        elif name == "theme":
            words += ["--light"] if value == "light" else []
        elif name.startswith("tags."):
            words.append(f"--tag={name.removeprefix('tags.')}={value}")
        elif value is not None:
            every = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}={each}" for each in every]
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
    with INTERRUPTS.by_leaving(app.leave_soon):
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


@person_options("require_rationale=true")
def judge(
    options: PersonOptions,
    study: Annotated[
        Path | None,
        typer.Argument(
            help="A study's TOML file; see docs/judging.md.",
            show_default=False,
            autocompletion=places(".toml"),
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Show recorded debates whole, not round by round.")
    ] = False,
    assistant_model: Annotated[
        str | None,
        typer.Option(
            help="Model that assists you: a folder, a hub name, or a server's name.",
            show_default=False,
            autocompletion=complete_models,
        ),
    ] = None,
    assistant_engine: Annotated[
        str | None,
        typer.Option(
            help="Engine of --assistant-model.",
            show_default="transformers; openai by --base-url",
            autocompletion=registered("engines"),
        ),
    ] = None,
    base_url: ServerUrls = None,
) -> None:
    """Judge debates: those that are recorded, and live ones that wait for you.

    Every act is kept as it happens: leave at any moment, come back, go on.
    """
    from oversight.judging.settings import JudgingSettings
    from oversight.tui.keys import KEYS

    def lines(store: Store) -> None:
        from oversight.tui.linear.queues import run_linear_in_terminal

        run_linear_in_terminal(store, settings)

    def screen(store: Store) -> App:
        from oversight.tui.person_app import JudgeApp

        return JudgeApp(store, settings)

    assisted = described(
        "assistant", assistant_model, assistant_engine, base_url, "--assistant-model"
    )
    if assisted:
        assisted["assistance.assistant"] = {"agent": "assistant", "engine": "assistant"}
    flags = options.flags(stepped=False if whole else None)
    options.check()
    settings = session(JudgingSettings, study, flags | assisted, options)
    if not options.keys:
        load_assistance(settings)
    own = {
        "assistant_model": assistant_model,
        "assistant_engine": assistant_engine,
        "base_url": base_url,
    }
    options.begin(
        settings,
        KEYS,
        again("judge", flags | own, options.sets, [study] if study else []),
        check=lambda store: None,
        lines=lines,
        screen=screen,
    )


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
