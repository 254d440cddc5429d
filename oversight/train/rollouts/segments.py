"""Multi-turn rollouts: a tree of token segments, and the rows that one pass over its trie trains.

What a policy said and what it was told are segments, each the continuation of
its parent; best-of-N siblings, or the branches of a search, are children of one
parent. Every sampled segment becomes one row, whose prompt is all that stands
before it: rows share in the trie what they share in the tree, so a whole debate
costs as many tokens as it has. Nothing is rendered again from text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from oversight.errors import DataError
from oversight.train.types import Floats, Ids, TokenRow
from oversight.types import (
    FinishReason,
    PromptRecord,
    Purpose,
    Role,
    Sample,
    Seat,
    Transcript,
    Turn,
)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Tokens without a branch, and what continues them."""

    token_ids: Ids
    sampled: bool
    """By the policy that is trained; otherwise given to it."""
    logprobs: Floats | None = None
    """Of a sampled segment: the sampler's own, one a token."""
    reward: float | None = None
    advantage: float | None = None
    role: str = ""
    """Whose words they are, for baselines of each role."""
    id: str = ""
    """Where it comes from, for messages."""
    children: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRow:
    """A sampled segment as a row to be scored, with what it is worth."""

    row: TokenRow
    reward: float | None = None
    advantage: float | None = None
    role: str = ""
    finished: bool = True
    """False where the sampler cut it off."""


def segment_rows(roots: Sequence[Segment]) -> list[SegmentRow]:
    """One row for each sampled segment of the trees, parents before children.

    Raises:
        DataError: A sampled segment is empty, has nothing before it, or its
            log-probabilities do not fit its tokens.
    """
    return [_segment_row(path, segment) for path, segment in _walk(roots)]


def num_segment_tokens(roots: Sequence[Segment]) -> int:
    """Tokens of the trees: what one pass computes, if no two siblings begin alike."""
    count, stack = 0, list(roots)
    while stack:
        segment = stack.pop()
        count += len(segment.token_ids)
        stack += segment.children
    return count


def _walk(roots: Sequence[Segment]) -> Iterator[tuple[tuple[Ids, ...], Segment]]:
    """Each sampled segment, with the ids of all segments above it."""
    stack: list[tuple[tuple[Ids, ...], Segment]] = [((), root) for root in reversed(roots)]
    while stack:
        path, segment = stack.pop()
        if segment.sampled:
            yield path, segment
        below = (*path, segment.token_ids)
        stack += [(below, child) for child in reversed(segment.children)]


def _segment_row(path: tuple[Ids, ...], segment: Segment) -> SegmentRow:
    prompt_ids = np.concatenate([np.empty(0, dtype=np.int64), *path])
    row = _row(prompt_ids, segment.token_ids, segment.logprobs, segment.id)
    return SegmentRow(row, segment.reward, segment.advantage, segment.role)


def _row(prompt_ids: Ids, token_ids: Ids, logprobs: Floats | None, id: str) -> TokenRow:
    problem = ""
    if not len(token_ids):
        problem = "holds no token"
    elif not len(prompt_ids):
        problem = "has no token before it, and the first token of a sequence is predicted by none"
    elif logprobs is not None and len(logprobs) != len(token_ids):
        problem = f"has {len(logprobs)} log-probabilities for {len(token_ids)} tokens"
    elif logprobs is not None and not np.isfinite(logprobs).all():
        problem = f"has the log-probability {logprobs[~np.isfinite(logprobs)][0]}"
    if problem:
        raise DataError(f"sampled segment {id!r} {problem}")
    return TokenRow(prompt_ids, token_ids, logprobs=logprobs, id=id)


RewardOf = Callable[[Transcript, Turn, Sample], float | None]
"""What a sample of a turn is worth; None where that is not known."""


def belief_reward(transcript: Transcript, turn: Turn, sample: Sample) -> float | None:
    """The judge's belief in the speaker's side: a number from 0 to 1, or None.

    Of best-of-N candidates the chooser's own belief after each, so that
    siblings are compared by one measure; of other turns the mean of the final
    judgments, unreadable ones left out.
    """
    if turn.seat is Seat.JUDGE:
        return None
    if turn.score is not None:
        return turn.score
    side = transcript.debate.orders.defended_by(turn.seat)
    beliefs = [j.final.probs[side] for j in transcript.judgments if j.final.probs is not None]
    return float(np.mean(beliefs)) if beliefs and turn.chosen else None


class PromptOf(Protocol):
    """Gives a stored prompt by its id, as read by a model to which it has `num_tokens`."""

    def __call__(self, prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        """The prompt with its ids."""
        ...


def from_transcript(
    transcript: Transcript,
    prompt_of: PromptOf,
    reward_of: RewardOf = belief_reward,
    roles: Collection[Role] = (Role.DEBATER, Role.CONSULTANT),
    purposes: Collection[Purpose] = (Purpose.SPEECH, Purpose.REASONING),
) -> list[SegmentRow]:
    """Rows of a stored debate's own samples, token for token as they were drawn.

    Samples that were drawn with top-p below 1, or among enforced choices (as a
    judge's beliefs are), have log-probabilities of another distribution than
    the policy's: leave those roles and purposes out.

    Args:
        transcript: From the store, siblings included.
        prompt_of: The store's `prompt`.
        reward_of: What each sample is worth.
        roles: Whose turns are taken.
        purposes: Which of a turn's samples are taken.

    Raises:
        DataError: A sample or its prompt has no token ids: its engine gave none.
    """
    return [
        _sample_row(transcript, turn, number, sample, prompt_of, reward_of)
        for turn in transcript.turns
        if turn.role in roles
        for number, sample in enumerate(turn.samples)
        if sample.purpose in purposes
    ]


def _sample_row(
    transcript: Transcript,
    turn: Turn,
    number: int,
    sample: Sample,
    prompt_of: PromptOf,
    reward_of: RewardOf,
) -> SegmentRow:
    id = f"{turn.id}#{number}"
    num_tokens = sample.usage.prompt_tokens or None if sample.token_ids else 0
    prompt_ids = prompt_of(sample.prompt_id, num_tokens=num_tokens).token_ids
    if not prompt_ids or not sample.token_ids:
        raise DataError(
            f"sample {id!r} of engine {sample.engine!r} was stored without token ids, so it cannot "
            "be trained on token by token; run the debate on an engine that gives them"
        )
    logprobs = None if sample.logprobs is None else np.array(sample.logprobs, dtype=np.float32)
    row = _row(np.array(prompt_ids), np.array(sample.token_ids), logprobs, id)
    reward = reward_of(transcript, turn, sample)
    finished = sample.finish_reason is FinishReason.STOP
    return SegmentRow(row, reward, role=f"{turn.role}-{turn.seat}", finished=finished)
