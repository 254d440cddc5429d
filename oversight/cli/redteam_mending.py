"""`oversight redteam mend` and `loop`: from what was found to a target that withstands it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import Json, places, set_option

if TYPE_CHECKING:
    from oversight.redteam.findings import RedTeamFinding
    from oversight.redteam.mending import MendingRows, Reviser
    from oversight.redteam.preparing import RedTeamSettings

Sets = Annotated[list[str] | None, set_option("targets.mine.temperature=0")]


def mend(
    found: Annotated[
        Path,
        typer.Argument(
            help="Findings, found.jsonl of a run.",
            show_default=False,
            autocompletion=places(".jsonl"),
        ),
    ],
    recipe: Annotated[
        Path,
        typer.Argument(
            help="The TOML file of the run.", show_default=False, autocompletion=places(".toml")
        ),
    ],
    into: Annotated[Path, typer.Option(help="Folder of the files that are written.")] = Path(
        "mending"
    ),
    target: Annotated[
        str | None,
        typer.Option(help="Target of the recipe.", show_default="the only one it has"),
    ] = None,
    reviser: Annotated[
        str | None,
        typer.Option(
            help="Engine of the recipe that revises a policy's replies.", show_default=False
        ),
    ] = None,
    constitution: Annotated[
        str, typer.Option(help="Constitution that replies are criticised by.")
    ] = "harmlessness",
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Make training rows of findings: oversight redteam mend redteam/found.jsonl recipe.toml

    judge_rows.jsonl (what a judge read, and the right letter), preference_rows.jsonl (the attacked
    response against a good one) and guard_cases.toml, as far as the findings give any.
    """
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.config import chosen, read_toml
    from oversight.files import whole_file, write_text
    from oversight.redteam.findings import read_findings
    from oversight.redteam.mending import cases_toml, guard_cases
    from oversight.redteam.preparing import RedTeamSettings
    from oversight.text.terminal import rich_text

    every = read_findings(found)
    settings = RedTeamSettings.changed(read_toml(recipe), chosen({}, sets or ()), where=recipe.name)
    made = INTERRUPTS.run(_made(every, settings, target, reviser, constitution))
    made["guard_cases.toml"] = guard_cases(every)
    told: dict[str, Any] = {}
    for name, each in made.items():
        told[name] = {"rows": len(each.rows), "left_out": dict(each.left_out)}
        if not each.rows:
            continue
        if name.endswith(".toml"):
            write_text(into / name, cases_toml(each.rows), "into")
            continue
        with whole_file(into / name, "into") as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in each.rows), "utf-8")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    console = Console(highlight=False)
    for name, each in made.items():
        place = f"{into / name}: " if each.rows else f"{name}: "
        console.print(rich_text(f"{place}{len(each.rows):,} made"), soft_wrap=True)
        for reason, number in sorted(each.left_out.items()):
            console.print(rich_text(f"  {number:,} not: {reason}", style="dim"), soft_wrap=True)


async def _made(
    every: list[RedTeamFinding],
    settings: RedTeamSettings,
    target: str | None,
    reviser: str | None,
    constitution: str,
) -> dict[str, MendingRows]:
    from oversight.redteam.mending import judge_rows, open_reviser, preference_rows
    from oversight.redteam.preparing import replay_target
    from oversight.redteam.targets import JudgeTarget, PolicyTarget

    opened, decider = replay_target(settings, target, {each.kind for each in every})
    own = [each for each in every if each.kind is opened.kind]
    by: Reviser | None = None
    closing = []
    try:
        if isinstance(opened, JudgeTarget):
            return {"judge_rows.jsonl": await judge_rows(own, opened)}
        policy = opened if isinstance(opened, PolicyTarget) else None
        if policy is not None and reviser is not None:
            by, engine = open_reviser(settings, reviser, constitution)
            closing.append(engine)
        return {"preference_rows.jsonl": await preference_rows(own, policy, by, decider)}
    finally:
        await opened.aclose()
        for each in closing:
            await each.aclose()


def loop(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="The loop's TOML file.", show_default=False, autocompletion=places(".toml")
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Its short form.")] = False,
    out: Annotated[
        str | None, typer.Option(help="Folder of the loop.", show_default="recipe's")
    ] = None,
    sets: Annotated[list[str] | None, set_option("train_debates=50")] = None,
    as_json: Json = False,
) -> None:
    """Mend a judge by attacks: oversight redteam loop recipes/redteam_judge.toml

    The judge as it was, the judge trained on what was found, and a control that learnt as many rows
    of debates that nobody attacked: accuracy with attack and without. The same command goes on.
    """
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import TaskProgress
    from oversight.cli.report import print_table
    from oversight.config import chosen, override, read_toml
    from oversight.errors import ConfigError
    from oversight.redteam.loop import RESULT, LoopSettings, run_loop
    from oversight.redteam.loop_measures import loop_sentences, loop_table
    from oversight.text.terminal import rich_text

    data = read_toml(recipe)
    if quick:
        if not data.get("quick"):
            raise ConfigError(f"{recipe}: it has no short form; leave --quick out")
        data = override(data, data["quick"])
    settings = LoopSettings.changed(data, chosen({"out": out}, sets or ()), where=recipe.name)
    with TaskProgress(Console(stderr=True)) as shown:
        figures = run_loop(settings, INTERRUPTS.run, shown)
    if as_json:
        typer.echo(Path(settings.out, RESULT).read_text(encoding="utf-8"))
        return
    console = Console(highlight=False)
    for each in loop_sentences(figures):
        console.print(rich_text(f"• {each}"))
    print_table(loop_table(figures), console)
