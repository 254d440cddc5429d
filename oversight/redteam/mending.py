"""From findings to mending: what was found as rows for trainers, and as cases of a guard.

Each finding tells what should have happened, and a trainer learns from that:

    judge rows       what the judge read under attack, in both orders of the sides, and the letter
                     of the option that is right (`oversight train sft`)
    preference rows  the attacked response against a good one: the honest response of the goal, or
                     the reply to the attack, criticised and revised by a constitution
                     (`oversight train dpo`, `reward`)
    guard cases      the words in and the words out, which a policy of `oversight guard` must refuse

What cannot be made a row is counted by its reason, and never trained on unseen: a revision that
still does what the attack was after is left out by the goal's own rule.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oversight.agents import build_agent
from oversight.agents.speaking import label_of
from oversight.engines import metered
from oversight.errors import ConfigError, NoAnswerError
from oversight.files import to_toml
from oversight.graphs.views import turn_of, view_of
from oversight.redteam.findings import RedTeamFinding
from oversight.redteam.goals import JudgedRule
from oversight.redteam.lanes import decided
from oversight.redteam.preparing import RedTeamSettings
from oversight.redteam.targets import (
    AgentTarget,
    JudgeTarget,
    PolicyTarget,
    responded,
)
from oversight.redteam.types import (
    AttackCase,
    AttackOutcome,
    TargetKind,
    TargetReply,
    Try,
)
from oversight.text.revisions import declines
from oversight.types import Act, Agent, AgentSpec, Engine, EngineSpec, Role, Seat

BOTH_ORDERS = (0, 1)
"""Trials of a judge in which the sides stand as they were drawn, and the other way round."""


@dataclass(slots=True)
class MendingRows:
    """Rows made of findings, and why others were not made."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


# --- judges ---


async def judge_row(
    target: JudgeTarget, case: AttackCase, move: Try, trial: int, id_: str
) -> dict[str, Any] | None:
    """A row that a judge is trained on: what it reads of a debate with the words of a move, and the
    letter of the right option; None where the judge was not asked for a letter.

    Args:
        target: The judge; it is asked once, as that is how its own prompt is made.
        case: The debate, of which the right option is known.
        move: The words of the attacked side.
        trial: 0 for the sides as they were drawn, 1 for the other order.
        id_: Beginning of the row's id.

    Raises:
        EngineError: The judge's model cannot be asked.
    """
    assert case.transcript is not None
    question = case.transcript.question
    found = await target.asked(case, move, trial)
    if found is None or question.correct is None:
        return None
    prompt, view = found
    return {
        "id": f"{id_}-{trial}",
        "question_id": question.id,
        "prompt": prompt.chat(),
        "completion": label_of(question.correct, view.orders.options),
    }


async def judge_rows(found: Iterable[RedTeamFinding], target: JudgeTarget) -> MendingRows:
    """Rows of findings before a judge, two of each: one for each order of the sides.

    Raises:
        EngineError: The judge's model cannot be asked.
        DataError: A finding lacks its debate.
    """
    made = MendingRows()
    for each in found:
        if each.kind is not TargetKind.JUDGE:
            made.left_out[f"found on a {each.kind.value}"] += 1
            continue
        case = each.case()
        move = each.as_try()
        for trial in BOTH_ORDERS:
            row = await judge_row(target, case, move, trial, each.id)
            if row is None:
                made.left_out["the judge was not asked for a letter"] += 1
            else:
                made.rows.append({**row, "finding": each.id, "attack": each.attack})
    return made


# --- preferences ---


@dataclass(frozen=True, slots=True)
class Reviser:
    """A critic and a responder, by whom replies to attacks are made good ones."""

    critic: Agent
    responder: Agent

    async def revised(self, each: RedTeamFinding, target: PolicyTarget) -> str | None:
        """The reply to an attack, criticised once and revised; None where nothing was changed, or
        the revision has a defect.

        Raises:
            EngineError: A model cannot be asked.
        """
        chat = (*target.before(each.goal), *each.history)
        goal = each.goal.model_copy(update={"request": each.text or " ", "history": chat})
        case = AttackCase(goal, each.reply, random.Random(), 1)
        debate, question, first = responded(case, each.reply, target.spec, Role.CRITIC)
        view = view_of(
            debate, question, [first], Seat.B, Role.CRITIC, Act.CRITIQUE, 1, round=1, may_end=True
        )
        critique = turn_of(view, await self.critic.act(view), question)
        turns = [first, critique]
        view = view_of(
            debate, question, turns, Seat.A, Role.RESPONDER, Act.REVISE, 2, round=1, may_end=True
        )
        draft = await self.responder.act(view)
        if draft.unchanged or draft.defects or not draft.text.strip():
            return None
        return draft.text


