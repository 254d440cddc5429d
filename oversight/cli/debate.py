"""`oversight debate`, about questions, live or in bulk, and `oversight pixels`, about images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    Json,
    MaxCost,
    MaxTokens,
    Prices,
    Recipe,
    RunName,
    Tags,
    bounded,
    complete_models,
    labelled,
    registered,
    set_option,
)
from oversight.cli.persons import addresses
from oversight.redaction import without_password

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.config import RunSettings
    from oversight.experiments.pixels import PixelSettings
    from oversight.experiments.pixels.results import PixelResults
    from oversight.experiments.pixels.running import FinishedRun
    from oversight.store import Store

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        "-p",
        help="Name or .toml file of a protocol. May be repeated.",
        show_default="debate",
        autocompletion=registered("protocols"),
    ),
]


Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Debates in flight at once.", show_default="32")
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Seed of every random draw; without a data set, of the question too.", show_default="0"
    ),
]
StorePath = Annotated[
    str | None,
    typer.Option(
        help="Path of an SQLite file, or a postgresql:// URL.", show_default="oversight.db"
    ),
]
Debater = Annotated[
    str | None,
    typer.Option(
        help="Agent that debates, consults, responds and criticises.",
        show_default="see below",
        autocompletion=registered("agents"),
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Agent that judges.", show_default="see below", autocompletion=registered("agents")
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        help="Engine that runs the models.",
        show_default="transformers; openai by --base-url",
        autocompletion=registered("engines"),
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        help="Model, by folder, hub name or a server's name, for debaters and judge alike.",
        show_default=False,
        autocompletion=complete_models,
    ),
]
DebaterModel = Annotated[
    str | None,
    typer.Option(
        help="Another model for those who speak.",
        show_default="--model",
        autocompletion=complete_models,
    ),
]
JudgeModel = Annotated[
    str | None,
    typer.Option(
        help="Another model for the judge.",
        show_default="--model",
        autocompletion=complete_models,
    ),
]
DebaterEngine = Annotated[
    str | None,
    typer.Option(
        help="Engine of --debater-model.",
        show_default="--engine",
        autocompletion=registered("engines"),
    ),
]
JudgeEngine = Annotated[
    str | None,
    typer.Option(
        help="Engine of --judge-model.",
        show_default="--engine",
        autocompletion=registered("engines"),
    ),
]
BaseUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url",
        help="Address of the models' server, up to /v1; their engine is then openai. May be "
        "repeated, for several servers.",
        show_default=False,
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="Data set: a name, or a file of your own.",
        show_default="one of world",
        autocompletion=registered("datasets"),
    ),
]
BothSides = Annotated[
    bool,
    typer.Option("--both-sides", help="Run each question twice, with the two sides exchanged."),
]
Sets = Annotated[list[str] | None, set_option("dataset.limit=10")]


def debate(
    recipe: Recipe = None,
    dataset: DatasetName = None,
    protocol: Protocols = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions.", show_default=False)
    ] = None,
    concurrency: Concurrency = None,
    seed: Seed = None,
    store: StorePath = None,
    debater: Debater = None,
    judge: Judge = None,
    engine: EngineName = None,
    model: ModelName = None,
    debater_model: DebaterModel = None,
    judge_model: JudgeModel = None,
    debater_engine: DebaterEngine = None,
    judge_engine: JudgeEngine = None,
    base_url: BaseUrls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    both_sides: BothSides = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Judge each debate with the sides swapped as well.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without rows that cannot be used.")
    ] = False,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--no-live", help="Show debates as they happen.", show_default="if it is one"
        ),
    ] = None,
    queue: Annotated[
        bool,
        typer.Option(
            "--queue", help="With --judge human: run nothing yet; `oversight judge` starts them."
        ),
    ] = False,
    run: RunName = None,
    tag: Tags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Run debates: one live in the terminal, or a whole data set.

    Without a data set or recipe, one debate on a generated question, in which
    seedling, the embedded language model, plays every role; with one, agents
    that need no language model (retrieval, lexical), unless others are named.
    Debates that are complete in the store are not run again: after an interruption,
    the same command finishes the rest.
    """
    from oversight.config import assignments, chosen
    from oversight.graphs.planning import ModelOptions, casting

    flags: dict[str, Any] = {
        "dataset.dataset": dataset,
        "protocols": protocol or None,
        "dataset.limit": limit,
        "concurrency": concurrency,
        "seed": seed,
        "store": store,
        "sides": "both" if both_sides else None,
        "swap": swap or None,
        "dataset.skip_bad": skip_bad or None,
    }
    flags |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    models = ModelOptions(
        model=model,
        engine=engine,
        debater_model=debater_model,
        judge_model=judge_model,
        debater_engine=debater_engine,
        judge_engine=judge_engine,
        base_url=addresses(base_url),
    )
    cast_as = casting(debater=debater, judge=judge, models=models)
    by_hand = assignments(sets or ())
    models.refuse_contradictions(cast_as, by_hand)
    of_the_demo = recipe is None and dataset is None
    if of_the_demo and seed is not None:
        cast_as["dataset.settings.seed"] = seed  # another question, and not only other orders
    changes = cast_as | chosen(flags, sets or ())
    settings = _settings(recipe, changes, of_the_demo=of_the_demo)
    _check_speakers(debater, settings.protocols, by_hand)
    single = settings.dataset.limit == 1 and len(settings.protocols) == 1
    show_live = (single and not as_json) if live is None else live
    _run(settings, recipe, live=show_live and not queue, queue=queue, as_json=as_json)


