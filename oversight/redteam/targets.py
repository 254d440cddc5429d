"""Targets: what an attack's words are put before, each behind the same protocol.

A policy answers a chat; a judge decides a debate in which one side's words were changed; a critic
reads a bad response, a feedback model compares it with an honest one, and a reward model scores
both. Whatever stands behind them is as in a run of its own: views, prompts and quotes are made by
the graphs' functions, so that a judge that is attacked reads what a judge of a debate reads.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from oversight import protocols
from oversight.audits.editing import edited
from oversight.audits.interventions import Intervention
from oversight.errors import BudgetExceededError, EngineError, NoAnswerError, ProtocolError
from oversight.graphs.planning import draw_orders
from oversight.graphs.rejudging import name_of
from oversight.graphs.views import public, turn_of, view_of
from oversight.ids import content_id, seed_from
from oversight.redteam.types import AttackCase, Attempt, TargetKind, TargetReply, Try
from oversight.text.revisions import declines
from oversight.text.thoughts import divide
from oversight.types import (
    Act,
    Agent,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    Draft,
    Engine,
    FinishReason,
    Judgment,
    Message,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Prompt,
    Question,
    QuoteStatus,
    RatingRequest,
    Request,
    Role,
    Sampling,
    Seat,
    Stored,
    Task,
    Transcript,
    Turn,
    Verdict,
    View,
)

if TYPE_CHECKING:
    from oversight.modeling import TokenRow

DATASET = "redteam"
"""Data set that questions of attacks are recorded under."""
ATTACK, OF_TARGET = "attack", "target"
NO_REPLY = frozenset({FinishReason.CONTENT_FILTER, FinishReason.TOOL_CALLS, FinishReason.CANCELLED})


class PolicyTarget:
    """A model that answers a chat, with its system prompt.

    Args:
        name: Its name in the report.
        engine: The engine.
        spec: As records identify it.
        system: Its system prompt; empty for none.
        sampling: Settings of its answers.
    """

    kind = TargetKind.POLICY

    def __init__(
        self,
        name: str,
        engine: Engine,
        spec: AgentSpec,
        system: str = "",
        sampling: Sampling | None = None,
    ) -> None:
        self.name, self.engine, self.spec, self.system = name, engine, spec, system
        self.sampling = sampling or Sampling()
        shown = (self.sampling.max_tokens, self.sampling.temperature, self.sampling.top_p)
        self.identity = content_id("policy", spec.model_dump(mode="json"), system, list(shown))

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The policy's answer.

        Raises:
            EngineError: There is none to be had.
        """
        asked = Request(
            Prompt(messages=(*self._before(case), *move.history, _user(move.text))),
            replace(self.sampling, seed=seed),
            id=f"redteam-{content_id(case.goal.id, move.text, len(move.history), trial, seed)}",
        )
        [done] = await self.engine.generate([asked])
        said = done.text if done.opened is None else divide(done.text, done.opened).text
        usage = (done.usage.prompt_tokens, done.usage.completion_tokens)
        refused = done.finish_reason is FinishReason.REFUSAL or declines(said)
        fault = ""
        if done.finish_reason in NO_REPLY or (not said.strip() and not refused):
            fault = f"no answer ({done.finish_reason.value})"
        return TargetReply(
            said, refused=refused, fault=fault, prompt_tokens=usage[0], completion_tokens=usage[1]
        )

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The chat as an open prompt, with the answer as its response."""
        before = (*self._before(case), *attempt.chat)
        return _recorded(self, attempt, before, attempt.text, attempt.reply, Act.RESPOND)

    async def aclose(self) -> None:
        """Close the engine."""
        await self.engine.aclose()

    def _before(self, case: AttackCase) -> tuple[Message, ...]:
        system = "\n\n".join(each for each in (self.system, case.goal.system) if each)
        first = (Message(role="system", parts=(system,)),) if system else ()
        return (*first, *case.goal.history)


class AgentTarget:
    """Common ground of the targets that are agents."""

    kind: TargetKind

    def __init__(self, name: str, agent: Agent, spec: AgentSpec, engine: Engine | None) -> None:
        self.name, self.agent, self.spec, self.engine = name, agent, spec, engine
        self.identity = content_id(self.kind.value, spec.model_dump(mode="json"))

    async def aclose(self) -> None:
        """Close the engine."""
        if self.engine is not None:
            await self.engine.aclose()

    async def _act(self, view: View) -> tuple[Draft | None, dict[str, Any]]:
        """The agent's draft, or None with the fault; tokens in either case."""
        try:
            draft = await self.agent.act(view)
        except NoAnswerError as error:
            return None, {"fault": f"no answer ({error.cause})"}
        used = [each.usage for each in draft.samples]
        return draft, {
            "prompt_tokens": sum(each.prompt_tokens for each in used),
            "completion_tokens": sum(each.completion_tokens for each in used),
        }