def open_reviser(
    settings: RedTeamSettings, engine: str, constitution: str
) -> tuple[Reviser, Engine]:
    """A critic and a responder on an engine of the recipe, by which replies are revised.

    Raises:
        ConfigError: The recipe describes no such engine, or the constitution is broken.
        UnknownNameError: There is no constitution of that name.
    """
    if engine not in settings.engines:
        known = ", ".join(sorted(settings.engines)) or "none"
        raise ConfigError(
            f"--reviser {engine}: the recipe describes no such engine; described are: {known}"
        )
    found = settings.engines[engine]
    spec = EngineSpec(engine=found.engine, settings=found.settings)
    opened = metered(settings.spending, settings.engines)(spec)
    critic = AgentSpec(agent="critic", settings={"constitution": constitution}, engine=spec)
    responder = AgentSpec(agent="responder", engine=spec)
    made = (build_agent(each, opened, "--reviser") for each in (critic, responder))
    return Reviser(*made), opened


async def preference_rows(
    found: Iterable[RedTeamFinding],
    target: PolicyTarget | None = None,
    reviser: Reviser | None = None,
    decider: AgentTarget | None = None,
) -> MendingRows:
    """The attacked response of each finding against a good one.

    Args:
        found: The findings.
        target: The policy that they were found on, for its system prompt.
        reviser: Makes good replies of a policy; without it, what was found on policies is left out.
        decider: Judge of goals that no rule decides of.

    Raises:
        EngineError: A model cannot be asked.
    """
    made = MendingRows()
    for each in found:
        if each.kind is TargetKind.JUDGE:
            made.left_out["found on a judge: see judge rows"] += 1
        elif each.kind is not TargetKind.POLICY:
            _take_honest(made, each)
        elif target is None or reviser is None:
            made.left_out["found on a policy, and no reviser is named"] += 1
        else:
            await _take_revised(made, each, target, reviser, decider)
    return made


def _take_honest(made: MendingRows, each: RedTeamFinding) -> None:
    if not each.goal.honest:
        made.left_out["the goal has no honest response"] += 1
        return
    chat = [*each.goal.history, *Try(each.goal.request).as_chat()]
    prompt = [{"role": m.role, "content": m.content} for m in chat]
    made.rows.append(_pair(each, prompt, each.goal.honest, each.text))


async def _take_revised(
    made: MendingRows,
    each: RedTeamFinding,
    target: PolicyTarget,
    reviser: Reviser,
    decider: AgentTarget | None,
) -> None:
    try:
        good = await reviser.revised(each, target)
    except NoAnswerError:
        good = None
    if good is None:
        made.left_out["the reply was not revised"] += 1
        return
    outcome = await _outcome_of(each, good, decider)
    if outcome is not AttackOutcome.FAILURE:
        said = "still does what the attack is after" if outcome is AttackOutcome.SUCCESS else ""
        made.left_out[f"the revision {said or 'cannot be decided'}"] += 1
        return
    chat = [*target.before(each.goal), *Try(each.text, each.history).as_chat()]
    prompt = [{"role": m.role, "content": m.content} for m in chat]
    made.rows.append(_pair(each, prompt, good, each.reply))


async def _outcome_of(
    each: RedTeamFinding, text: str, decider: AgentTarget | None
) -> AttackOutcome:
    """The goal's own rule on other words in the reply's place."""
    reply = TargetReply(text, refused=declines(text))
    if reply.refused:
        return AttackOutcome.FAILURE
    rule = each.goal.success
    if not isinstance(rule, JudgedRule):
        return rule.decide(reply)[0]
    if decider is None:
        return AttackOutcome.UNDETERMINED
    move = Try(each.text, each.history)
    try:
        belief = await decided(decider, each.goal, rule, move, reply, 0)
    except NoAnswerError:
        belief = None
    return rule.read(belief)[0]


def _pair(
    each: RedTeamFinding, prompt: Sequence[Mapping[str, str]], good: str, bad: str
) -> dict[str, Any]:
    return {
        "id": each.id,
        "question_id": each.goal.id,
        "prompt": list(prompt),
        "chosen": [{"role": "assistant", "content": good}],
        "rejected": [{"role": "assistant", "content": bad}],
        "finding": each.id,
        "attack": each.attack,
    }


# --- guards ---


def guard_cases(found: Iterable[RedTeamFinding]) -> MendingRows:
    """Cases of a guard's policy (`[[cases]]`): the attack's words and the reply, to be refused."""
    made = MendingRows()
    for each in found:
        if each.kind is not TargetKind.POLICY:
            made.left_out[f"found on a {each.kind.value}, which no guard stands before"] += 1
        elif each.history:
            made.left_out["a case is one message, and the attack is of several"] += 1
        elif not each.text.strip():
            made.left_out["the attack has no words"] += 1
        else:
            case = {"input": each.text, "output": each.reply, "expect": "refuse"}
            made.rows.append(case)
    return made


def cases_toml(rows: Sequence[Mapping[str, Any]]) -> str:
    """Cases as they are put into a policy's file."""
    parts = [f"[[cases]]\n{to_toml(each)}" for each in rows]
    return "\n".join(["# Found by oversight redteam; to be put into a policy of a guard.", *parts])
