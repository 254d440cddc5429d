"""Running debates for a command: from settings to a summary, with progress on the way."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from oversight.cli.ending import INTERRUPTS
from oversight.cli.progress import RunProgress
from oversight.config.run import RunSettings
from oversight.datasets.base import Loaded, load_questions
from oversight.errors import ConfigError
from oversight.graphs.casting import Cast, cast
from oversight.graphs.planning import plan
from oversight.graphs.running import Progress, as_begun, run_debates
from oversight.graphs.stage import Listener, Stage
from oversight.protocols import load
from oversight.store import Store
from oversight.types import Debate, JudgeKind, Question


@dataclass(frozen=True)
class Run:
    """What a run did."""

    settings: RunSettings
    loaded: Loaded
    planned: list[tuple[Debate, Question]]
    progress: Progress

    @property
    def debate_ids(self) -> list[str]:
        """Ids of all debates of the run, complete or not."""
        return [debate.id for debate, _ in self.planned]


def run(settings: RunSettings, console: Console, *, live: bool = False) -> Run:
    """Check everything, then run what is not complete yet.

    Args:
        settings: The run.
        console: Where progress goes, and the debates themselves if `live`.
        live: Show each debate as it happens, one after the other.
    """
    loaded, actors, planned = _prepared(settings)
    with Store.open(settings.store) as store:
        planned = as_begun(planned, store, actors)
        go = _show_live if live else _run_batch
        progress = INTERRUPTS.run(go(settings, store, actors, planned, console))
    return Run(settings, loaded, planned, progress)


def put_in_queue(settings: RunSettings) -> Run:
    """Check everything, then leave the debates to those who judge them live.

    Raises:
        ConfigError: There is a debate in which no person takes part, or an open prompt.
    """
    loaded, actors, planned = _prepared(settings)
    for debate, _ in planned:
        if debate.protocol.is_open:
            raise ConfigError(
                f"--queue leaves debates to people, and protocol {debate.protocol.name!r} answers "
                "open prompts without any: run it without --queue, then rate what was said "
                "(oversight rate revisions, or pairs)"
            )
        if all(spec.agent != JudgeKind.HUMAN.value for spec in debate.agents.values()):
            raise ConfigError(
                "--queue leaves debates to people, and in these no person takes part: add "
                "--judge human (or --debater human)"
            )
    with Store.open(settings.store) as store:
        planned = as_begun(planned, store, actors)
        store.add(*(record for debate, question in planned for record in (question, debate)))
        complete = store.completed(debate.id for debate, _ in planned)
    progress = Progress(total=len(planned), found=len(complete))
    progress.waiting = len(planned) - len(complete)
    return Run(settings, loaded, planned, progress)


Planned = list[tuple[Debate, Question]]


def _prepared(settings: RunSettings) -> tuple[Loaded, Cast, Planned]:
    """The questions, the agents, and every debate of the run."""
    loaded = load_questions(settings.dataset, seed=settings.seed)
    chosen = [load(name) for name in settings.protocols]
    if settings.swap:
        chosen = [protocol.model_copy(update={"swap": True}) for protocol in chosen]
    actors = cast(settings.cast(), settings.engines)
    sides, seed = settings.sides, settings.seed
    return (
        loaded,
        actors,
        list(plan(loaded.questions, chosen, actors.specs, seed=seed, sides=sides)),
    )


async def _run_batch(
    settings: RunSettings, store: Store, actors: Cast, planned: Planned, console: Console
) -> Progress:
    async with actors:
        with RunProgress(len(planned), console) as shown:
            return await run_debates(
                planned,
                Stage(store, actors),
                concurrency=settings.concurrency,
                on_progress=shown,
                total=len(planned),
            )


async def _show_live(
    settings: RunSettings, store: Store, actors: Cast, planned: Planned, console: Console
) -> Progress:
    from oversight.tui.live import LiveDebate, replay

    whole = Progress(total=len(planned))
    async with actors:
        for debate, question in planned:
            with LiveDebate(console, debate, question) as listener:
                if store.completed([debate.id]):
                    replay(store.transcript(debate.id), listener)
                one = await run_debates(
                    [(debate, question)], _stage(store, actors, listener), concurrency=1
                )
            whole.done += one.done
            whole.found += one.found
            whole.elsewhere += one.elsewhere
            whole.waiting += one.waiting
            whole.failures += one.failures
    return whole


def _stage(store: Store, actors: Cast, listener: Listener) -> Stage:
    return Stage(store, actors, listener, live=True)
