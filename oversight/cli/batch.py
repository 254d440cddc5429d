"""`oversight critique`, `feedback` and `answer`: batch jobs, by engines or by files."""

from __future__ import annotations

import json
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
    labelled,
    part_of,
    set_option,
)
from oversight.cli.persons import RaterEngine, RaterModel, ServerUrls
from oversight.redaction import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from oversight.config import EngineSettings, RunSettings
    from oversight.datasets.base import QuestionStream
    from oversight.graphs.planning import Cast
    from oversight.graphs.running import DebateProgress
    from oversight.jobs.answering import Answering
    from oversight.jobs.folder import JobFolder, TakenIn
    from oversight.types import Debate, Question, RunStart

Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many prompts.", show_default=False)
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Only part I of N, from 1 to N.", show_default=False
    ),
]
Batch = Annotated[
    Path | None,
    typer.Option(
        "--batch",
        metavar="FOLDER",
        help="Ask by files in this folder, and take answers in from it, instead of engines.",
        show_default=False,
    ),
]
Shards = Annotated[
    int, typer.Option("--shards", min=1, max=1000, help="With --batch: request files a wave.")
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", help="Path of an SQLite file, or a postgresql:// URL.", show_default="recipe's"
    ),
]
Sets = Annotated[list[str] | None, set_option("dataset.limit=10")]


def critique(
    recipe: Recipe = None,
    limit: Limit = None,
    shard: Shard = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Prompts in flight at once.", show_default="32")
    ] = None,
    store: StoreUrl = None,
    batch: Batch = None,
    shards: Shards = 1,
    run: RunName = None,
    tag: Tags = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Answer prompts, criticise the answers by a constitution, and revise them, in bulk.

    The recipe is one of `oversight debate` over open prompts (recipes/constitutional.toml). Prompts
    are read one after the other; what is complete is not asked again, so the same command goes on
    after an interruption and tries again what failed. With --batch nothing is asked of an engine:
    calls are written to files in OpenAI's batch format, and the same command, once the files are
    answered, takes the answers in and writes the next wave.
    """
    from rich.console import Console

    from oversight.config import RunSettings, chosen, read_toml
    from oversight.errors import ConfigError
    from oversight.store.runs import start_of

    if recipe is None:
        raise ConfigError("name a recipe: oversight critique recipes/constitutional.toml")
    flags: dict[str, Any] = {"dataset.limit": limit, "concurrency": concurrency, "store": store}
    flags |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    changes = chosen(flags, sets or ())
    settings = RunSettings.changed(read_toml(recipe), changes, where=recipe.name)
    console = Console(stderr=as_json)
    job = _CritiqueJob(settings, part_of(shard), start_of(settings, "critique", recipe))
    if batch is None:
        progress = job.by_engines()
        told = _counts(progress)
    else:
        progress, told = job.by_files(batch, shards)
    _tell(told, progress, without_password(settings.store), console, as_json=as_json)
    if progress.failures:
        raise typer.Exit(1)


class _CritiqueJob:
    """A run over a stream of prompts."""

    def __init__(self, settings: RunSettings, part: tuple[int, int], start: RunStart) -> None:
        from oversight.datasets.base import stream_questions
        from oversight.errors import ConfigError
        from oversight.protocols import load

        self.settings, self.part, self.start = settings, part, start
        self.protocols = [load(name) for name in settings.protocols]
        for protocol in self.protocols:
            if not protocol.is_open:
                raise ConfigError(
                    f"protocols = [{protocol.name!r}]: it argues for options; critique answers "
                    "open prompts (protocols = ['constitutional'] or ['self_critique'])"
                )
        self.questions: QuestionStream = stream_questions(settings.dataset, seed=settings.seed)

    def planned(self, actors: Cast) -> Iterator[tuple[Debate, Question]]:
        """The runs of this part, one after the other."""
        from oversight.graphs.planning import plan

        index, number = self.part
        for debate, question in plan(
            self.questions, self.protocols, actors.specs, seed=self.settings.seed
        ):
            if int(debate.id[:8], 16) % number == index:
                yield debate, question

    def by_engines(self) -> DebateProgress:
        """Run what is not complete, asking the recipe's engines."""
        from oversight.cli.ending import INTERRUPTS
        from oversight.engines import metered
        from oversight.graphs.planning import cast, check_engines
        from oversight.store import Store

        agents = self.settings.cast()
        check_engines(agents, self.settings.engines)
        opening = metered(self.settings.spending, self.settings.engines)
        actors = cast(agents, self.settings.engines, opening)
        with Store.open(self.settings.store, transactions=self.settings.transactions) as store:
            store.begin_run(self.start)
            return INTERRUPTS.run(self._run(store, actors))

    def by_files(self, folder: Path, num_shards: int) -> tuple[DebateProgress, dict[str, Any]]:
        """Take answers in, go as far as they lead, and write what is to be answered next."""
        from oversight.cli.ending import INTERRUPTS
        from oversight.graphs.planning import cast
        from oversight.jobs.folder import JobFolder, file_engines
        from oversight.store import Store

        with JobFolder(folder) as job:
            taken = job.take_in()
            with (
                job.wave(num_shards) as wave,
                Store.open(self.settings.store, transactions=self.settings.transactions) as store,
            ):
                actors = cast(self.settings.cast(), self.settings.engines, file_engines(job, wave))
                store.begin_run(self.start)
                progress = INTERRUPTS.run(self._run(store, actors))
            return progress, {**_counts(progress), **of_folder(job, taken, wave.num_requests)}

    async def _run(self, store: Any, actors: Cast) -> DebateProgress:
        from rich.console import Console

        from oversight.cli.progress import RunProgress
        from oversight.graphs.running import run_debates
        from oversight.graphs.runtime import Runtime

        total = self.questions.num_questions * len(self.protocols) // self.part[1]
        async with actors:
            with RunProgress(total, Console(stderr=True), noun="prompts") as shown:
                return await run_debates(
                    self.planned(actors),
                    Runtime(store, actors, shown.hear),
                    concurrency=self.settings.concurrency,
                    on_progress=shown,
                    total=total,
                )


