"""A policy tried on given words: its own cases before it serves, and prompts with their answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from oversight.errors import ConfigError
from oversight.guard.calls import Call
from oversight.guard.exchanges import ModelGuard
from oversight.guard.policy import Action, CaseSettings, Policy
from oversight.guard.screening import Finding
from oversight.guard.upstreams import ApiError, Json, Path

MODEL = "given"


class GivenWords:
    """An upstream that says what it is given to say."""

    def __init__(self, words: str) -> None:
        self._words = words

    async def answer(self, path: Path, body: Json) -> Json:
        """The words as a whole answer."""
        message = {"role": "assistant", "content": self._words}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    async def stream(self, path: Path, body: Json) -> AsyncGenerator[Json, None]:
        """The words in one event."""
        delta = {"role": "assistant", "content": self._words}
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}

    async def models(self) -> Sequence[str]:
        """One name."""
        return (MODEL,)

    async def aclose(self) -> None:
        """Give back nothing."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Outcome of a policy for a request and an answer."""

    action: Action
    delivered: str
    """Words that the client gets; of a blocked request none."""
    before: str
    """Of these, the words of the answer before a refusal."""
    by: Finding | None
    """The first finding of the action that went furthest."""


async def try_out(policy: Policy, messages: list[Json], answer: str) -> Trial:
    """Apply a policy to a request and the answer that a model gave to it."""
    calls: list[Call] = []
    guard = ModelGuard(policy, {MODEL: GivenWords(answer)}, (calls.append,))
    delivered = ""
    try:
        body = {"model": MODEL, "messages": messages}
        whole = await guard.whole("chat/completions", body)
        delivered = whole["choices"][0]["message"].get("content") or ""
    except ApiError as error:
        if error.code != "content_filter":
            raise
    [call] = calls
    every = [*call.findings, *(f for each in call.choices.values() for f in each.findings)]
    by = next((each for each in every if each.action is call.action), None)
    stop = next((each.stop for each in call.choices.values() if each.stop is not None), None)
    before = delivered
    if stop is not None and stop.action is Action.REFUSE:
        for partly in (True, False):
            before = before.removesuffix(guard.refusal(call, stop, partly=partly))
    return Trial(call.action, delivered, before, by)


def problem_of(case: CaseSettings, trial: Trial) -> str:
    """Difference from what the case expects; empty if there is none."""
    by = trial.by.check if trial.by is not None else ""
    found = f" ({by}: {trial.by.what})" if trial.by is not None else ""
    if trial.action is not case.expect:
        return f"expect = {case.expect.value!r}, and it was {trial.action.value!r}{found}"
    if case.by and by != case.by:
        return f"by = {case.by!r}, and it was {by!r}{found}"
    if case.delivered is not None and trial.before != case.delivered:
        return f"delivered = {case.delivered!r}, and it was {trial.before!r}"
    return ""


async def failed_cases(policy: Policy) -> list[str]:
    """One line for each case of a policy that does not hold.

    Raises:
        OversightError: A check cannot be used at all.
    """
    await policy.prepare()
    lines = []
    for number, case in enumerate(policy.settings.cases):
        messages: list[Json] = [{"role": "user", "content": case.input}]
        problem = problem_of(case, await try_out(policy, messages, case.output))
        if problem:
            lines.append(f"{policy.name}: cases.{number}: {problem}")
    return lines


async def check_cases(policy: Policy) -> None:
    """Refuse a policy of which a case does not hold.

    Raises:
        ConfigError: Names the first, and says how many others there are.
    """
    lines = await failed_cases(policy)
    if lines:
        more = f" ({len(lines) - 1} more)" if len(lines) > 1 else ""
        raise ConfigError(f"{lines[0]}{more}; mend the policy, or its case")