def _settings(recipe: Path | None, changes: dict[str, Any], *, of_the_demo: bool) -> RunSettings:
    """The recipe, or one debate `of_the_demo`, with changes by dotted name."""
    from oversight.config import RunSettings, read_toml

    base = read_toml(recipe) if recipe else _one_of_the_demo() if of_the_demo else {}
    for role, agent in [*base.get("agents", {}).items()] if of_the_demo else ():
        if changes.get(f"agents.{role}.agent", agent["agent"]) != agent["agent"]:
            del base["agents"][role]  # another agent has other settings
    return RunSettings.changed(base, changes, where=recipe.name if recipe else "")


def _run(
    settings: RunSettings, recipe: Path | None, *, live: bool, queue: bool, as_json: bool
) -> None:
    """Run the debates, or leave them to those who judge them live, and print what came of it."""
    from rich.console import Console

    from oversight.cli.running import print_summary, put_in_queue, run, summary_json
    from oversight.store.runs import start_of

    out = Console(stderr=as_json)
    progress = out if live else Console(stderr=True)
    start = start_of(settings, "debate", recipe)
    done = put_in_queue(settings, start) if queue else run(settings, progress, start, live=live)
    if as_json:
        typer.echo(json.dumps(summary_json(done), indent=2))
    else:
        print_summary(done, out, short=live)
    if done.progress.failures:
        raise typer.Exit(1)


def _one_of_the_demo() -> dict[str, Any]:
    """One debate of those that `oversight demo` runs."""
    from oversight.config import override, read_toml

    changes = {"dataset.limit": 1, "protocols": ["debate_single_turn"], "sides": "drawn"}
    return override(read_toml(Path(__file__).with_name("demo.toml")), changes)


def _check_speakers(debater: str | None, named: Iterable[str], by_hand: Iterable[str]) -> None:
    """Refuse a --debater that cannot argue in one of the protocols.

    Args:
        debater: The agent; None for whichever a recipe names.
        named: The protocols.
        by_hand: Dotted settings that --set gives: a role among them is played by another agent.

    Raises:
        ConfigError: It cannot play a role that speakers have there.
    """
    from oversight.graphs.planning import check_role, roles_of
    from oversight.protocols import load
    from oversight.types import Role

    if debater is None:
        return
    given = {name.split(".")[1] for name in by_hand if name.startswith("agents.")}
    for name in named:
        for role in {Role.DEBATER, Role.CONSULTANT} & set(roles_of(load(name))) - given:
            check_role(role, debater)


