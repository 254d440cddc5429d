"""An audit as it is run: transcripts taken or made, changed, judged and measured; begun again, it
goes on.

All that an audit makes are records of one store of its own: the transcripts as they were, without
samples; each with one thing changed; the judge's judgments of all of them; and direct answers to
the same questions. Ids follow from content, so that a second run finds everything done, and no
store whose debates are audited is written to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from oversight.audits.editing import edit_of, edited, example, records_of, seats_of
from oversight.audits.interventions import Intervention
from oversight.audits.measures import (
    DirectAnswers,
    InterventionPair,
    JudgeAudit,
    JudgedTranscript,
    effects_of,
    measure_direct,
    measure_order,
)
from oversight.audits.preparing import AuditWork
from oversight.errors import StoreError
from oversight.evals.observations import Observation, cluster_of, named, observations
from oversight.graphs.planning import Cast, plan
from oversight.graphs.rejudging import judge_again
from oversight.graphs.running import as_begun, run_debates
from oversight.graphs.runtime import Runtime
from oversight.protocols import load as load_protocol
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    Debate,
    JudgeKind,
    Judgment,
    Question,
    Role,
    Transcript,
)

DEBATES_A_WRITE = 100
ALONE, EXPERT = "naive", "expert"
"""Protocols in which a judge, and whoever speaks, are asked without a debate."""


Tell = Callable[[str, int, int], None]
"""Is told what is done now, how much of it, and of how much."""


async def run_audit(work: AuditWork, store: Store, tell: Tell) -> None:
    """Make what the audit is measured by, as far as it is not there yet.

    Raises:
        StoreError: Nothing can be recorded, or no debate could be held to its end.
        BudgetExceededError: The budget is used up; what was judged is kept.
    """
    async with _engines_of(work):
        if work.planned:
            await _hold(work, store, tell)
        else:
            _take(work, store)
        questions = _questions(work, store)
        _edit(work, store)
        store.include({id_: id_ for id_ in (*work.originals, *work.edits)})
        once = [each for each in work.originals if each not in work.with_orders]
        both = [each for each in work.originals if each in work.with_orders]
        await _judge(work, store, tell, "judging in both orders", both, swap=True)
        await _judge(work, store, tell, "judging in one order", once, swap=False)
        await _judge(work, store, tell, "judging changed ones", list(work.edits), swap=False)
        await _ask_directly(work, store, tell, questions)


@asynccontextmanager
async def _engines_of(work: AuditWork) -> AsyncIterator[None]:
    engines = {id(each): each for each in work.cast.engines.values()}
    if work.expert is not None:
        engines |= {id(each): each for each in work.expert.engines.values()}
    try:
        yield
    finally:
        for engine in engines.values():
            await engine.aclose()


# --- transcripts ---


def _take(work: AuditWork, store: Store) -> None:
    """Copy the transcripts that were taken, but for those that stand in the audit's store."""
    work.originals = [each.debate.id for each in work.taken]
    known = store.completed(work.originals)
    for some in _chunks([each for each in work.taken if each.debate.id not in known]):
        store.add(*(record for each in some for record in records_of(each)))


async def _hold(work: AuditWork, store: Store, tell: Tell) -> None:
    """Hold the debates that were planned before the judge."""
    await _run(work, store, tell, "debates", work.planned, work.cast)
    ids = [debate.id for debate, _ in work.planned]
    complete = store.completed(ids)
    work.originals = [id_ for id_ in ids if id_ in complete]
    if not work.originals:
        raise StoreError(f"{store.url}: none of {len(ids)} debates could be held to its end")


def _questions(work: AuditWork, store: Store) -> list[Question]:
    """Each question of the transcripts once; and what the transcripts allow to be asked."""
    found: dict[str, Question] = {}
    for each in store.transcripts(debate_ids=work.originals):
        found.setdefault(each.question.fingerprint, each.question)
        protocol = each.debate.protocol
        if protocol.has_orders:
            work.with_orders.add(each.debate.id)
        work.expert_reads_source |= bool(protocol.speakers_see_source and each.question.source)
    return list(found.values())


def _edit(work: AuditWork, store: Store) -> None:
    """Record each transcript with each of its changes, unless it stands there already."""
    seed = work.settings.seed
    waiting: list[Transcript] = []

    def write() -> None:
        known = store.completed(each.debate.id for each in waiting)
        new = [each for each in waiting if each.debate.id not in known]
        store.add(*(record for each in new for record in records_of(each)))
        waiting.clear()

    for original in store.transcripts(debate_ids=work.originals):
        for each in work.interventions:
            for seat in seats_of(original, each, seed):
                found = edited(original, each, seat, seed)
                if found is None:
                    work.without[each.name] += 1
                    continue
                work.edits[found.debate.id] = (each.name, original.debate.id)
                work.examples.setdefault(each.name, example(original, found))
                waiting.append(found)
        if len(waiting) >= DEBATES_A_WRITE:
            write()
    write()


def _chunks(given: Sequence[Transcript]) -> Iterator[Sequence[Transcript]]:
    for start in range(0, len(given), DEBATES_A_WRITE):
        yield given[start : start + DEBATES_A_WRITE]


# --- asking ---


async def _judge(
    work: AuditWork, store: Store, tell: Tell, doing: str, ids: Sequence[str], *, swap: bool
) -> None:
    if not ids:
        return
    total = len(ids) * (1 + swap)
    work.count(
        await judge_again(
            store.transcripts(debate_ids=ids),
            store,
            work.cast,
            name=work.name,
            swap=swap,
            concurrency=work.settings.concurrency,
            on_progress=lambda at: tell(doing, at.done + at.found + len(at.failures), total),
        )
    )


