"""Records of a guard: calls as records of the store, counts and latencies, alarms that are told.

A call is an open prompt, the model's answer, and what the guard made of it. One that no check acted
on is a debate of the protocol `response`; one where a check acted is one of `self_critique`: the
guard's criticism says what was found, and the revision is what the client was sent. So reports,
people's ratings and training rows take them as they are.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from oversight import protocols
from oversight.errors import MissingDependencyError, OversightError, StoreError
from oversight.guard.calls import DATASET, Call, CallOutcome, ChoiceRecord
from oversight.guard.checks.secrets import without_secrets
from oversight.guard.drift import Alarm, alarm_json
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
    Transcript,
    Turn,
    Usage,
)
from oversight.types import Outcome as DebateOutcome

logger = logging.getLogger(__name__)

MAX_PENDING = 2_000
"""Calls that wait to be written; beyond, those on which no check acted are left out."""
Hidden = Literal["secrets", "personal", "nothing"]
"""Parts of a kept call that are left out: secrets, personal data with them, or nothing."""


class Recorder:
    """Writes calls into a store, behind the answers: nobody waits for it."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        sample: float,
        seed: int | None = None,
        num_kept: int = 0,
        hide: Hidden = "secrets",
    ) -> None:
        self._store, self._policy, self._sample = store, policy, sample
        self._random = random.Random(seed)
        self._pending: set[asyncio.Task[None]] = set()
        self._unwritten: OrderedDict[str, Call] = OrderedDict()
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._num_kept = num_kept
        self._hide: Hidden = hide
        self.num_left_out = 0
        self.num_failed = 0

    @property
    def store(self) -> Store:
        """The store that calls are written into."""
        return self._store

    def add(self, call: Call) -> None:
        """Keep a call where a check acted on it, or it was drawn."""
        if not call.messages:
            return
        is_drawn = call.has_acted or self._random.random() < self._sample
        if is_drawn and len(self._pending) >= MAX_PENDING and not call.has_acted:
            self.num_left_out += 1
            is_drawn = False
        if is_drawn:
            self._begin(call)
        elif self._num_kept:
            self._unwritten[call.id] = call
            if len(self._unwritten) > self._num_kept:
                self._unwritten.popitem(last=False)

    def _begin(self, call: Call) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._write(call))
        self._pending.add(task)
        self._writing[call.id] = task

        def done(task: asyncio.Task[None]) -> None:
            self._pending.discard(task)
            self._writing.pop(call.id, None)

        task.add_done_callback(done)
        return task

    async def keep(self, call_id: str) -> None:
        """Write a call that was not drawn and is still held; wait for one that is being written."""
        call = self._unwritten.pop(call_id, None)
        task = self._begin(call) if call is not None else self._writing.get(call_id)
        if task is not None:
            await asyncio.shield(task)

    async def read(self, call_id: str, index: int) -> Transcript | None:
        """Records that the store has of a choice of a call; None if it has nothing."""
        return await asyncio.to_thread(self._read, call_id, index)

    def _read(self, call_id: str, index: int) -> Transcript | None:
        try:
            question = self._store.question(f"{DATASET}:{call_id}")
        except StoreError:
            return None
        for is_criticised in (False, True):
            debate = debate_of(question, index, is_criticised=is_criticised)
            if self._store.known([debate.id]):
                return self._store.transcript(debate.id)
        return None

    async def _write(self, call: Call) -> None:
        try:
            kept = without_hidden(call, self._hide)
            await self._store.append(*records_of(kept, call.policy or self._policy))
        except (OversightError, ValidationError) as error:
            self.num_failed += 1
            logger.error("call %s could not be stored: %s", call.id, redacted(str(error))[:300])

    async def aclose(self) -> None:
        """Finish what is being written, and close the store."""
        while self._pending:
            await asyncio.gather(*self._pending, return_exceptions=True)
        await asyncio.to_thread(self._store.close)


def without_hidden(call: Call, hide: Hidden) -> Call:
    """The call as it is kept: with marks in place of secrets, and of personal data if so asked."""
    if hide == "nothing":
        return call

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return without_secrets(value, personal=hide == "personal")
        if isinstance(value, list):
            return [clean(each) for each in value]
        return {k: clean(v) for k, v in value.items()} if isinstance(value, dict) else value

    choices = {
        index: replace(each, written=clean(each.written), delivered=clean(each.delivered))
        for index, each in call.choices.items()
    }
    return replace(call, messages=clean(call.messages), choices=choices, error=clean(call.error))


def records_of(call: Call, policy: Policy) -> list[Stored]:
    """The records of a call, in the order in which they are written: of each choice a debate."""
    prompt = as_prompt(call.messages)
    question = question_of(call, prompt, policy)
    found: list[Stored] = [question, PromptRecord(prompt)]
    choices = call.choices or {0: ChoiceRecord()}
    for index, choice in sorted(choices.items()):
        found += _of_choice(call, question, prompt, index, choice)
    return found


