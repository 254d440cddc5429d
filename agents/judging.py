"""Reading a judge's belief: from the probabilities of its next token, or from what it wrote.

Labels stand for positions in the listing ("A" is the option listed first); a
belief is always in the question's own order. `Orders.options` maps between.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from oversight.agents._calls import Answer, Calls, seed_for
from oversight.agents._stated import read_statements
from oversight.errors import NoLogprobsError, ProtocolError
from oversight.text.prompts import Safe
from oversight.types import (
    Belief,
    BeliefMethod,
    Completion,
    Engine,
    FinishReason,
    Prompt,
    Purpose,
    Sampling,
    Verdict,
    View,
)

log = logging.getLogger(__name__)

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

SURFACE_FORMS = (
    *("{}", " {}", "\n{}", "({}", " ({}", "{})", "{}."),
    *("**{}", " **{}", '"{}', "▁{}", "Ġ{}"),
)
"""Forms in which a tokenizer may write a label at the start of an answer, the label in capitals."""

LOWER_CASE_FORMS = ("{}", "({}", " ({}", "{})")
"""Likewise in lower case; " a" is left out, as it is the article."""


def labels(num_options: int) -> tuple[str, ...]:
    """One letter for each position in the listing.

    Raises:
        ProtocolError: There are more options than letters.
    """
    if num_options > len(LABELS):
        raise ProtocolError(
            f"a question with {num_options} options cannot be listed: at most {len(LABELS)}"
        )
    return tuple(LABELS[:num_options])


def check_judging(view: View, agent: str) -> None:
    """Make sure that the view asks a judge for something.

    Raises:
        ProtocolError: It asks for a speech or a critique.
    """
    if view.act.is_spoken:
        raise ProtocolError(
            f"agent {agent!r} does not speak for a side, nor criticise, and was asked to "
            f"{view.act.value!r}; give the seat {view.seat.value!r} to a {view.role.value} "
            f"(agents.{view.role.value}.agent)"
        )


def decide(probs: Sequence[float], method: BeliefMethod, raw: str, mass: float | None) -> Belief:
    """The belief with `probs` in the question's own order; a maximum held twice is a tie."""
    tied = list(probs).count(max(probs)) > 1
    verdict = Verdict.TIE if tied else Verdict.DECIDED
    return Belief(verdict=verdict, method=method, probs=tuple(probs), mass=mass, raw=raw)


def settled(belief: Belief, end_at: float) -> bool:
    """True if a judge that may end the debate does so: some option is believed at `end_at`."""
    decided = belief.verdict is Verdict.DECIDED and belief.probs is not None
    return decided and max(belief.probs or ()) >= end_at


def in_question_order(by_position: Sequence[float], listing: Sequence[int]) -> tuple[float, ...]:
    """Normalised probabilities, from listing positions to the question's own order."""
    total = math.fsum(by_position)
    probs = [0.0] * len(by_position)
    for position, index in enumerate(listing):
        probs[index] = min(by_position[position] / total, 1.0)
    return tuple(probs)


def belief_from_top(completion: Completion, listing: Sequence[int]) -> Belief:
    """The belief in the likeliest first tokens of an answer that may be one label.

    The surface forms of each label are summed. `mass` is what all labels
    together had before normalising: low if the model wanted to write something
    else. INVALID only if no label is among the tokens at all.
    """
    form_of = _positions_by_form(len(listing))
    by_position = [0.0] * len(listing)
    for token, logprob in completion.top[0] if completion.top else ():
        position = form_of.get(token)
        if position is not None and logprob <= 1e-6:  # false for nan as well
            by_position[position] += math.exp(min(logprob, 0.0))
    mass = math.fsum(by_position)
    if mass <= 0.0:
        return _unreadable(completion.text, BeliefMethod.LOGPROBS)
    probs = in_question_order(by_position, listing)
    return decide(probs, BeliefMethod.LOGPROBS, completion.text, min(mass, 1.0))


@cache
def _positions_by_form(num_options: int) -> dict[str, int]:
    forms: dict[str, int] = {}
    for position, label in enumerate(labels(num_options)):
        forms |= {form.format(label): position for form in SURFACE_FORMS}
        forms |= {form.format(label.lower()): position for form in LOWER_CASE_FORMS}
    return forms


# --- asking for a choice ---

LABEL_TOKENS = 4
"""Room for a label in its longest surface form."""


@dataclass(frozen=True, slots=True)
class BeliefRequest:
    """The options that a belief is asked about, and the words of the request."""

    options: tuple[str, ...]
    listing: tuple[int, ...]
    choice: Safe
    """For one letter."""
    probabilities: Safe
    """For a number behind each letter."""


