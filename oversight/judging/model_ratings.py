"""A model that rates: every item of a task, in both orders, under principles that are drawn.

All questions are known before the first is asked: each has the id of the feedback that will answer
it. So one that is answered is not asked again, and a run that was cut off goes on.
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
from oversight.errors import AnswerPending, ConfigError, ProtocolError
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
        transcripts = _Transcripts(self.store)
        claims: list[str] = []

        def release(at_least: int = 1) -> None:
            # Many at once: each is a transaction, and what is answered needs no claim any more.
            if len(claims) >= at_least:
                self.store.release(claims)
                claims.clear()

        async def ask(planned: PlannedRating) -> None:
            what = f"rating {planned.id} of item {planned.item.key}"
            try:
                await self._ask(planned, await transcripts.get(planned.item.debate_id))
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

        async with self.cast:
            queue = self._pending(self.planned(), progress, on_progress)
            await work_through(queue, ask, self.settings.concurrency)
        release()
        return progress

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
            self.store.release(key for key in held if by_claim[key].id in found)
            ours = [each for key, each in by_claim.items() if key in held and each.id not in found]
            progress.found += len(found)
            progress.elsewhere += len(some) - len(found) - len(ours)
            if on_progress:
                on_progress(progress)
            yield from ours

    async def _ask(self, planned: PlannedRating, transcript: Transcript) -> None:
        """Ask one question, and make the answer durable."""
        draft = await self.agent.act(self._view(planned, transcript))
        await self.store.append(*draft.prompts, self._feedback(planned, draft))

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
