"""The library from Python in a few lines: debates, further judgments, reports, preference rows.

    import oversight as ov

    questions = ov.datasets.load("world", limit=20)
    debates = ov.debate(questions, protocol="debate")
    print(debates.report())
    ov.train.sft(debates.preferences(), out="runs/sft", model="my/model", steps=100)

What is here has the defaults, the store and the ids of the command line: a debate that is complete
in the store is not run again, and one that was cut off goes on. Each function works in a script and
in a notebook, whose event loop is running; those that ask models have a twin for `await`.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, overload

from oversight.agents import roles
from oversight.config import AgentSettings, EngineSettings, RunSettings, SidesDesign
from oversight.datasets.base import LoadedQuestions, load_questions
from oversight.engines import metered
from oversight.errors import ConfigError
from oversight.evals.findings import frame_of, to_frame
from oversight.evals.report import Report, build_report
from oversight.graphs.planning import Cast, cast, casting, check_engines, plan
from oversight.graphs.rejudging import judge_again
from oversight.graphs.running import DebateProgress, Failure, as_begun, run_debates
from oversight.graphs.runtime import Runtime
from oversight.preferences.building import rows_of
from oversight.preferences.layouts import judgment_rows
from oversight.protocols import load as load_protocol
from oversight.reporting.transcripts import verdicts
from oversight.store import Store
from oversight.store.runs import start_of
from oversight.text.terminal import can_redraw, visible
from oversight.types import Debate, Preference, PromptRecord, Question, Role, RunStart, Transcript

T = TypeVar("T")

DEFAULT_STORE = "oversight.db"
WIDTH = 100
"""Characters of a line of a report that is printed."""
SPEAKERS = (Role.DEBATER, Role.CONSULTANT, Role.RESPONDER, Role.CRITIC)
"""Roles that one `debater` plays, as far as it can."""
Questions = LoadedQuestions | Iterable[Question] | str
"""Questions, or the data set that they are taken from, by its name or path."""
AgentChoice = str | Mapping[str, Any] | AgentSettings
"""An agent by name or as "file.py:Class", or as a recipe has it: agent, engine, settings."""
Planned = list[tuple[Debate, Question]]


class Transcripts(Sequence[Transcript]):
    """Debates of a store, read from it when they are looked at."""

    def __init__(
        self, store: str, ids: Sequence[str] | None = None, failures: Sequence[Failure] = ()
    ) -> None:
        """The complete debates of a store.

        Args:
            store: Its path or URL.
            ids: Of the debates meant; unset, all that are complete.
            failures: Debates that could not be finished, each with the reason.
        """
        self.store = store
        self.failures = tuple(failures)
        with self._open() as opened:
            found = sorted(opened.debate_ids(complete=True))
        if ids is not None:
            complete = set(found)
            found = [id_ for id_ in dict.fromkeys(ids) if id_ in complete]
        self.ids: tuple[str, ...] = tuple(found)
        """Ids of the debates that are complete."""

    def _open(self) -> Store:
        return Store.open(self.store, create=False, only_read=True)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> ShownTranscript: ...
    @overload
    def __getitem__(self, index: slice) -> Transcripts: ...
    def __getitem__(self, index: int | slice) -> ShownTranscript | Transcripts:
        if isinstance(index, slice):
            return Transcripts(self.store, self.ids[index], self.failures)
        with self._open() as opened:
            return ShownTranscript.of(opened.transcript(self.ids[index]))

    def __iter__(self) -> Iterator[ShownTranscript]:
        with self._open() as opened:
            yield from map(ShownTranscript.of, opened.transcripts(debate_ids=self.ids))

    def prompt(self, prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        """A prompt as it was sent, as `Store.prompt` gives it."""
        with self._open() as opened:
            return opened.prompt(prompt_id, num_tokens=num_tokens)

    def report(self) -> ShownReport:
        """The report on these debates."""
        return report(self)

    def preferences(self, **settings: Any) -> list[Preference]:
        """The preference rows of these debates, as `oversight.preferences` makes them."""
        with self._open() as opened:
            found = opened.transcripts(debate_ids=self.ids)
            return rows_of(found, opened.prompt, **settings)

    def to_frame(self) -> Any:
        """A pandas frame with a row for each judgment.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return frame_of([row for each in self for row in judgment_rows(each)])

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<{len(self)} debates of {self.store}{failed}>"