def feedback(
    recipe: Recipe = None,
    store: StoreUrl = None,
    batch: Batch = None,
    shards: Shards = 1,
    model: RaterModel = None,
    engine: RaterEngine = None,
    base_url: ServerUrls = None,
    run: RunName = None,
    tag: Tags = None,
    sets: Annotated[list[str] | None, set_option("num_principles=4")] = None,
    as_json: Json = False,
) -> None:
    """Have models compare responses under principles, in both orders, in bulk.

    The recipe is one of `oversight rate` with a rater, or with several under [raters.NAME]
    (recipes/feedback.toml): `task` says what is asked (pairs, revisions or principles). Models
    behind servers rate at the same time, others one after the other. What is answered is not asked
    again. With --batch calls go by files, as in `oversight critique`.
    """
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.persons import described, require_chosen
    from oversight.cli.progress import RunProgress
    from oversight.config import chosen, read_toml
    from oversight.errors import ConfigError
    from oversight.jobs.folder import JobFolder, file_engines
    from oversight.judging.model_ratings import all_raters, rate_by_all
    from oversight.judging.settings import RatingSettings
    from oversight.store import Store
    from oversight.store.runs import start_of

    if recipe is None:
        raise ConfigError("name a recipe: oversight feedback recipes/feedback.toml")
    changes = chosen({"store": store, **labelled(run, tag)}, sets or ())
    data = read_toml(recipe)
    if found := described("model", model, engine, base_url):
        data.pop("raters", None)
        changes = found | {"agents.rater.agent": "rater", "agents.rater.engine": "model"} | changes
    task = changes.pop("task", data.pop("task", "pairs"))
    if not isinstance(task, str):
        raise ConfigError(f"{recipe.name}: task = {task!r}: expected a name, such as 'pairs'")
    settings = RatingSettings.changed(data, changes, where=recipe.name)
    console = Console(stderr=as_json)

    def give(opened: Any, **how: Any) -> DebateProgress:
        """The ratings of every model."""
        several = all_raters(opened, settings, task, **how).values()
        opened.begin_run(start_of(settings, "feedback", recipe))  # no run of engines refused
        total = sum(each.num_planned for each in several)
        with RunProgress(total, Console(stderr=True), noun="ratings") as shown:
            return INTERRUPTS.run(rate_by_all(several, shown))

    with Store.open(settings.store, create=False) as opened:
        require_chosen(opened, settings)
        if batch is None:
            progress = give(opened)
            told = _counts(progress)
        else:
            with JobFolder(batch) as job:
                taken = job.take_in()
                with job.wave(shards) as wave:
                    progress = give(opened, open_=file_engines(job, wave))
                told = {**_counts(progress), **of_folder(job, taken, wave.num_requests)}
    _tell(told, progress, without_password(settings.store), console, as_json=as_json)
    if progress.failures:
        raise typer.Exit(1)


