"""From a turn to a response: the words, and the tokens that were sampled for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from oversight.preferences.dropped import Reason
from oversight.text.thoughts import divide
from oversight.types import FinishReason, PromptRecord, Purpose, Response, Sample, Turn


class PromptOf(Protocol):
    """Gives the stored prompt of an id, as `Store.prompt` does."""

    def __call__(self, prompt_id: str, /, *, num_tokens: int | None = None) -> PromptRecord:
        """The prompt, in the token ids of which there are `num_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Context that a sample answered: a prompt, as some model's tokens.

    One prompt read by two vocabularies is two sequences of ids; responses to
    them are not compared, as a row holds one.
    """

    prompt_id: str
    num_tokens: int | None
    """None where the engine did not count, 0 where it gave no token ids."""

    def read(self, prompt_of: PromptOf) -> PromptRecord:
        """The stored prompt."""
        return prompt_of(self.prompt_id, num_tokens=self.num_tokens)


def asked(sample: Sample) -> Asked:
    """The context that `sample` answered."""
    if not sample.token_ids:
        return Asked(sample.prompt_id, 0)
    return Asked(sample.prompt_id, sample.usage.prompt_tokens or None)


def speech(turn: Turn) -> Sample | None:
    """The one sample that holds the turn's speech, or None if there are none or several."""
    found = [sample for sample in turn.samples if sample.purpose is Purpose.SPEECH]
    return found[0] if len(found) == 1 else None


def num_speech_samples(turn: Turn) -> int:
    """Number of samples that the turn's speech was made of."""
    return sum(sample.purpose is Purpose.SPEECH for sample in turn.samples)


def response(turn: Turn) -> Response:
    """The answer: the sampled text, tokens and log-probabilities, or the spoken words.

    Where an engine sampled the speech, the text is the sample's own, white
    space included, without the thoughts in it: those are private. The token ids
    are all that was sampled, thoughts included, as that is what the model did
    with the prompt; a model that learnt the words alone would unlearn to think.
    Without ids the row is its text, for whoever trains to encode.
    """
    sample = speech(turn)
    if sample is None:
        return Response(text=turn.text, turn_id=turn.id, score=turn.score)
    has_ids = bool(sample.token_ids)
    return Response(
        text=divide(sample.text, sample.opened).text,
        token_ids=sample.token_ids if has_ids else None,
        logprobs=sample.logprobs if has_ids else None,
        turn_id=turn.id,
        score=turn.score,
    )


def flaw(turn: Turn) -> Reason | None:
    """Why the turn cannot be a response, or None if it can."""
    if num_speech_samples(turn) > 1:
        return Reason.SEVERAL_SAMPLES
    sample = speech(turn)
    if sample is not None and sample.finish_reason is FinishReason.CANCELLED:
        return Reason.CANCELLED
    return None if response(turn).text.strip() else Reason.EMPTY
