"""Any records, written in any grouping and order of calls, read back equal."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oversight.store import Store
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Message,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Prompt,
    PromptRecord,
    Question,
    Role,
    Sample,
    Seat,
    Source,
    Turn,
    Verdict,
)

# Every character but lone surrogates, which the records themselves refuse.
texts = st.text(st.characters(codec="utf-8"), max_size=30)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
floats = st.floats(allow_nan=False)
token_ids = st.builds(
    lambda start, length: tuple(range(start, start + length)),
    st.integers(0, 2**32 - 1000),
    st.sampled_from([0, 1, 255, 256, 600]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
metas = st.dictionaries(texts, json_values, max_size=3)
sources = st.builds(Source, title=texts, text=names)
questions = st.builds(
    Question,
    id=names,
    dataset=names,
    split=texts,
    text=names.map(lambda text: "?" + text),
    options=st.just((Option(text="a"), Option(text="b", argument="\0"))),
    correct=st.none() | st.just(1),
    source=st.none() | sources,
    meta=metas,
)
prompts = st.builds(
    PromptRecord,
    prompt=st.builds(
        Prompt,
        messages=st.lists(
            st.builds(Message, role=st.just("user"), parts=st.lists(texts, max_size=3).map(tuple)),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
    token_ids=token_ids,
)
samples = st.builds(
    Sample,
    purpose=st.just("speech"),
    engine=texts,
    model=texts,
    prompt_id=texts,
    text=texts,
    token_ids=token_ids,
    logprobs=st.none() | st.lists(floats, max_size=5).map(tuple),
    finish_reason=st.just("stop"),
    seconds=floats,
)
beliefs = st.just(
    Belief(verdict=Verdict.TIE, method=BeliefMethod.PARSED, probs=(0.1 + 0.2, 0.7 - 1e-17))
) | st.builds(
    Belief, verdict=st.just(Verdict.INVALID), method=st.just(BeliefMethod.HUMAN), raw=texts
)
orders = Orders(options=(0, 1), defends=(1, 0), shown=(Seat.B, Seat.A))


@st.composite
def debates(draw: st.DrawFn) -> tuple[list[object], Debate]:
    """A debate with everything that belongs to it."""
    question = draw(questions)
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=OversightProtocol(name=draw(names), graph="debate"),
        agents={Role.JUDGE: AgentSpec(agent="judge", settings=draw(metas))},
        orders=orders,
        seed=draw(st.integers()),
    )
    turns = [
        Turn(
            debate_id=debate.id,
            step=step,
            round=1,
            seat=draw(st.sampled_from(Seat)),
            role=Role.DEBATER,
            act=Act.SPEAK,
            candidate=draw(st.integers(0, 3)),
            text=draw(texts),
            reasoning=draw(texts),
            belief=draw(st.none() | beliefs),
            samples=tuple(draw(st.lists(samples, max_size=2))),
            seconds=draw(floats),
        )
        for step in range(draw(st.integers(0, 4)))
    ]
    judgments = [
        Judgment(
            debate_id=debate.id,
            judge=draw(texts),
            kind=draw(st.sampled_from(JudgeKind)),
            orders=orders,
            revision=revision,
            trajectory=((0, draw(beliefs)),),
            final=draw(beliefs),
        )
        for revision in range(draw(st.integers(0, 2)))
    ]
    outcomes = [
        Outcome(debate_id=debate.id, status=OutcomeStatus.FAILED, error=f"{n} {draw(texts)}")
        for n in range(draw(st.integers(0, 2)))
    ]
    return [question, debate, *turns, *judgments, *outcomes], debate


@st.composite
def groupings(draw: st.DrawFn) -> tuple[list[list[object]], list[PromptRecord]]:
    """Records of several debates and prompts, cut into calls anywhere."""
    made = draw(st.lists(debates(), max_size=3, unique_by=lambda pair: pair[1].id))
    some_prompts = draw(st.lists(prompts, max_size=4, unique_by=lambda record: record.prompt.id))
    records = [record for records, _ in made for record in records] + list(some_prompts)
    calls: list[list[object]] = [[]]
    for record in records:
        if draw(st.booleans()):
            calls.append([])
        calls[-1].append(record)
        if draw(st.integers(0, 4)) == 0:
            calls[-1].append(record)
    return calls, some_prompts


def _check_equal(store: Store, calls: list[list[object]], some: list[PromptRecord]) -> None:
    records = [record for call in calls for record in call]
    found = list(store.transcripts(complete=None))
    for kind, read in (
        (Debate, [t.debate for t in found]),
        (Turn, [turn for t in found for turn in t.turns]),
        (Judgment, [judgment for t in found for judgment in t.judgments]),
    ):
        assert {r.id: r for r in read} == {r.id: r for r in records if isinstance(r, kind)}
    asked = {r.fingerprint: r for r in records if isinstance(r, Question)}
    assert {q.fingerprint: q for q in store.questions()} == asked
    assert all(t.question == asked[t.debate.question_fingerprint] for t in found)
    last = {r.debate_id: r for r in records if isinstance(r, Outcome)}
    assert {t.debate.id: t.outcome for t in found if t.outcome} == last
    for record in some:
        assert store.prompt(record.prompt.id) == record
    # The samples drawn here name prompts at random; all else has to hold.
    assert [p for p in store.check() if not p.reason.startswith("prompt ")] == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(groupings(), st.booleans())
def test_any_records_written_in_any_grouping_read_back_equal(given_calls, concurrently):
    calls, some = given_calls

    async def append_all(store: Store) -> None:
        await asyncio.gather(*[store.append(*call) for call in calls])

    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "a.db") as store:
        if concurrently:
            asyncio.run(append_all(store))
        else:
            for call in calls:
                store.add(*call)
        _check_equal(store, calls, some)