def answer(
    requests: Annotated[Path, typer.Argument(help="A request file of a batch folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The answer file.", show_default="answers/ beside requests/"
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Recipe that describes the engine.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="Its name there.", show_default="the only one of the recipe"),
    ] = None,
    shard: Shard = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Calls in flight at once, in each worker.")
    ] = 64,
    ray: Annotated[
        int | None,
        typer.Option(
            "--ray",
            min=1,
            metavar="N",
            help="Answer by N workers of Ray Data, on the cluster that RAY_ADDRESS names or here.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0.0, help="With --ray: GPUs that each worker is given.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Answer a request file with an engine of a recipe: oversight answer FILE --recipe R.

    Each answer is written as it comes. A run that is stopped goes on with the same command, which
    asks what is not answered, and again what failed. --shard divides a file among the tasks of an
    array, --ray among workers of a cluster.
    """
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import RunProgress
    from oversight.config import read_toml
    from oversight.engines import check_engine, open_engine
    from oversight.errors import ConfigError
    from oversight.files import check_place
    from oversight.jobs.answering import EngineRunner, answer_file, answer_files
    from oversight.types import EngineSpec

    if recipe is None:
        raise ConfigError("name the recipe that describes the engine (--recipe)")
    if gpus and ray is None:
        raise ConfigError(
            f"--gpus {gpus:g}: it is for workers of Ray Data; name their number (--ray)"
        )
    engines = _engines(read_toml(recipe), recipe.name)
    if engine is None and len(engines) != 1:
        raise ConfigError(
            f"{recipe.name} describes {len(engines)} engines ({', '.join(engines) or 'none'}): "
            "name one (--engine)"
        )
    name = engine or next(iter(engines))
    if name not in engines:
        raise ConfigError(f"--engine {name!r}: {recipe.name} has {', '.join(engines) or 'none'}")
    described = engines[name]
    spec = EngineSpec(engine=described.engine, settings=described.settings)
    part = part_of(shard)
    target, beside = answer_files(requests, out, part)
    check_place(target, "out")

    async def go() -> Answering:
        with RunProgress(0, Console(stderr=True), noun="calls") as shown:
            how: dict[str, Any] = {"part": part, "beside": beside, "on_progress": shown.answered}
            if ray is not None:
                from oversight.jobs.ray_data import RayRunner

                check_engine(spec)
                await open_engine(spec).aclose()  # what is wrong with it is said here, at once
                workers = RayRunner(spec, ray, concurrency, gpus=gpus)
                return await answer_file(requests, target, workers, **how)
            opened = open_engine(spec)
            try:
                runner = EngineRunner(opened, concurrency)
                return await answer_file(requests, target, runner, **how)
            finally:
                await opened.aclose()

    done = INTERRUPTS.run(go())
    _tell_answering(done, target, str(spec.settings.get("model", "")), as_json=as_json)
    if done.num_failed:
        raise typer.Exit(1)


def _tell_answering(done: Answering, target: Path, model: str, *, as_json: bool) -> None:
    from rich.console import Console

    from oversight.text.terminal import rich_text

    if as_json:
        document = {
            "requests": done.total,
            "answered": done.done,
            "found": done.found,
            "failed": done.num_failed,
            "tokens": done.num_tokens,
            "asked_for": done.model,
            "answered_by": model,
            "out": str(target),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console(highlight=False)
    parts = [f"{done.done:,} answered", f"{done.found:,} found answered"]
    parts += [f"{done.num_failed:,} failed"] if done.num_failed else []
    said = f"{done.total:,} calls: {', '.join(parts)}; {done.num_tokens:,} tokens."
    lines = [said, *(f"  {id_}: {reason}" for id_, reason in done.reasons.items())]
    if model and done.model not in ("", model):
        lines.append(f"The file asks for the model {done.model!r}; {model!r} answered.")
    for line in lines:
        console.print(rich_text(line), soft_wrap=True)
    console.print(rich_text(f"Written to {target}.", style="dim"), soft_wrap=True)


def _engines(data: dict[str, Any], where: str) -> dict[str, EngineSettings]:
    """The engines that a recipe of any command describes.

    Raises:
        ConfigError: A description is wrong.
    """
    from oversight.config import EngineSettings
    from oversight.errors import ConfigError

    described = data.get("engines", {})
    if not isinstance(described, dict):
        raise ConfigError(f"{where}: engines = {described!r}: expected tables, [engines.NAME]")
    return {
        name: EngineSettings.parse(each, where=f"{where}: engines.{name}")
        for name, each in described.items()
    }


def _counts(progress: DebateProgress) -> dict[str, Any]:
    return {
        "total": progress.total,
        "done": progress.done,
        "found": progress.found,
        "elsewhere": progress.elsewhere,
        "waiting": progress.waiting,
        "failed": len(progress.failures),
    }


def of_folder(job: JobFolder, taken: TakenIn, num_written: int) -> dict[str, Any]:
    """State of a batch folder after a wave."""
    return {
        "answers": taken.num_new,
        "answers_failed": taken.num_failed,
        "answers_doubled": taken.num_doubled,
        "answers_unlike": len(taken.unlike),
        "answers_unknown": len(taken.unknown),
        "lines_broken": len(taken.broken),
        "notes": list(taken.lines()),
        "written": num_written,
        "files": [
            {"path": str(each.path), "calls": each.num_requests, "answered": each.num_answered}
            for each in job.shards()
            if each.num_answered < each.num_requests
        ],
    }


def _tell(
    told: dict[str, Any],
    progress: DebateProgress,
    store: str,
    console: Console,
    *,
    as_json: bool,
) -> None:
    from oversight.cli.running import print_failures
    from oversight.text.terminal import rich_text

    if as_json:
        failures = [
            {"debate_id": each.debate_id, "question_id": each.question_id, "error": each.error}
            for each in progress.failures
        ]
        typer.echo(json.dumps({**told, "failures": failures, "store": store}, indent=2))
        return
    parts = [f"{progress.done:,} done", f"{progress.found:,} found done"]
    parts += [f"{progress.elsewhere:,} with another process"] if progress.elsewhere else []
    parts += [f"{progress.waiting:,} waiting for answers"] if progress.waiting else []
    parts += [f"{len(progress.failures):,} failed"] if progress.failures else []
    console.print(rich_text(f"{', '.join(parts)}."), soft_wrap=True)
    print_failures(progress.failures, console)
    print_folder(told, console)
    console.print(rich_text(f"Recorded in {store}.", style="dim"), soft_wrap=True)


def print_folder(told: dict[str, Any], console: Console) -> None:
    """Print what was met in a batch folder, and what is to be answered next; nothing without."""
    from oversight.text.terminal import rich_text

    for note in told.get("notes", ()):
        console.print(rich_text(f"{note}.", style="yellow"), soft_wrap=True)
    files = told.get("files", ())
    for each in files:
        line = f"  {each['path']}: {each['calls'] - each['answered']:,} of {each['calls']:,} calls"
        console.print(rich_text(f"{line} to be answered"), soft_wrap=True)
    if files:
        said = "Answer these files (vllm run-batch -i FILE -o ANSWERS --model MODEL, a batch "
        said += "service, or oversight answer FILE --recipe RECIPE), put the answers into answers/ "
        said += "of the folder, and run this command again."
        console.print(rich_text(said, style="dim"), soft_wrap=True)