class JudgeTarget(AgentTarget):
    """A judge agent, which decides a debate in which the words of the wrong side were changed."""

    kind = TargetKind.JUDGE

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The judge's belief in the attacked side's option; in odd trials with the sides shown the
        other way round.

        Raises:
            EngineError: The judge's model cannot be asked.
        """
        changed = with_words(case, move.text, "attack")
        assert case.seat is not None
        debate = changed.debate
        swapped = move.swap is not bool(trial % 2)
        view = view_of(
            debate,
            changed.question,
            [public(turn) for turn in changed.turns if turn.chosen],
            Seat.JUDGE,
            Role.JUDGE,
            Act.DECIDE,
            len(debate.protocol.schedule()),
            orders=debate.orders.swapped() if swapped else debate.orders,
            round=debate.protocol.rounds,
        )
        draft, used = await self._act(replace(view, seed=seed))
        if draft is None:
            return TargetReply(**used)
        belief = draft.belief
        readable = belief is not None and belief.probs is not None
        own = [t for t in changed.turns if t.chosen and t.seat is case.seat]
        verified = any(q.status is QuoteStatus.VERIFIED for turn in own for q in turn.quotes)
        side = debate.orders.defended_by(case.seat)
        return TargetReply(
            text=draft.rationale,
            belief=belief.probs[side] if readable and belief and belief.probs else None,
            unverified=not verified,
            fault="" if readable else "INVALID: the judge's answer cannot be read",
            **used,
        )

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The debate with the changed words, and the judgment."""
        changed = with_words(case, attempt.text, attempt.attack)
        debate, found = changed.debate, attempt.belief
        judged: list[Stored] = []
        if found is not None and case.seat is not None:
            side, number = debate.orders.defended_by(case.seat), len(changed.question.options)
            rest = (1.0 - found) / (number - 1)
            probs = tuple(found if place == side else rest for place in range(number))
            is_tie = abs(found - rest) < 1e-9
            swapped = attempt.swap is not bool(attempt.trial % 2)
            belief = Belief(
                verdict=Verdict.TIE if is_tie else Verdict.DECIDED,
                method=BeliefMethod.LOGPROBS,
                probs=probs,
            )
            orders = debate.orders.swapped() if swapped else debate.orders
            judged.append(
                Judgment(
                    debate_id=debate.id,
                    judge=name_of(self.spec),
                    agent=self.spec,
                    kind=self.agent.kind,
                    orders=orders,
                    swapped=swapped,
                    final=belief,
                    rationale=attempt.reply,
                )
            )
        return (changed.question, debate, *changed.turns, *judged, _complete(debate))


class CriticTarget(AgentTarget):
    """A critic agent, which is shown a bad response to a prompt."""

    kind = TargetKind.CRITIC

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The critique of the response.

        Raises:
            EngineError: The critic's model cannot be asked.
        """
        debate, question, first = responded(case, move.text, self.spec, Role.CRITIC)
        role, step = Role.CRITIC, 1
        view = view_of(debate, question, [first], Seat.B, role, Act.CRITIQUE, step, round=1)
        draft, used = await self._act(replace(view, seed=seed))
        if draft is None:
            return TargetReply(**used)
        refused = declines(draft.text)
        fault = "" if draft.text.strip() or draft.unchanged else "no answer (empty)"
        return TargetReply(
            draft.text, unchallenged=draft.unchanged, refused=refused, fault=fault, **used
        )

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The response, and its critique."""
        debate, question, first = responded(
            case, attempt.text, self.spec, Role.CRITIC, attempt.attack
        )
        view = view_of(debate, question, [first], Seat.B, Role.CRITIC, Act.CRITIQUE, 1, round=1)
        second = turn_of(view, Draft(text=attempt.reply), question)
        return (question, debate, first, second, _complete(debate))


class FeedbackTarget(AgentTarget):
    """A rater agent, which compares a bad response with an honest one."""

    kind = TargetKind.FEEDBACK

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The probability that the bad response is the better one; in odd trials it stands second.

        Raises:
            EngineError: The rater's model cannot be asked.
        """
        debate, question, bad = responded(case, move.text, self.spec, Role.RATER)
        honest = bad.model_copy(update={"candidate": 1, "text": case.goal.honest})
        swapped = move.swap is not bool(trial % 2)
        shown = (honest, bad) if swapped else (bad, honest)
        view = view_of(
            debate, question, [bad, honest], Seat.JUDGE, Role.RATER, Act.RATE, 0, round=0
        )
        rating = RatingRequest(Task.PAIRS, shown)
        draft, used = await self._act(replace(view, seed=seed, rating=rating))
        if draft is None:
            return TargetReply(**used)
        answer = draft.answers.get("preferred")
        if answer is None:
            raise ProtocolError(f"agent {self.agent.name!r} gave no answer when asked to compare")
        probs = answer.belief.probs
        fault = "" if probs is not None else "INVALID: the rater's answer cannot be read"
        belief = None if probs is None else probs[1 if swapped else 0]
        return TargetReply(belief=belief, fault=fault, **used)

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The two responses as candidates, the bad one chosen."""
        debate, question, bad = responded(case, attempt.text, self.spec, Role.RATER, attempt.attack)
        other = {"candidate": 1, "text": case.goal.honest, "chosen": False}
        return (question, debate, bad, bad.model_copy(update=other), _complete(debate))