def pixels(
    recipe: Recipe = None,
    pixels: Annotated[
        list[int] | None,
        typer.Option(help="Pixels that the judge sees. May be repeated.", show_default="4, 6"),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Held-out images to play on.", show_default="150")
    ] = None,
    mnist: Annotated[
        Path | None,
        typer.Option(help="Folder with MNIST's IDX files.", show_default="scikit-learn's digits"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the split, the judges and every random draw.", show_default="0"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for everything.", show_default="pixels"),
    ] = None,
    run: RunName = None,
    tag: Tags = None,
    sets: Annotated[list[str] | None, set_option("judge.steps=1000")] = None,
    as_json: Json = False,
) -> None:
    """Debate about an image before a judge who sees a few pixels of it (Irving et al. 2018).

    The same command goes on where it was stopped, and prints the same table again.
    """
    given: dict[str, Any] = {"pixels": pixels, "images": images, "mnist": mnist}
    given |= {"seed": seed, "out": out}
    given |= labelled(run, tag)
    settings = _pixel_settings(recipe, given, sets or [])
    _run_pixels(settings, as_json)


def _pixel_settings(recipe: Path | None, given: dict[str, Any], sets: list[str]) -> PixelSettings:
    from oversight.config import chosen, override, read_toml
    from oversight.errors import ConfigError
    from oversight.experiments.pixels import PixelSettings

    data = read_toml(recipe) if recipe else {}
    changes = chosen(given, sets)
    try:
        return PixelSettings.parse(override(data, changes))
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}" if recipe else str(error)) from None


def _run_pixels(settings: PixelSettings, as_json: bool) -> None:
    from rich.console import Console

    from oversight.cli.progress import TaskProgress
    from oversight.experiments.pixels.results import results
    from oversight.experiments.pixels.running import run, stored_games
    from oversight.files import check_place
    from oversight.store import Store
    from oversight.store.runs import start_of

    check_place(settings.out, "out", is_folder=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    with Store.open(settings.store_url) as store:
        store.begin_run(start_of(settings, "pixels"))
        with TaskProgress(Console(stderr=True)) as shown:
            played = run(settings, store, lambda at: shown(at.doing, at.done + at.found, at.total))
        found = results(played.dataset, played.games, stored_games(store, played.dataset))
        _write_pixels(played, found, store)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_pixels(played, found, Console())


def _write_pixels(played: FinishedRun, found: PixelResults, store: Store) -> None:
    from oversight.evals.drawing import LIGHT, save_png
    from oversight.experiments.pixels.pictures import (
        draw_games,
        draw_results,
        pick_games,
        write_page,
    )
    from oversight.experiments.pixels.running import stored_games
    from oversight.files import write_json

    out = played.settings.out
    won, lost = pick_games(played.games, stored_games(store, played.dataset))
    save_png(draw_results(found, LIGHT), out / "results.png")
    if won or lost:
        save_png(draw_games(won, lost, LIGHT), out / "games.png")
    write_page(played, found, won, lost, out / "report.html")
    write_json(out / "results.json", found.to_json())


def _print_pixels(played: FinishedRun, found: PixelResults, console: Console) -> None:
    from oversight.cli.report import print_table
    from oversight.experiments.pixels.results import extent, headlines, methods, table
    from oversight.text.numbers import count
    from oversight.text.terminal import rich_text

    console.print(rich_text(extent(found), style="bold"))
    for line in headlines(found):
        console.print(rich_text(f"• {line}"))
    print_table(table(found, wide=False), console)
    for line in methods(played, found):
        console.print(rich_text(line, style="dim"))
    settings = played.settings
    console.print(
        f"{count(played.num_played, 'game')} played, {played.num_found:,} found complete.",
        highlight=False,
    )
    url = without_password(settings.store_url)
    for line in (
        f"{settings.out}: report.html, results.png, games.png, results.json",
        f"Every game is a debate of {url}: "
        f"oversight report --store {url} -p pixels{settings.pixels[-1]}_debate",
    ):
        console.print(rich_text(line), soft_wrap=True)
