"""Calls as records of the store: an open prompt, the model's answer, and what the guard made of it.

A call that no check acted on is a debate of the protocol `response`; one where a check acted is one
of `self_critique`: the guard's criticism says what was found, and the revision is what the client
was sent. So reports, people's ratings and training rows take them as they are.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import ValidationError

from oversight import protocols
from oversight.errors import OversightError
from oversight.guard.calls import Call, CallOutcome, ChoiceRecord
from oversight.guard.policy import Policy
from oversight.guard.screening import Finding
from oversight.guard.upstreams import as_prompt
from oversight.ids import canonical_json
from oversight.redaction import redacted
from oversight.store import Store
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    EngineSpec,
    FinishReason,
    Orders,
    OutcomeStatus,
    Prompt,
    PromptRecord,
    Purpose,
    Question,
    Role,
    Sample,
    Seat,
    Stored,
    Turn,
    Usage,
)
from oversight.types import Outcome as DebateOutcome

logger = logging.getLogger(__name__)

MAX_PENDING = 2_000
"""Calls that wait to be written; beyond, those on which no check acted are left out."""
DATASET = "guard"


class Recorder:
    """Writes calls into a store, behind the answers: nobody waits for it."""

    def __init__(
        self, store: Store, policy: Policy, sample: float, seed: int | None = None
    ) -> None:
        self._store, self._policy, self._sample = store, policy, sample
        self._random = random.Random(seed)
        self._pending: set[asyncio.Task[None]] = set()
        self.num_left_out = 0
        self.num_failed = 0

    def add(self, call: Call) -> None:
        """Keep a call where a check acted on it, or it was drawn."""
        if not call.messages or not (call.has_acted or self._random.random() < self._sample):
            return
        if len(self._pending) >= MAX_PENDING and not call.has_acted:
            self.num_left_out += 1
            return
        task = asyncio.get_running_loop().create_task(self._write(call))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _write(self, call: Call) -> None:
        try:
            await self._store.append(*records_of(call, self._policy))
        except (OversightError, ValidationError) as error:
            self.num_failed += 1
            logger.error("call %s could not be stored: %s", call.id, redacted(str(error))[:300])

    async def aclose(self) -> None:
        """Finish what is being written, and close the store."""
        while self._pending:
            await asyncio.gather(*self._pending, return_exceptions=True)
        await asyncio.to_thread(self._store.close)


def records_of(call: Call, policy: Policy) -> list[Stored]:
    """The records of a call, in the order in which they are written: of each choice a debate."""
    prompt = as_prompt(call.messages)
    question = question_of(call, prompt)
    found: list[Stored] = [question, PromptRecord(prompt)]
    choices = call.choices or {0: ChoiceRecord()}
    for index, choice in sorted(choices.items()):
        found += _of_choice(call, policy, question, prompt, index, choice)
    return found


def question_of(call: Call, prompt: Prompt) -> Question:
    """The call as an open prompt, whose id is the call's."""
    *before, last = prompt.messages
    meta = {"call": call.id, "model": call.model, "outcome": call.outcome.value}
    facts = {"id": f"{DATASET}:{call.id}", "dataset": DATASET, "meta": meta}
    if last.role == "user":
        try:
            return Question(text=last.content, history=tuple(before), **facts)
        except ValidationError:
            pass  # an empty message, or a chat that begins with an answer: kept as one text
    text = "\n\n".join(f"{each.role}: {each.content}" for each in prompt.messages)
    return Question(text=text, **facts)


def _of_choice(
    call: Call, policy: Policy, question: Question, prompt: Prompt, index: int, choice: ChoiceRecord
) -> Iterator[Stored]:
    findings = [*call.findings, *choice.findings]
    # A refusal of the request itself is the answer, and nobody criticised one.
    is_criticised = bool(choice.written) and (
        choice.written != choice.delivered or choice.stop is not None
    )
    protocol = protocols.load("self_critique" if is_criticised else "response")
    engine = EngineSpec(engine="guard", settings={"model": call.model})
    facts = {
        "policy": policy.name,
        "version": policy.settings.version,
        "fingerprint": policy.fingerprint,
    }
    agents = {Role.RESPONDER: AgentSpec(agent="responder", settings={}, engine=engine)}
    if is_criticised:
        agents[Role.CRITIC] = AgentSpec(agent="guard", settings=facts)
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol,
        agents=agents,
        orders=Orders(options=(), defends=(), shown=(Seat.A,)),
        seed=index,
    )
    yield debate
    first = choice.written or choice.delivered
    samples = (_sample(call, prompt, choice),) if choice.written else ()
    said = _reasoning(findings)
    if first or call.outcome is not CallOutcome.FAILED:
        responder = (Seat.A, Role.RESPONDER)
        private = "" if is_criticised else said
        yield _turn(debate, 0, *responder, Act.RESPOND, first, private, samples)
        if is_criticised:
            yield _turn(debate, 1, Seat.B, Role.CRITIC, Act.CRITIQUE, _criticism(findings), said)
            yield _turn(debate, 2, *responder, Act.REVISE, choice.delivered)
    is_whole = call.outcome not in (CallOutcome.FAILED, CallOutcome.CANCELLED)
    yield DebateOutcome(
        debate_id=debate.id,
        status=OutcomeStatus.COMPLETE if is_whole else OutcomeStatus.FAILED,
        error=redacted(call.error or ("" if is_whole else "the client went before the end")),
        cause="" if is_whole else call.outcome.value,
        seconds=call.seconds,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _turn(
    debate: Debate,
    step: int,
    seat: Seat,
    role: Role,
    act: Act,
    text: str,
    reasoning: str = "",
    samples: tuple[Sample, ...] = (),
) -> Turn:
    return Turn(
        debate_id=debate.id,
        step=step,
        round=0 if step == 0 else 1,
        seat=seat,
        role=role,
        act=act,
        text=redacted(text),
        reasoning=reasoning,
        samples=samples,
    )


_REASONS = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
}


def _sample(call: Call, prompt: Prompt, choice: ChoiceRecord) -> Sample:
    usage = call.usage
    return Sample(
        purpose=Purpose.SPEECH,
        engine="guard",
        model=call.model,
        prompt_id=prompt.id,
        text=redacted(choice.written),
        token_ids=(),
        finish_reason=_REASONS.get(choice.finish_reason, FinishReason.STOP),
        usage=Usage(
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        ),
        seconds=call.seconds,
    )


def _count(given: object) -> int:
    return given if isinstance(given, int) and given >= 0 else 0


def _criticism(findings: Sequence[Finding]) -> str:
    lines = [
        f"{each.check}: {each.what} ({each.action.value})"
        for each in findings
        if each.action.value not in ("allow", "log")
    ]
    return redacted("\n".join(lines))


def _reasoning(findings: Sequence[Finding]) -> str:
    """All findings as JSON, where no other seat and no rater reads them."""
    return redacted(canonical_json([asdict(each) for each in findings])) if findings else ""