@dataclass(frozen=True, slots=True)
class ShownTranscript(Transcript):
    """A transcript that shows itself: as text where it is printed, as a page in a notebook."""

    @classmethod
    def of(cls, transcript: Transcript) -> Self:
        """The same transcript."""
        return cls(**{each.name: getattr(transcript, each.name) for each in fields(transcript)})

    def __str__(self) -> str:
        lines = [self.question.text, ""]
        for turn in self.turns:
            if turn.chosen and turn.text:
                lines += [f"{turn.role.value} {turn.seat.value}:", turn.text, ""]
        for judge, said, is_right in verdicts(self):
            known = {True: ", right", False: ", wrong", None: ""}[is_right]
            lines.append(f"{judge}: {said}{known}")
        return visible("\n".join(lines))

    def _repr_html_(self) -> str:
        """The page that `oversight view` shows of it, in a frame of its own."""
        from oversight.evals.rendering import framed
        from oversight.reporting.rendering import transcript_alone
        from oversight.reporting.transcripts import page_of

        return framed(transcript_alone(page_of(self)))


@dataclass(frozen=True)
class ShownReport(Report):
    """A report that shows itself: as text where it is printed, as a page in a notebook."""

    @classmethod
    def of(cls, report: Report) -> Self:
        """The same report."""
        return cls(**{each.name: getattr(report, each.name) for each in fields(report)})

    def to_frame(self, table: str = "arms") -> Any:
        """A table of the report as a pandas frame: see `oversight.evals.findings.to_frame`."""
        return to_frame(self, table)

    def __rich__(self) -> Any:
        from oversight.evals.rendering import render_text

        return render_text(self)

    def __str__(self) -> str:
        from rich.console import Console

        written = io.StringIO()
        # A notebook's console would print it there and not in the file.
        Console(file=written, width=WIDTH, force_jupyter=False).print(self)
        return written.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """The page that `oversight report --html` writes, in a frame of its own."""
        from oversight.evals.rendering import framed, html

        return framed(html(self))


def debate(
    questions: Questions,
    *,
    protocol: str | Sequence[str] = "debate",
    debater: AgentChoice | None = None,
    judge: AgentChoice | None = None,
    model: str | None = None,
    engine: str | None = None,
    engines: Mapping[str, Mapping[str, Any] | EngineSettings] | None = None,
    store: str = DEFAULT_STORE,
    seed: int = 0,
    sides: SidesDesign = "drawn",
    swap: bool = False,
    settings: Mapping[str, Any] | None = None,
    run: str | None = None,
    tags: Mapping[str, str] | None = None,
    concurrency: int = 32,
    progress: bool = True,
) -> Transcripts:
    """Run debates, and give their transcripts: what `oversight debate` does, with its defaults.

    Args:
        questions: Questions, or the data set that they are taken from, by its name or path.
        protocol: One protocol or several, each by its name or the path of its file.
        debater: The agent that debates, consults, responds and criticises; unset, `retrieval`, or
            `debater` where there is a model.
        judge: The agent that judges; unset, `lexical`, or `judge` where there is a model.
        model: Of both, by folder or by its name on the hub.
        engine: The engine that runs `model`; unset, `transformers`.
        engines: Further engines by the names that agents give, as in a recipe.
        store: Path of an SQLite file, or a postgresql:// URL.
        seed: Of every random draw.
        sides: Assignment of options to seats: drawn, or each assignment once ("both").
        swap: Judge each debate with the sides swapped as well.
        settings: Further ones by dotted name, as `--set` takes them: `{"debater.temperature": 0}`.
        run: Name of the run that they belong to (`oversight runs`); unset, of time and command.
        tags: Tags of the run.
        concurrency: Number of debates in flight at once.
        progress: Show how far they are, where there is a terminal or a notebook.

    Raises:
        ConfigError: A setting is wrong.
        DataError: Questions cannot be used.
        StoreError: Nothing can be recorded.
    """
    return _now(debate_async(**locals()))


