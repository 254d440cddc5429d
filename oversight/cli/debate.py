"""`oversight debate`: one debate live in the terminal, or a whole data set."""

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

if TYPE_CHECKING:
    from oversight.config import RunSettings

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
BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the models' server, up to /v1; their engine is then openai.",
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
    base_url: BaseUrl = None,
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
    from oversight.config import assignments
    from oversight.graphs.planning import ModelOptions, casting

    flags = {
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
    changes: dict[str, Any] = {name: each for name, each in flags.items() if each is not None}
    models = ModelOptions(
        model=model,
        engine=engine,
        debater_model=debater_model,
        judge_model=judge_model,
        debater_engine=debater_engine,
        judge_engine=judge_engine,
        base_url=base_url,
    )
    changes |= casting(debater=debater, judge=judge, models=models)
    changes |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    by_hand = assignments(sets or ())
    models.refuse_contradictions(changes, by_hand)
    of_the_demo = recipe is None and dataset is None
    if of_the_demo and seed is not None:
        changes["dataset.settings.seed"] = seed  # another question, and not only other orders
    settings = _settings(recipe, changes | by_hand, of_the_demo=of_the_demo)
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
