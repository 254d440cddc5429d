"""A model that rates: every item of a task, in both orders, under principles that are drawn.

All questions are known before the first is asked: each has the id of the feedback that will answer
it. So one that is answered is not asked again, and a run that was cut off goes on. Several models
(`raters`) rate at the same time where servers answer for them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from oversight.constitutions import Constitution
from oversight.engines import open_engine
from oversight.errors import AnswerPending, ConfigError, ProtocolError, StoreError
from oversight.graphs.nodes import judge_name
from oversight.graphs.planning import Cast, cast, check_engines
from oversight.graphs.running import CLAIM_BATCH, DebateProgress, Failure, explain, work_through
from oversight.graphs.views import public, view_of
from oversight.ids import seed_from
from oversight.judging.desk import constitution_of, items_wanted
from oversight.judging.log import now
from oversight.judging.settings import RatingSettings
from oversight.judging.tasks import load
from oversight.store import Store
from oversight.store.rating_queue import RatingItem
from oversight.types import (
    Act,
    AgentSpec,
    Draft,
    Engine,
    EngineSpec,
    Feedback,
    JudgeKind,
    ModelAnswer,
    PrinciplesApplied,
    RatingRequest,
    Role,
    Seat,
    Task,
    Transcript,
    View,
)
from oversight.types.ratings import feedback_id, place_of, rater_of

Report = Callable[[DebateProgress], None]


@dataclass(frozen=True)
class PlannedRating:
    """One question to a model: an item, in one order, under a principle or under none."""

    item: RatingItem
    rater: str
    under: PrinciplesApplied | None
    swapped: bool

    @cached_property
    def id(self) -> str:
        """Id of the feedback that answers it."""
        place = place_of(self.item.key, self.rater, self.under, swapped=self.swapped)
        return feedback_id(self.item.task, place)

    @property
    def turn_ids(self) -> tuple[str, ...]:
        """Ids of the turns in the order in which they are shown."""
        ids = self.item.turn_ids
        return ids[::-1] if self.swapped else ids


class ModelRatings:
    """The ratings of one task that a model is to give at a store."""

    def __init__(
        self,
        store: Store,
        settings: RatingSettings,
        task: str,
        open_: Callable[[EngineSpec], Engine] = open_engine,
    ) -> None:
        """Prepare them; nothing is asked yet, and no engine is waited for.

        `open_` opens engines; a batch job has others stand for them.

        Raises:
            ConfigError: No rater is named, or a setting of it is wrong, or there are fewer
                principles than are to be drawn.
            UnknownNameError: There is no agent, engine, task or constitution of a name.
        """
        self.store = store
        self.settings = settings
        if settings.raters:
            raise ConfigError(
                f"raters = {', '.join(settings.raters)}: here one model rates (agents.rater); "
                "oversight feedback asks all of them"
            )
        about = load(task)
        if about.name not in set(Task):
            raise ConfigError(
                f"task {about.name!r} is asked of people; a model rates {', '.join(Task)}"
            )
        self.task = Task(about.name)
        self.nothing = about.nothing
        """The end of a sentence about a store with nothing to rate."""
        self.constitution = constitution_of(settings, about)
        self.num_principles = _num_principles(settings, self.task, self.constitution)
        self.cast: Cast = cast(settings.agents, settings.engines, open_)
        check_engines(settings.agents, settings.engines)
        if Role.RATER not in self.cast.agents:
            raise ConfigError("agents.rater is not described: name who rates (--rater rater)")
        self.agent = self.cast.agents[Role.RATER]
        if self.agent.kind is JudgeKind.HUMAN:
            raise ConfigError(
                f"agents.rater.agent = {self.agent.name!r} is a person's seat: a person rates "
                "without --rater"
            )
        self.spec: AgentSpec = self.cast.specs[Role.RATER]
        self.items = store.every_rating_item(items_wanted(settings, about, self.constitution))

    @property
    def num_planned(self) -> int:
        """Number of all questions."""
        num_orders = 2 if self.settings.orders == "both" else 1
        num_rules = 1 if self._scores else self.num_principles
        return len(self.items) * num_orders * max(num_rules, 1)

    @property
    def is_served(self) -> bool:
        """True if servers that run already answer for the model."""
        engines = self.cast.engines.values()
        return bool(engines) and all(each.capabilities.is_served for each in engines)

    @property
    def _scores(self) -> bool:
        """All principles are asked about together, one score each."""
        return self.task is Task.PRINCIPLES

    def planned(self) -> Iterator[PlannedRating]:
        """All questions, item by item."""
        rater = rater_of(self.spec)
        for item in self.items:
            for under in self._principles(item):
                for swapped in self._orders(item):
                    yield PlannedRating(item, rater, under, swapped)

    async def run(self, on_progress: Report | None = None) -> DebateProgress:
        """Ask the questions that are not answered yet.

        Raises:
            StoreError: Nothing can be recorded any more; what was recorded stands.
            BudgetExceededError: An engine's budget is used up; likewise.
        """
        progress = DebateProgress(total=self.num_planned)
        async with self.cast:
            await self.ask(progress, on_progress)
        return progress

    async def ask(self, progress: DebateProgress, on_progress: Report | None = None) -> None:
        """As `run`, counting in `progress`; the engines stay open."""
        transcripts = _Transcripts(self.store)
        claims: list[str] = []

        def release(at_least: int = 1) -> None:
            # Many at once: each is a transaction, and what is answered needs no claim any more.
            if len(claims) >= at_least:
                self.store.release(claims)
                claims.clear()

        async def one(planned: PlannedRating) -> None:
            what = f"rating {planned.id} of item {planned.item.key}"
            try:
                transcript = await transcripts.get(planned.item.debate_id)
                progress.num_tokens += await self._ask(planned, transcript)
                progress.done += 1
            except AnswerPending:
                progress.waiting += 1
            except Exception as error:
                message, cause = explain(error, what)
                item = planned.item
                progress.failures.append(Failure(item.debate_id, "", item.protocol, message, cause))
            claims.append(_claim(planned))
            release(CLAIM_BATCH // 4)
            if on_progress:
                on_progress(progress)

        queue = self._pending(self.planned(), progress, on_progress)
        await work_through(queue, one, self.settings.concurrency)
        release()

    def _principles(self, item: RatingItem) -> Iterator[PrinciplesApplied | None]:
        """The principles that an item is rated under: one by one, or all at once to be scored."""
        if self.constitution is None:
            yield None
            return
        # Candidates of one turn are compared by their scores: they get the same principles.
        about = (item.debate_id, item.step, item.seat) if self._scores else (item.key,)
        rng = random.Random(seed_from("principles", self.settings.seed, *about))
        drawn = self.constitution.draw(rng, self.num_principles)
        if self._scores:
            chosen = {each.id for each in drawn}
            sets = [[each for each in self.constitution.principles if each.id in chosen]]
        else:
            sets = [[each] for each in drawn]
        for some in sets:
            yield PrinciplesApplied(
                constitution=self.constitution.name,
                fingerprint=self.constitution.fingerprint,
                principles={each.id: each.text for each in some},
                requests={}
                if self._scores
                else {each.id: each.comparison for each in some if each.comparison},
            )

    def _orders(self, item: RatingItem) -> tuple[bool, ...]:
        if self.settings.orders == "both":
            return (False, True)
        return (bool(seed_from("order", self.settings.seed, item.key) % 2),)

    def _pending(
        self, planned: Iterable[PlannedRating], progress: DebateProgress, on_progress: Report | None
    ) -> Generator[PlannedRating, None, None]:
        """The questions that are ours to ask, claimed a batch at a time."""
        source = iter(planned)
        while some := {each.id: each for each in islice(source, CLAIM_BATCH)}:
            # Claimed before it is asked what is answered, as with debates.
            by_claim = {_claim(each): each for each in some.values()}
            held = self.store.claim(by_claim)
            found = self.store.known_ratings(some)
            self.store.include({id_: some[id_].item.debate_id for id_ in found})
            self.store.release(key for key in held if by_claim[key].id in found)
            ours = [each for key, each in by_claim.items() if key in held and each.id not in found]
            progress.found += len(found)
            progress.elsewhere += len(some) - len(found) - len(ours)
            if on_progress:
                on_progress(progress)
            yield from ours

    async def _ask(self, planned: PlannedRating, transcript: Transcript) -> int:
        """Ask one question, and make the answer durable; the number of tokens that it took."""
        draft = await self.agent.act(self._view(planned, transcript))
        await self.store.append(*draft.prompts, self._feedback(planned, draft))
        return sum(s.usage.prompt_tokens + s.usage.completion_tokens for s in draft.samples)

    def _view(self, planned: PlannedRating, transcript: Transcript) -> View:
        """The rater's view: that of the judge, and of an open prompt the chat's source."""
        by_id = {turn.id: public(turn) for turn in transcript.turns}
        shown = tuple(by_id[id_] for id_ in planned.turn_ids)
        first = min(shown, key=lambda turn: turn.step)
        debate, question = transcript.debate, transcript.question
        view = view_of(
            debate,
            question,
            by_id.values(),
            Seat.JUDGE,
            Role.RATER,
            Act.RATE,
            first.step,
            round=first.round,
        )
        reads_source = question.is_open and debate.protocol.speakers_see_source
        return replace(
            view,
            source=question.source if reads_source else view.source,
            seed=seed_from("rate", self.settings.seed, planned.id),
            rating=RatingRequest(self.task, shown, planned.under, planned.swapped),
        )

    def _feedback(self, planned: PlannedRating, draft: Draft) -> Feedback:
        if not draft.answers:
            raise ProtocolError(f"agent {self.agent.name!r} gave no answer when asked to rate")
        return Feedback(
            debate_id=planned.item.debate_id,
            item=planned.item.key,
            turn_ids=planned.turn_ids,
            judge=judge_name(self.agent.name, draft),
            kind=self.agent.kind,
            agent=self.spec,
            under=planned.under,
            swapped=planned.swapped,
            answer=ModelAnswer(task=self.task, answers=draft.answers),
            samples=draft.samples,
            rationale=draft.rationale,
            study=self.settings.name,
            sent_at=now(),
        )


# --- several models ---


def all_raters(
    store: Store,
    settings: RatingSettings,
    task: str,
    open_: Callable[[EngineSpec], Engine] = open_engine,
) -> dict[str, ModelRatings]:
    """The ratings of each model that the settings name; models of one engine share it.

    Raises as `ModelRatings` does, and:
        ConfigError: Two names stand for one and the same rater.
        StoreError: There is nothing to rate.
    """
    engines: dict[str, Engine] = {}

    def open_once(spec: EngineSpec) -> Engine:
        key = spec.model_dump_json()
        if key not in engines:
            engines[key] = open_(spec)
        return engines[key]

    several = {
        name: ModelRatings(store, one, task, open_once)
        for name, one in settings.one_by_one().items()
    }
    known: dict[str, str] = {}
    for name, ratings in several.items():
        same = known.setdefault(rater_of(ratings.spec), name)
        if same != name:
            raise ConfigError(f"raters.{same} and raters.{name} are one and the same rater")
        if not ratings.items:
            raise StoreError(f"{store.url}: there is nothing to rate: {ratings.nothing}")
    return several


async def rate_by_all(
    several: Iterable[ModelRatings], on_progress: Report | None = None
) -> DebateProgress:
    """Ask the questions of several models that are not answered yet, and close their engines.

    Models behind servers are asked at the same time. One in this process, or on a server that this
    process starts, takes the processors and the memory that the next one needs: those are asked one
    after the other, beside the servers, and each is given up before the next is loaded.

    Raises:
        StoreError: Nothing can be recorded any more; what was recorded stands.
        BudgetExceededError: An engine's budget is used up; likewise.
    """
    raters = list(several)
    progress = DebateProgress(total=sum(each.num_planned for each in raters))
    sharing: dict[tuple[int, ...], list[ModelRatings]] = {}
    for each in raters:
        sharing.setdefault(tuple(map(id, each.cast.engines.values())), []).append(each)
    served = [some for some in sharing.values() if some[0].is_served]
    here = [some for some in sharing.values() if not some[0].is_served]

    async def ask_served(some: list[ModelRatings]) -> None:
        async with some[0].cast, asyncio.TaskGroup() as group:
            for each in some:
                group.create_task(each.ask(progress, on_progress))

    async def ask_here() -> None:
        for some in here:
            async with some[0].cast:
                for each in some:
                    await each.ask(progress, on_progress)

    try:
        async with asyncio.TaskGroup() as group:
            for some in served:
                group.create_task(ask_served(some))
            group.create_task(ask_here())
    except BaseExceptionGroup as failures:
        raise _first_of(failures) from None
    return progress


def _first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _num_principles(settings: RatingSettings, task: Task, constitution: Constitution | None) -> int:
    """Number of principles that are drawn for an item.

    Raises:
        ConfigError: There are fewer.
    """
    wanted = settings.num_principles
    if constitution is None:
        if wanted is not None:
            raise ConfigError(
                f"num_principles = {wanted}: there are none to draw from; name a constitution "
                "(--constitution)"
            )
        return 0
    number = len(constitution.principles)
    if wanted is not None and wanted > number:
        raise ConfigError(
            f"num_principles = {wanted}: constitution {constitution.name!r} has {number} principles"
        )
    return wanted or (number if task is Task.PRINCIPLES else 1)


def _claim(planned: PlannedRating) -> str:
    """The name of the claim on a question; not that of a person on the item."""
    return f"feedback:{planned.id}"


class _Transcripts:
    """Transcripts by debate, the last few kept: the questions about one follow one another."""

    def __init__(self, store: Store, capacity: int = 64) -> None:
        self._store = store
        self._capacity = capacity
        self._known: dict[str, asyncio.Task[Transcript]] = {}

    async def get(self, debate_id: str) -> Transcript:
        """The transcript, read in a thread: the event loop waits for no disk."""
        if debate_id not in self._known:
            reading = asyncio.to_thread(self._store.transcript, debate_id)
            self._known[debate_id] = asyncio.create_task(reading)
            while len(self._known) > self._capacity:
                del self._known[next(iter(self._known))]
        return await self._known[debate_id]