class ChoiceReader:
    """Asks a model which of several options holds, and reads how probable it makes each.

    Where the engine gives log-probabilities of a constrained choice, the belief is read from
    them; elsewhere the model writes a probability, which is parsed. So it is where the chat
    template opens a thought, in which a letter would be no answer.
    """

    def __init__(self, engine: Engine, role: str) -> None:
        """A reader of what `engine` believes, for an agent that is called `role` in messages."""
        self.engine = engine
        self.role = role
        able = engine.capabilities
        self.reads_logprobs = able.choices and able.logprobs

    async def read(
        self,
        calls: Calls,
        prompt_of: Callable[[Safe], Prompt],
        asked: BeliefRequest,
        writing: Sampling,
    ) -> Belief:
        """The belief over the options, in their own order.

        Args:
            calls: Where the calls are noted.
            prompt_of: The prompt that ends with a request.
            asked: The options, and what requests them.
            writing: How to sample an answer in words.
        """
        if self.reads_logprobs:
            letters = labels(len(asked.listing))
            try:
                chosen = await self._choose(calls, prompt_of(asked.choice), letters)
            except NoLogprobsError:  # which the engine has said
                self.reads_logprobs = False
            else:
                if not chosen.completion.opened:
                    return belief_from_top(chosen.completion, asked.listing)
                # The letter stands where a thought begins: its probability is no belief.
                calls.set_aside()
                self._write_from_now_on()
        answer = await calls.make(Purpose.BELIEF, prompt_of(asked.probabilities), writing)
        reason = answer.completion.finish_reason
        return belief_from_text(answer.text, reason, asked.listing, asked.options)

    async def _choose(self, calls: Calls, prompt: Prompt, choices: tuple[str, ...]) -> Answer:
        """One of the letters, with the probabilities of all."""
        sampling = Sampling(
            max_tokens=LABEL_TOKENS,
            # At 1 the log-probabilities are the model's own, before or after temperature.
            temperature=1.0,
            seed=seed_for(calls.view, Purpose.BELIEF),
            choices=choices,
            logprobs=True,
            top_logprobs=20,
        )
        return await calls.make(Purpose.BELIEF, prompt, sampling)

    def _write_from_now_on(self) -> None:
        if self.reads_logprobs:
            self.reads_logprobs = False
            log.warning(
                "%s: the chat template opens a thought, in which no letter is an answer: the %s "
                "writes its beliefs, and they are read from its words (enable_thinking = false in "
                "the %s's engine brings back those read from probabilities)",
                self.engine.model,
                self.role,
                self.role,
            )


# --- what it wrote ---

_LEAD = r"[\W_]*(?:(?:verdict|answer)\b\W*)?"
_TIE = re.compile(_LEAD + r"(?:it\s+is\s+)?(?:a\s+)?(?:tie|tied|draw)[\W_]*", re.IGNORECASE)
_ABSTAIN = re.compile(
    _LEAD + r"(?:i\s+)?(?:abstain|(?:cannot|can['’]t|can\s+not)\s+(?:tell|decide|say))[\W_]*",
    re.IGNORECASE,
)


def belief_from_text(
    text: str,
    finish_reason: FinishReason,
    listing: Sequence[int],
    options: Sequence[str] = (),
) -> Belief:
    """The belief that a judge wrote, in any form that `oversight.agents._stated` reads.

    A closing line `tie` or `cannot tell` (`abstain`) is a verdict of its own. Text that is
    contradictory, ambiguous, out of range, cut off or missing is INVALID.

    Args:
        text: The judge's words.
        finish_reason: Why it stopped: a number at the end of a text that was cut off is no number.
        listing: The options' indices in the order in which they were listed.
        options: The options' texts in the question's own order, by which the judge may name them.
    """
    texts = [options[index] for index in listing] if options else ()
    reading = read_statements(text, len(listing), texts)
    by_position = reading.probabilities(len(listing))
    cut_off = finish_reason is not FinishReason.STOP and reading.ends_in_number
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    is_tie = bool(_TIE.fullmatch(last))
    if not reading.broken and not cut_off and (is_tie or _ABSTAIN.fullmatch(last)):
        even = by_position is not None and len(set(by_position)) == 1
        return _undecided(text, is_tie, bool(reading.found) and not (is_tie and even), len(listing))
    if by_position is None or cut_off:
        return _unreadable(text, BeliefMethod.PARSED)
    return decide(in_question_order(by_position, listing), BeliefMethod.PARSED, text, None)


def _undecided(text: str, is_tie: bool, contradicted: bool, num_options: int) -> Belief:
    if contradicted:
        return _unreadable(text, BeliefMethod.PARSED)
    if not is_tie:
        return Belief(verdict=Verdict.ABSTAIN, method=BeliefMethod.PARSED, raw=text)
    probs = (1.0 / num_options,) * num_options
    return Belief(verdict=Verdict.TIE, method=BeliefMethod.PARSED, probs=probs, raw=text)


def _unreadable(raw: str, method: BeliefMethod) -> Belief:
    return Belief(verdict=Verdict.INVALID, method=method, raw=raw)
