"""`oversight judge`: judge debates, in a full screen, in a browser, or line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import Sets

if TYPE_CHECKING:
    from oversight.judging.settings import JudgingSettings


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
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
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
    settings = load_study(JudgingSettings, study, flags, sets or [])
    run_judging(settings, linear=linear)


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

            JudgeApp(store, settings).run()
