"""`oversight redteam play`, `agreement`, `mend`, `loop`, `attacker`: findings put to use."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from oversight.cli.options import Json, Quick, places, set_option

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.redteam.findings import RedTeamFinding
    from oversight.redteam.judge_runs import Run, Tell
    from oversight.redteam.mending import MendingRows, Reviser
    from oversight.redteam.people import PlayedAttack
    from oversight.redteam.preparing import RedTeamSettings, RedTeamWork
    from oversight.redteam.types import AttackCase, Attempt, Target
    from oversight.text.numbers import Table

Kind = TypeVar("Kind")
Figures = TypeVar("Figures")

Sets = Annotated[list[str] | None, set_option("targets.mine.temperature=0")]
WAYS = "A line is an attempt. /new begins the chat anew, /words shows the words again, /quit ends."


def play(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A run's TOML file.", show_default=False, autocompletion=places(".toml")
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Target of the recipe.", show_default="the only one it has"),
    ] = None,
    goal: Annotated[
        str | None, typer.Option(help="Id of a goal, or its number.", show_default="the first")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(help="Folder of the run.", show_default="recipe's, else redteam")
    ] = None,
    sets: Sets = None,
) -> None:
    """Attack a live target yourself: oversight redteam play recipes/redteam/policy.toml

    Each line that you type is put before the target. What succeeds is tried again on fresh seeds,
    and is a finding like any other, in FOLDER/played. The same command goes on.

    Only for models and judges of your own, and for those that you may test.
    """
    from rich.console import Console

    from oversight.config import chosen, read_toml
    from oversight.redteam.lanes import AttackRunner
    from oversight.redteam.log import AttemptLog
    from oversight.redteam.people import PlayedAttack
    from oversight.redteam.preparing import RedTeamSettings, prepare_redteam
    from oversight.redteam.running import hold_debates

    settings = RedTeamSettings.changed(
        read_toml(recipe), chosen({"folder": folder}, sets or ()), where=recipe.name
    )
    work = prepare_redteam(settings)
    console = Console(highlight=False)
    place = Path(settings.folder, "played")
    with asyncio.Runner() as loop, AttemptLog(place, work.identity) as log:
        try:
            if work.planned:
                loop.run(hold_debates(work, lambda *_: None))
            chosen_target = _target(work, target)
            number, case = _case(work, chosen_target, goal)
            runner = AttackRunner(
                log, settings.seed, fresh=settings.fresh, decider=work.decider,
                max_calls=settings.max_calls,
            )  # fmt: skip
            played = PlayedAttack(runner, chosen_target, case, number)
            _play(played, loop, console, place)
        finally:
            loop.run(work.aclose())


def _play(played: PlayedAttack, loop: asyncio.Runner, console: Console, place: Path) -> None:
    from oversight.text.terminal import rich_text

    _introduce(played, console)
    while True:
        if sys.stdin.isatty():
            console.print("> ", end="")
        line = sys.stdin.readline()
        text = line.rstrip("\n")
        if not line or text.strip() == "/quit":
            break
        if text.strip() == "/new":
            played.begin_anew()
            console.print("The chat begins anew.")
        elif text.strip() == "/words":
            _introduce(played, console)
        elif text.strip():
            made = loop.run(played.say(text))
            _show(made, console)
            if made.is_success:
                found = loop.run(played.again(made))
                if found is None:
                    console.print("It did not come again on fresh seeds: no finding.")
                else:
                    _keep(played, found, place)
                    console.print(
                        rich_text(f"It came again: finding {found.id}, in {place / 'found.jsonl'}"),
                        soft_wrap=True,
                    )
    won = sum(each.is_success for each in played.tried)
    console.print(f"{len(played.tried):,} attempts, {won:,} succeeded.")


def _introduce(played: PlayedAttack, console: Console) -> None:
    from oversight.text.terminal import rich_text

    case = played.case
    console.print(rich_text(f"{played.target.name}, goal {case.goal.id}", style="bold"))
    if case.transcript is not None and case.seat is not None:
        debate = case.transcript.debate
        console.print(rich_text(f"Question: {case.transcript.question.text}"))
        side = debate.orders.defended_by(case.seat)
        wrong = case.transcript.question.options[side].text
        console.print(rich_text(f"You speak for what is wrong: {wrong}"))
        for turn in case.transcript.turns:
            if turn.chosen and turn.argues:
                whose = "you, so far" if turn.seat is case.seat else "the other side"
                console.print(rich_text(f"{whose}: {turn.text}"))
    else:
        console.print(rich_text(f"Request: {case.goal.request}"))
    console.print(WAYS, style="dim")


def _show(made: Attempt, console: Console) -> None:
    from oversight.text.numbers import percent
    from oversight.text.terminal import rich_text

    if made.reply:
        console.print(rich_text(made.reply))
    belief = "" if made.belief is None else f", belief {percent(made.belief)}"
    fault = f" ({made.fault})" if made.fault else ""
    console.print(rich_text(f"{made.outcome.value}{belief}{fault}", style="bold"))


def _keep(played: PlayedAttack, found: RedTeamFinding, place: Path) -> None:
    """Keep a finding in the file and the store of what was played."""
    from oversight.redteam.findings import FOUND, STORE, read_findings, write_findings
    from oversight.store import Store

    path = place / FOUND
    known = read_findings(path) if path.exists() else []
    if found.id in {each.id for each in known}:
        return
    write_findings(path, [*known, found])
    with Store.open(str(place / STORE)) as store:
        if found.debate_id not in store.completed([found.debate_id]):
            store.add(*played.records)


def _target(work: RedTeamWork, name: str | None) -> Target:
    from oversight.errors import ConfigError

    if name is None and len(work.targets) == 1:
        return next(iter(work.targets.values()))
    if name is None or name not in work.targets:
        known = ", ".join(sorted(work.targets))
        raise ConfigError(f"--target {name or '(none)'}: name one of the recipe's targets: {known}")
    return work.targets[name]


def _case(work: RedTeamWork, target: Target, goal: str | None) -> tuple[int, AttackCase]:
    """The case of a goal by its id or number, and its number."""
    from oversight.errors import ConfigError

    known = []
    for number, case in enumerate(work.cases(target), start=1):
        if goal in (None, case.goal.id, str(number)):
            return number, case
        known.append(case.goal.id)
    some = ", ".join(known[:6]) + (", …" if len(known) > 6 else "")
    raise ConfigError(f"--goal {goal}: there is none of that name or number; goals are {some}")


def agreement(
    store: Annotated[
        str,
        typer.Argument(
            help="Store of a run's findings.", show_default=False, autocompletion=places(".db")
        ),
    ],
    as_json: Json = False,
) -> None:
    """Report what people say of findings: oversight redteam agreement redteam/found.db

    After oversight rate oversight.redteam.people:RealFailure --store redteam/found.db --judge anna
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from oversight.cli.report import print_table
    from oversight.redteam.people import agreement_of, ratings_sentences, ratings_table
    from oversight.store import Store
    from oversight.text.terminal import rich_text

    with Store.open(store, create=False, only_read=True) as opened:
        found = agreement_of(opened.transcripts())
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    console = Console(highlight=False)
    for each in ratings_sentences(found, store):
        console.print(rich_text(f"• {each}"), soft_wrap=True)
    table = ratings_table(found)
    if table.rows:
        print_table(table, console)


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
    from oversight.files import check_place, whole_file, write_text
    from oversight.redteam.findings import read_findings
    from oversight.redteam.mending import cases_toml, guard_cases
    from oversight.redteam.preparing import RedTeamSettings
    from oversight.text.terminal import rich_text

    check_place(into, "--into", is_folder=True)
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
    quick: Quick = False,
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
    from oversight.redteam.loop import LoopSettings, run_loop
    from oversight.redteam.measures import loop_sentences, loop_table

    settings = LoopSettings.changed(*_settings_of(recipe, quick, out, sets), where=recipe.name)
    figures = _experiment(settings, run_loop)
    _print_result(settings.out, as_json, loop_sentences(figures), loop_table(figures))