def question_of(call: Call, prompt: Prompt, policy: Policy) -> Question:
    """The call as an open prompt, whose id is the call's."""
    *before, last = prompt.messages
    meta = {
        "call": call.id,
        "model": call.model,
        "outcome": call.outcome.value,
        "policy": policy.name,
        "version": policy.settings.version,
        "fingerprint": policy.fingerprint,
    }
    facts = {"id": f"{DATASET}:{call.id}", "dataset": DATASET, "meta": meta}
    if last.role == "user":
        try:
            return Question(text=last.content, history=tuple(before), **facts)
        except ValidationError:
            pass  # an empty message, or a chat that begins with an answer: kept as one text
    text = "\n\n".join(f"{each.role}: {each.content}" for each in prompt.messages)
    return Question(text=text, **facts)


def debate_of(question: Question, index: int, *, is_criticised: bool) -> Debate:
    """The debate of a choice; all of it follows from the call's question, so it is found again."""
    engine = EngineSpec(engine="guard", settings={"model": question.meta["model"]})
    agents = {Role.RESPONDER: AgentSpec(agent="responder", settings={}, engine=engine)}
    if is_criticised:
        facts = {name: question.meta[name] for name in ("policy", "version", "fingerprint")}
        agents[Role.CRITIC] = AgentSpec(agent="guard", settings=facts)
    return Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocols.load("self_critique" if is_criticised else "response"),
        agents=agents,
        orders=Orders(options=(), defends=(), shown=(Seat.A,)),
        seed=index,
    )


def _of_choice(
    call: Call, question: Question, prompt: Prompt, index: int, choice: ChoiceRecord
) -> Iterator[Stored]:
    findings = [*call.findings, *choice.findings]
    # A refusal of the request itself is the answer, and nobody criticised one.
    is_criticised = bool(choice.written) and (
        choice.written != choice.delivered or choice.stop is not None
    )
    debate = debate_of(question, index, is_criticised=is_criticised)
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


class Meters:
    """Counts and latencies of a guard, as Prometheus reads them."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingDependencyError(
                "a guard counts with prometheus-client: pip install 'oversight[guard]'"
            ) from None
        self._latest = prometheus.generate_latest
        self.registry = prometheus.CollectorRegistry()
        self._begun = prometheus.Counter(
            "guard_requests", "Requests to the API that came.", registry=self.registry
        )
        self._ended = prometheus.Counter(
            "guard_requests_ended", "Requests that are over.", ["outcome"], registry=self.registry
        )
        self._findings = prometheus.Counter(
            "guard_findings",
            "Findings by check, action and side.",
            ["check", "action", "side"],
            registry=self.registry,
        )
        self._seconds = prometheus.Histogram(
            "guard_request_seconds",
            "Seconds of a whole request.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
        )
        self._own = prometheus.Histogram(
            "guard_own_seconds",
            "Seconds of a request that is not streamed, without the model's.",
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )
        self._in_flight = prometheus.Gauge(
            "guard_in_flight", "Requests under way.", registry=self.registry
        )
        self._feedback = prometheus.Counter(
            "guard_feedback", "Words of users by status.", ["status"], registry=self.registry
        )
        self._alarms = prometheus.Counter(
            "guard_drift_alarms", "Alarms of drift by stream.", ["stream"], registry=self.registry
        )
        self.in_flight = 0

    def alarm(self, stream: str) -> None:
        """Count an alarm."""
        self._alarms.labels(stream).inc()

    def feedback(self, status: int) -> None:
        """Count a user's word on an answer."""
        self._feedback.labels(str(status)).inc()

    def begin(self) -> None:
        """Count a request that came."""
        self.in_flight += 1
        self._begun.inc()
        self._in_flight.set(self.in_flight)

    def end(self, outcome: str) -> None:
        """Count a request that is over."""
        self.in_flight -= 1
        self._ended.labels(outcome).inc()
        self._in_flight.set(self.in_flight)

    def add(self, call: Call) -> None:
        """Count what happened to a call."""
        self._seconds.observe(call.seconds)
        if call.upstream_s:
            self._own.observe(max(0.0, call.seconds - call.upstream_s))
        for finding in call.findings:
            self._findings.labels(finding.check, finding.action.value, "input").inc()
        for choice in call.choices.values():
            for finding in choice.findings:
                self._findings.labels(finding.check, finding.action.value, "output").inc()

    def text(self) -> bytes:
        """All of them in Prometheus' form."""
        return self._latest(self.registry)


class AlarmTeller:
    """Tells of alarms: in the log, and to an address on this machine."""

    def __init__(self, webhook: str) -> None:
        self._webhook = webhook
        self._posting: set[asyncio.Task[None]] = set()

    def __call__(self, alarm: Alarm) -> None:
        """Tell of an alarm; nobody waits for it."""
        logger.warning("drift: %s", alarm.sentence())
        if self._webhook:
            task = asyncio.get_running_loop().create_task(self._post(alarm))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    async def _post(self, alarm: Alarm) -> None:
        import aiohttp

        try:
            timeout = aiohttp.ClientTimeout(total=10)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.post(
                    self._webhook,
                    data=alarm_json(alarm),
                    headers={"content-type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status >= 300:
                    logger.error("drift.webhook answered with status %d", answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.error("drift.webhook could not be told: %s", type(error).__name__)

    async def aclose(self) -> None:
        """Finish telling."""
        while self._posting:
            await asyncio.gather(*self._posting, return_exceptions=True)