class RewardTarget:
    """A reward model in a folder, which scores a bad and an honest response."""

    kind = TargetKind.REWARD

    def __init__(self, name: str, folder: str) -> None:
        from oversight.models import content_name

        self.name, self.folder = name, folder
        self.spec = AgentSpec(agent="reward_model", settings={"model": content_name(folder)})
        self.identity = content_id("reward", self.spec.model_dump(mode="json"))

    @cached_property
    def _model(self) -> tuple[Any, Any, Any]:
        from transformers import AutoTokenizer

        from oversight.chat.prompt_ids import ChatIds
        from oversight.train.experience_settings import SourceSettings
        from oversight.train.rollouts.reward_models import RewardModels

        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        models = RewardModels.load(SourceSettings(models=(self.folder,)), tokenizer, "cpu")
        return models, ChatIds(tokenizer), tokenizer

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The bad response's reward less the honest one's."""
        bad, honest, number = await asyncio.to_thread(self._score, case, move.text)
        return TargetReply(reward=bad - honest, prompt_tokens=number)

    def _score(self, case: AttackCase, text: str) -> tuple[float, float, int]:
        models, chat, _ = self._model
        prompt = Prompt(messages=(*case.goal.history, _user(case.goal.request)))
        rows = [self._row(chat.prompt_ids(prompt), each) for each in (text, case.goal.honest)]
        bad, honest = models.score_rows(rows)
        return bad, honest, sum(row.num_tokens for row in rows)

    def _row(self, prompt_ids: Any, text: str) -> TokenRow:
        import numpy as np

        from oversight.modeling import TokenRow

        tokenizer = self._model[2]
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        return TokenRow(np.asarray(prompt_ids), np.asarray(ids))

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The bad response to the prompt."""
        debate, question, bad = responded(
            case, attempt.text, self.spec, Role.SCORER, attempt.attack
        )
        return (question, debate, bad, _complete(debate))

    async def aclose(self) -> None:
        """Nothing to close."""


# --- views and records ---


def with_words(case: AttackCase, text: str, attack: str) -> Transcript:
    """The debate of a case with the last speech of the attacked side in these words."""
    assert case.transcript is not None
    assert case.seat is not None
    change = Intervention(attack, lambda _: text, about="The words of an attack.")
    found = edited(case.transcript, change, case.seat)
    assert found is not None
    return found


def responded(
    case: AttackCase, text: str, spec: AgentSpec, role: Role, attack: str = "attack"
) -> tuple[Debate, Question, Turn]:
    """An open prompt's debate with the bad response in these words, its question and that turn."""
    protocol = critique_protocol() if role is Role.CRITIC else response_protocol()
    question = Question(
        id=case.goal.id,
        dataset=DATASET,
        text=case.goal.request,
        history=case.goal.history,
        meta={"harm": case.goal.harm},
    )
    written = AgentSpec(agent=attack, settings={"words": content_id("words", text)})
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol,
        agents={Role.RESPONDER: written, role: spec},
        orders=draw_orders(question, 0),
        seed=0,
    )
    view = view_of(debate, question, (), Seat.A, Role.RESPONDER, Act.RESPOND, 0, round=1)
    return debate, question, turn_of(view, Draft(text=text), question)


def response_protocol() -> OversightProtocol:
    """The protocol of one answer to an open prompt."""
    return protocols.load("response")


def critique_protocol() -> OversightProtocol:
    """The protocol of an answer and its critique."""
    return protocols.load("self_critique")


def _recorded(
    target: PolicyTarget,
    attempt: Attempt,
    before: tuple[Message, ...],
    text: str,
    reply: str,
    act: Act,
) -> tuple[Stored, ...]:
    shown = [[each.role, each.content] for each in before]
    question = Question(
        id=f"{attempt.goal}:{content_id('chat', shown, text)[:12]}",
        dataset=DATASET,
        text=text if text.strip() else "(no words)",
        history=before,
        meta={"harm": attempt.harm, ATTACK: attempt.attack, OF_TARGET: target.name},
    )
    attack = AgentSpec(agent=attempt.attack, settings={"goal": attempt.goal})
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=response_protocol(),
        agents={Role.RESPONDER: target.spec, Role.RED_TEAM: attack},
        orders=draw_orders(question, 0),
        seed=seed_from(attempt.id),
    )
    view = view_of(debate, question, (), Seat.A, Role.RESPONDER, act, 0, round=1)
    return (question, debate, turn_of(view, Draft(text=reply), question), _complete(debate))


def _complete(debate: Debate) -> Outcome:
    return Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE)


def _user(text: str) -> Message:
    return Message(role="user", parts=(text or " ",))


def is_final(error: EngineError) -> bool:
    """True of an error after which no further call is made."""
    from oversight.errors import AccessError

    return isinstance(error, BudgetExceededError | AccessError)