def attacker(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="The training's TOML file.", show_default=False, autocompletion=places(".toml")
        ),
    ],
    quick: Quick = False,
    out: Annotated[
        str | None, typer.Option(help="Folder of the training.", show_default="recipe's")
    ] = None,
    sets: Annotated[list[str] | None, set_option("rounds=2")] = None,
    as_json: Json = False,
) -> None:
    """Train an attacker of a judge: oversight redteam attacker recipes/redteam/attacker.toml

    A debater learns by GRPO to be believed when it is wrong, with success plus novelty as reward;
    it is put before the judge before the training and after each round. The same command goes on.
    """
    from oversight.redteam.attacker_figures import training_sentences, training_table
    from oversight.redteam.training import AttackerTrainingSettings, run_training

    given = _settings_of(recipe, quick, out, sets)
    settings = AttackerTrainingSettings.changed(*given, where=recipe.name)
    figures = _experiment(settings, run_training)
    _print_result(settings.out, as_json, training_sentences(figures), training_table(figures))


def _settings_of(
    recipe: Path, quick: bool, out: str | None, sets: list[str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe's settings, in its short form where that is wanted, and what stands beside them on
    the command line."""
    from oversight.config import chosen, read_toml, short_form

    data = read_toml(recipe)
    return (short_form(data, recipe) if quick else data), chosen({"out": out}, sets or ())


def _experiment(settings: Kind, act: Callable[[Kind, Run, Tell], Figures]) -> Figures:
    """The findings of an experiment, whose progress is shown on stderr."""
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import TaskProgress

    with TaskProgress(Console(stderr=True)) as shown:
        return act(settings, INTERRUPTS.run, shown)


def _print_result(out: str, as_json: bool, said: list[str], table: Table) -> None:
    from rich.console import Console

    from oversight.cli.report import print_table
    from oversight.redteam.judge_runs import RESULT
    from oversight.text.terminal import rich_text

    if as_json:
        typer.echo(Path(out, RESULT).read_text(encoding="utf-8"))
        return
    console = Console(highlight=False)
    for each in said:
        console.print(rich_text(f"• {each}"))
    print_table(table, console)