async def _ask_directly(
    work: AuditWork, store: Store, tell: Tell, questions: Sequence[Question]
) -> None:
    """Ask the judge, and whoever speaks, for the answers without any debate."""
    seed = work.settings.seed
    alone = list(plan(questions, [load_protocol(ALONE)], work.cast.specs, seed=seed))
    await _run(work, store, tell, "judge alone", alone, work.cast)
    work.alone = [debate.id for debate, _ in alone]
    if work.expert is None:
        return
    by_source = {
        EXPERT: [each for each in questions if work.expert_reads_source and each.source],
        ALONE: [each for each in questions if not (work.expert_reads_source and each.source)],
    }
    planned = [
        each
        for name, some in by_source.items()
        for each in plan(some, [load_protocol(name)], work.expert.specs, seed=seed)
    ]
    await _run(work, store, tell, "speaker asked directly", planned, work.expert)
    work.asked = [debate.id for debate, _ in planned]


async def _run(
    work: AuditWork,
    store: Store,
    tell: Tell,
    doing: str,
    planned: Sequence[tuple[Debate, Question]],
    actors: Cast,
) -> None:
    total = len(planned)
    work.count(
        await run_debates(
            as_begun(planned, store, actors),
            Runtime(store, actors),
            concurrency=work.settings.concurrency,
            on_progress=lambda at: tell(doing, at.done + at.found + len(at.failures), total),
            total=total,
        )
    )


# --- measuring ---


def measure_audit(work: AuditWork, store: Store, run: str = "") -> JudgeAudit:
    """Everything measured of what was made.

    Raises:
        StoreError: The judge judged nothing.
    """
    judged = {
        each.debate.id: found
        for each in store.transcripts(debate_ids=work.originals)
        if (found := _judged(each, work)) is not None
    }
    if not judged:
        raise StoreError(
            f"{store.url}: judge {work.name!r} has given no judgment"
            + (f" ({work.failures[0].error})" if work.failures else "")
        )
    pairs = tuple(_pairs(work, store, judged))
    alone, asked = (_observed(store, ids) for ids in (work.alone, work.asked))
    with_debates = [each.observation() for each in judged.values()]
    order = measure_order(list(judged.values()))
    questions = [each.transcript.question for each in judged.values()]
    spec = work.spec
    return JudgeAudit(
        judge=work.name,
        agent=spec.agent,
        model=named(spec) if spec.engine is not None else "",
        speakers=tuple(sorted({_speaker(each.transcript.debate) for each in judged.values()})),
        datasets=tuple(sorted({each.dataset for each in questions})),
        protocols=tuple(sorted({e.transcript.debate.protocol.name for e in judged.values()})),
        num_transcripts=len(judged),
        num_questions=len({cluster_of(each) for each in questions}),
        accuracy=order.accuracy,
        invalid=order.invalid,
        order=order.order,
        same=order.same,
        effects=effects_of(pairs, work.interventions, work.without),
        direct=_direct(work, with_debates, alone, asked),
        examples=_known_examples(work.interventions, work.examples),
        pairs=pairs,
        store=store.url,
        run=run,
        seed=work.settings.seed,
        num_failed=len(work.failures),
    )


def _speaker(debate: Debate) -> str:
    return debate.agents[debate.protocol.speaker_role].agent


def _direct(
    work: AuditWork,
    judged: Sequence[Observation],
    alone: Sequence[Observation],
    asked: Sequence[Observation],
) -> DirectAnswers:
    return measure_direct(judged, alone, asked, expert_reads_source=work.expert_reads_source)


def _observed(store: Store, ids: Sequence[str]) -> list[Observation]:
    return [seen for each in store.transcripts(debate_ids=ids) for seen in observations(each)]


def _known_examples(
    interventions: Sequence[Intervention], found: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    return {each.name: found[each.name] for each in interventions if each.name in found}


def _judged(transcript: Transcript, work: AuditWork) -> JudgedTranscript | None:
    """The judge's answers to a transcript; None without one in the order that was drawn."""
    drawn, swapped = (judgment_of(transcript, work.name, work.spec, s) for s in (False, True))
    return None if drawn is None else JudgedTranscript(transcript, drawn, swapped)


def judgment_of(
    transcript: Transcript, name: str, spec: AgentSpec, swapped: bool = False
) -> Judgment | None:
    """The judgment of a judge of that name; else, where the debate was held before the very same
    agent, that one's."""
    given = [each for each in transcript.judgments if each.swapped is swapped]
    for each in given:
        if each.judge == name:
            return each
    if transcript.debate.agents.get(Role.JUDGE) != spec:
        return None
    own = (e for e in given if e.agent is None and e.kind is not JudgeKind.HUMAN)
    return next(own, None)


def _pairs(
    work: AuditWork, store: Store, judged: Mapping[str, JudgedTranscript]
) -> Iterator[InterventionPair]:
    for each in store.transcripts(debate_ids=list(work.edits)):
        name, original = work.edits[each.debate.id]
        before, after = judged.get(original), judgment_of(each, work.name, work.spec)
        edit = edit_of(each.debate)
        if before is None or after is None or edit is None:
            continue
        yield InterventionPair(
            intervention=name,
            original=original,
            edited=each.debate.id,
            seat=edit.seat.value,
            cluster=cluster_of(each.question),
            target=each.debate.orders.defended_by(edit.seat),
            num_options=len(each.question.options),
            correct=each.question.correct,
            before=before.drawn.final,
            after=after.final,
        )