async def debate_async(
    questions: Questions,
    *,
    protocol: str | Sequence[str] = "debate",
    debater: AgentChoice | None = None,
    judge: AgentChoice | None = None,
    model: str | None = None,
    engine: str | None = None,
    engines: Mapping[str, Mapping[str, Any] | EngineSettings] | None = None,
    store: str = DEFAULT_STORE,
    seed: int = 0,
    sides: SidesDesign = "drawn",
    swap: bool = False,
    settings: Mapping[str, Any] | None = None,
    run: str | None = None,
    tags: Mapping[str, str] | None = None,
    concurrency: int = 32,
    progress: bool = True,
) -> Transcripts:
    """Run debates and give their transcripts, for `await`. Arguments and errors as of `debate`."""
    named = [protocol] if isinstance(protocol, str) else list(protocol)
    chosen = RunSettings.changed(
        {},
        _casting(debater=debater, judge=judge, model=model, engine=engine, engines=engines)
        | {
            "dataset.dataset": questions if isinstance(questions, str) else "in memory",
            "protocols": named,
            "store": store,
            "seed": seed,
            "sides": sides,
            "swap": swap,
            "concurrency": concurrency,
            "run": run,
            "tags": dict(tags or {}),
        }
        | dict(settings or {}),
    )
    if isinstance(questions, str):
        questions = load_questions(chosen.dataset, seed=chosen.seed)
    actors, planned = prepare(chosen, _listed(questions))
    check_engines(chosen.cast(), chosen.engines)
    with Store.open(chosen.store, transactions=chosen.transactions) as opened:
        opened.begin_run(_start(chosen, "debate"))
        async with actors:
            planned = as_begun(planned, opened, actors)
            with _shown("debates", len(planned), progress) as tell:
                done = await run_debates(
                    planned,
                    Runtime(opened, actors),
                    concurrency=chosen.concurrency,
                    on_progress=tell,
                    total=len(planned),
                )
    return Transcripts(chosen.store, [debate.id for debate, _ in planned], done.failures)


def prepare(settings: RunSettings, questions: Iterable[Question]) -> tuple[Cast, Planned]:
    """The agents of a run, within its bounds on tokens and money, and every debate of it.

    Raises:
        ConfigError: A setting is wrong.
        ProtocolError: A protocol does not fit its graph or a question, or lacks an agent.
    """
    chosen = [load_protocol(name) for name in settings.protocols]
    if settings.swap:
        chosen = [protocol.model_copy(update={"swap": True}) for protocol in chosen]
    opening = metered(settings.spending, settings.engines)
    actors = cast(settings.cast(), settings.engines, opening)
    planned = plan(questions, chosen, actors.specs, seed=settings.seed, sides=settings.sides)
    return actors, list(planned)


def judge(
    debates: Transcripts | str,
    judge: AgentChoice = "judge",
    *,
    model: str | None = None,
    engine: str | None = None,
    engines: Mapping[str, Mapping[str, Any] | EngineSettings] | None = None,
    name: str | None = None,
    swap: bool = False,
    settings: Mapping[str, Any] | None = None,
    run: str | None = None,
    tags: Mapping[str, str] | None = None,
    concurrency: int = 32,
    progress: bool = True,
) -> Transcripts:
    """Have recorded debates judged by one more judge, and give them with its judgments.

    The judge reads each debate as it stands in the end. What it has judged before is not judged
    again.

    Args:
        debates: Debates with options, or the store whose complete ones are meant.
        judge: The agent that judges.
        model: Its model, by folder or by its name on the hub.
        engine: The engine that runs `model`; unset, `transformers`.
        engines: Further engines by the names that agents give, as in a recipe.
        name: Of the judge in the records; unset, made of its agent, model and settings.
        swap: Judge each with the sides swapped as well.
        settings: Further ones by dotted name, as `--set` takes them: `{"judge.temperature": 0}`.
        run: Name of the run (`oversight runs`); unset, of time and command.
        tags: Tags of the run.
        concurrency: Number of judgments in flight at once.
        progress: Show how far they are, where there is a terminal or a notebook.

    Raises:
        ConfigError: A setting is wrong.
        ProtocolError: One of them answers an open prompt.
        StoreError: Nothing can be recorded.
    """
    return _now(judge_async(**locals()))


