"""Judgments of recorded debates by further judges, beside those that were made in them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from oversight.errors import ProtocolError
from oversight.graphs.planning import Cast
from oversight.graphs.running import DebateProgress, Failure, explain, work_through
from oversight.graphs.views import public, view_of
from oversight.ids import content_id
from oversight.store import Store
from oversight.types import Act, AgentSpec, Judgment, Orders, Role, Seat, Transcript

NUM_DIGITS = 6
"""Digits of an agent's hash in the name of a judge."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A judgment to be made."""

    transcript: Transcript
    orders: Orders
    swapped: bool


async def judge_again(
    transcripts: Iterable[Transcript],
    store: Store,
    cast: Cast,
    *,
    name: str | None = None,
    swap: bool = False,
    concurrency: int = 32,
    on_progress: Callable[[DebateProgress], None] | None = None,
) -> DebateProgress:
    """Have the judge of `cast` judge debates that are complete, each as it stands in the end.

    What a judge of this name has judged before is not judged again, nor is a debate that the very
    same agent judged as it was held. An error of one judgment is a failure of its own.

    Args:
        transcripts: Debates with options, of `store`.
        store: Where the judgments are recorded.
        cast: Holds the judge.
        name: The judge's in the records; unset, made of its agent, model and settings (`name_of`).
        swap: Have each judged a second time with the options and sides the other way round.
        concurrency: Number of judgments in flight at once.
        on_progress: Is told after each.

    Raises:
        ProtocolError: A transcript is of an open prompt, in which nothing is decided.
        StoreError: Nothing can be recorded any more; what was recorded stands.
        BudgetExceededError: The engine's budget is used up; likewise.
    """
    agent, spec = cast.agents[Role.JUDGE], cast.specs[Role.JUDGE]
    name = name or name_of(spec)
    progress = DebateProgress()

    def waiting() -> Generator[_Wanted, None, None]:
        for transcript in transcripts:
            for each in _wanted(transcript, swap=swap):
                if _is_judged(each, name, spec):
                    progress.found += 1
                else:
                    yield each
            if on_progress:
                on_progress(progress)

    async def judge(each: _Wanted) -> None:
        debate = each.transcript.debate
        view = view_of(
            debate,
            each.transcript.question,
            [public(turn) for turn in each.transcript.turns if turn.chosen],
            Seat.JUDGE,
            Role.JUDGE,
            Act.DECIDE,
            len(debate.protocol.schedule()),
            orders=each.orders,
            round=debate.protocol.rounds,
        )
        try:
            draft = await agent.act(view)
            if draft.belief is None:
                raise ProtocolError(f"judge {agent.name!r} gave no belief when asked to decide")
        except Exception as error:
            said, cause = explain(error, f"judgment of debate {debate.id}")
            progress.failures.append(
                Failure(debate.id, debate.question_id, debate.protocol.name, said, cause)
            )
            return
        judgment = Judgment(
            debate_id=debate.id,
            judge=name,
            agent=spec,
            kind=agent.kind,
            orders=each.orders,
            swapped=each.swapped,
            final=draft.belief,
            rationale=draft.rationale,
            samples=draft.samples,
        )
        await store.append(*draft.prompts, judgment)
        progress.done += 1
        if on_progress:
            on_progress(progress)

    await work_through(waiting(), judge, concurrency)
    return progress


def name_of(spec: AgentSpec) -> str:
    """The name of a judge in records: its agent, its model, a few digits of its settings."""
    model = spec.engine.settings.get("model") if spec.engine else None
    digits = content_id("judge", spec.model_dump(mode="json"))[:NUM_DIGITS]
    return f"{spec.agent} ({f'{PurePath(str(model)).name}, ' if model else ''}{digits})"


def _wanted(transcript: Transcript, *, swap: bool) -> list[_Wanted]:
    """The judgments that a debate is to have.

    Raises:
        ProtocolError: Nothing is decided in it.
    """
    debate = transcript.debate
    if debate.protocol.is_open:
        raise ProtocolError(
            f"debate {debate.id} answers an open prompt, and there is nothing to judge: have its "
            "responses rated instead (`oversight rate`, `oversight feedback`)"
        )
    found = [_Wanted(transcript, debate.orders, False)]
    if swap:
        listing = not debate.protocol.speakers
        found.append(_Wanted(transcript, debate.orders.swapped(listing=listing), True))
    return found


def _is_judged(wanted: _Wanted, name: str, spec: AgentSpec) -> bool:
    """Return whether the judgment stands, by that name or by the debate's own judge."""
    judgments = [each for each in wanted.transcript.judgments if each.swapped is wanted.swapped]
    if any(each.judge == name for each in judgments):
        return True
    own = wanted.transcript.debate.agents.get(Role.JUDGE)
    return own == spec and bool(judgments)