async def judge_async(
    debates: Transcripts | str,
    judge: AgentChoice = "judge",
    *,
    model: str | None = None,
    engine: str | None = None,
    engines: Mapping[str, Mapping[str, Any] | EngineSettings] | None = None,
    name: str | None = None,
    swap: bool = False,
    settings: Mapping[str, Any] | None = None,
    run: str | None = None,
    tags: Mapping[str, str] | None = None,
    concurrency: int = 32,
    progress: bool = True,
) -> Transcripts:
    """Have debates judged once more, for `await`. Arguments and errors as of `judge`."""
    meant = Transcripts(debates) if isinstance(debates, str) else debates
    changes = _casting(judge=judge, model=model, engine=engine, engines=engines)
    changes |= {"dataset.dataset": "in memory", "store": meant.store, "concurrency": concurrency}
    changes |= {"run": run, "tags": dict(tags or {}), "swap": swap, **(settings or {})}
    chosen = RunSettings.changed({}, changes)
    judging = {Role.JUDGE: chosen.cast()[Role.JUDGE]}
    actors = cast(judging, chosen.engines)
    check_engines(judging, chosen.engines)
    with Store.open(meant.store, create=False) as opened:
        opened.begin_run(_start(chosen, "judge"))
        async with actors:
            with _shown("judgments", len(meant) * (1 + chosen.swap), progress) as tell:
                done = await judge_again(
                    opened.transcripts(debate_ids=meant.ids),
                    opened,
                    actors,
                    name=name,
                    swap=chosen.swap,
                    concurrency=chosen.concurrency,
                    on_progress=tell,
                )
    return Transcripts(meant.store, meant.ids, done.failures)


def report(debates: Transcripts | str, *, groups: Mapping[str, str] | None = None) -> ShownReport:
    """The report on debates, or on all that are complete in a store: `oversight report`, with
    `--groups` as a mapping from names.

    Raises:
        StoreError: The store is not there.
        ConfigError: `groups` has fewer than two, or a name is nobody's.
    """
    meant = Transcripts(debates) if isinstance(debates, str) else debates
    return ShownReport.of(build_report(meant, groups=groups))


def _start(settings: RunSettings, action: str) -> RunStart:
    """A start of a run from Python: this process's arguments say nothing of it."""
    return start_of(settings, action).model_copy(update={"command": f"Python: oversight.{action}"})


def _casting(
    *,
    judge: AgentChoice | None,
    model: str | None,
    engine: str | None,
    engines: Mapping[str, Mapping[str, Any] | EngineSettings] | None,
    debater: AgentChoice | None = None,
) -> dict[str, Any]:
    """Settings of the agents and engines, by dotted name."""
    chosen: dict[str, Any] = {"debater": debater, "judge": judge}
    names: dict[str, Any] = {k: v for k, v in chosen.items() if isinstance(v, str | None)}
    changes = casting(**names, model=model, engine=engine)
    for key in sorted(chosen.keys() - names):
        given = dict(chosen[key])
        if "agent" not in given:
            raise ConfigError(f"{key} = {given!r}: 'agent', the name of an agent, is missing")
        able = roles(given["agent"])
        for role in SPEAKERS if key == "debater" else (Role.JUDGE,):
            if role in able or role is Role.JUDGE:
                place = f"agents.{role.value}"
                others = {k: v for k, v in changes.items() if not k.startswith(f"{place}.")}
                changes = others | {place: given}
    for key, described in (engines or {}).items():
        changes[f"engines.{key}"] = dict(described)
    return changes


def _listed(questions: Any) -> list[Question]:
    """Questions that were given in memory.

    Raises:
        ConfigError: Something else was given.
    """
    if isinstance(questions, LoadedQuestions):
        return list(questions.questions)
    found = [questions] if isinstance(questions, Question) else list(questions)
    for each in found:
        if not isinstance(each, Question):
            raise ConfigError(
                f"questions: a {type(each).__name__} is no Question; give the name or path of a "
                "data set, what ov.datasets.load gives, or oversight.types.Question records"
            )
    if not found:
        raise ConfigError("questions: there is none")
    return found


@contextmanager
def _shown(what: str, total: int, wanted: bool) -> Iterator[Callable[[DebateProgress], None]]:
    """A function that shows progress, in a line that is gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), Remaining()
    console = Console(stderr=True)
    is_seen = wanted and can_redraw(console)
    with Progress(*columns, console=console, transient=True, disable=not is_seen) as shown:
        task = shown.add_task(what, total=total)
        yield lambda progress: shown.update(task, completed=progress.num_ended)


def _now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine: in this thread, or in another where an event loop runs in this."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    thread = threading.Thread(target=_drive, args=(loop, task), name="oversight")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    return task.result()


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run a task to its end, whose result or error the task keeps."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
