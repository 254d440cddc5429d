"""Rollouts of one collection with all that was made of them, kept while they are learnt from.

A batch is used for several updates; a run that is killed in between resumes
with the very numbers, so nothing here is computed again: `state` gives all of
it as arrays and JSON-plain values, `from_state` the same batch, bit for bit.

Shapes: B rows, R tokens of one row's response.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from oversight.errors import DataError
from oversight.modeling import Floats, Ids, TokenRow
from oversight.train.rollouts.types import CollectedBatch, pack, unpack, unpack_all
from oversight.train.types import PromptExample
from oversight.types import (
    BeliefMethod,
    EngineSpec,
    FinishReason,
    PromptRecord,
    Purpose,
    Role,
    Sample,
    Sampling,
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
    """Of a sampled segment: the sampler's own, one a token, at the temperature sampled at."""
    reward: float | None = None
    advantage: float | None = None
    role: str = ""
    """Role of the speaker, for baselines of each role."""
    id: str = ""
    """Source of the example, for messages."""
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
    temperature: float | None = None
    """Temperature that it was sampled at, which it has to be scored at; None if that is the
    caller's to know."""


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
"""Reward of a sample of a turn; None where that is not known."""


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


class PromptReader(Protocol):
    """Gives a stored prompt by its id, as read by a model to which it has `num_tokens`."""

    def __call__(self, prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        """The prompt with its ids."""
        ...


def from_transcript(
    transcript: Transcript,
    prompt_of: PromptReader,
    reward_of: RewardOf = belief_reward,
    roles: Collection[Role] = (Role.DEBATER, Role.CONSULTANT),
    purposes: Collection[Purpose] = (Purpose.SPEECH, Purpose.REASONING),
    with_logprobs: bool = True,
) -> list[SegmentRow]:
    """Rows of a stored debate's own samples, token for token as they were drawn.

    Each row has the temperature that it was drawn at, and its log-probabilities are of
    softmax(logits / temperature): score rows at that temperature and no other. What was drawn
    from another distribution (greedily, with top-p below 1, among enforced choices as a judge's
    beliefs are) is refused: leave those roles and purposes out.

    Args:
        transcript: From the store, siblings included.
        prompt_of: The store's `prompt`.
        reward_of: Gives the reward of each sample.
        roles: Whose turns are taken.
        purposes: Which of a turn's samples are taken.
        with_logprobs: Keep the sampler's log-probabilities; False for those that are at another
            temperature than the samples, as servers give them that leave it out.

    Raises:
        DataError: A sample or its prompt has no token ids: its engine gave none; or it, or its
            log-probabilities, are not of softmax(logits / temperature).
    """
    return [
        _sample_row(transcript, turn, number, sample, prompt_of, reward_of, with_logprobs)
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
    prompt_of: PromptReader,
    reward_of: RewardOf,
    with_logprobs: bool,
) -> SegmentRow:
    id = f"{turn.id}#{number}"
    num_tokens = sample.usage.prompt_tokens or None if sample.token_ids else 0
    prompt_ids = prompt_of(sample.prompt_id, num_tokens=num_tokens).token_ids
    if not prompt_ids or not sample.token_ids:
        raise DataError(
            f"sample {id!r} of engine {sample.engine!r} was stored without token ids, so it cannot "
            "be trained on token by token; run the debate on an engine that gives them"
        )
    drawn = _Drawn.of(transcript, turn, sample)
    drawn.check(id, with_logprobs)
    given = sample.logprobs if with_logprobs else None
    logprobs = None if given is None else np.array(given, dtype=np.float32)
    row = _row(np.array(prompt_ids), np.array(sample.token_ids), logprobs, id)
    reward = reward_of(transcript, turn, sample)
    finished = sample.finish_reason is FinishReason.STOP
    role = f"{turn.role}-{turn.seat}"
    return SegmentRow(row, reward, role=role, finished=finished, temperature=drawn.temperature)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The distribution that a sample was drawn from, and that of its log-probabilities."""

    role: Role
    temperature: float | None
    top_p: float
    among_choices: bool
    logprobs_temperature: float | None
    has_logprobs: bool

    @classmethod
    def of(cls, transcript: Transcript, turn: Turn, sample: Sample) -> Self:
        """As the sample says; of one that was stored before it was kept, as its agent's settings
        and its engine's say."""
        spec = transcript.debate.agents.get(turn.role)
        temperature, top_p, told = sample.temperature, sample.top_p, sample.logprobs_temperature
        if temperature is None and spec is not None:
            number = spec.settings.get("temperature")
            temperature = float(number) if isinstance(number, int | float) else None
            number = spec.settings.get("top_p", 1.0)
            top_p = float(number) if isinstance(number, int | float) else None
            if temperature is not None:
                sampling = Sampling(temperature=temperature, top_p=1.0 if top_p is None else top_p)
                told = sampling.temperature_of_logprobs(_is_tempered(spec.engine))
        reads = turn.belief is not None and turn.belief.method is BeliefMethod.LOGPROBS
        return cls(
            role=turn.role,
            temperature=temperature,
            top_p=1.0 if top_p is None else top_p,
            among_choices=reads and sample.purpose is Purpose.BELIEF,
            logprobs_temperature=told,
            has_logprobs=sample.logprobs is not None,
        )

    def check(self, id: str, with_logprobs: bool) -> None:
        """Refuse what no trainer could score.

        Raises:
            DataError: It, or its log-probabilities, are not of softmax(logits / temperature).
        """
        settings = f"agents.{self.role.value}.settings"
        if self.among_choices:
            why = "drawn among enforced choices; leave out the purpose 'belief'"
        elif self.temperature is None:
            why = "stored without the temperature that it was drawn at; run the debate anew"
        elif self.temperature == 0.0:
            why = (
                "drawn greedily, which is no sample of a distribution; run the debate with "
                f"{settings}.temperature above 0"
            )
        elif self.top_p < 1.0:
            why = (
                f"drawn with top_p = {self.top_p:g}, and trainers score the whole distribution; "
                f"run the debate with {settings}.top_p = 1"
            )
        elif not with_logprobs or not self.has_logprobs:
            return
        elif self.logprobs_temperature is None:
            why = (
                f"drawn at temperature {self.temperature:g}, and nobody knows at which its "
                "log-probabilities are; set logprobs_mode in the settings of the 'openai' engine "
                "to what its server runs with, or leave them out with with_logprobs=False"
            )
        elif self.logprobs_temperature != self.temperature:
            why = (
                f"drawn at temperature {self.temperature:g} and has log-probabilities at "
                f"{self.logprobs_temperature:g}, which cannot be converted; run the debate with "
                "logprobs_mode = 'processed_logprobs' in the engine's settings, or leave them out "
                "with with_logprobs=False"
            )
        else:
            return
        raise DataError(f"sample {id!r} was {why}")


def _is_tempered(engine: EngineSpec | None) -> bool | None:
    """True if an engine's log-probabilities are after temperature; None if nobody knows."""
    if engine is None or engine.engine not in ("transformers", "vllm", "scripted"):
        return None
    return engine.settings.get("logprobs_mode", "processed_logprobs") == "processed_logprobs"


Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class RolloutBatch:
    """Rows, what each is worth, and what else was computed of them once."""

    rows: tuple[TokenRow, ...]
    rewards_B: npt.NDArray[np.float64]
    groups_B: npt.NDArray[np.int64]
    """Rows of one number answer one prompt."""
    finished_B: npt.NDArray[np.bool_]
    """Ended by EOS and not cut off."""
    roles: tuple[str, ...]
    """Role of the speaker of each row, "" where there are no roles."""
    version: int
    """Step of the weights that sampled them."""
    row_values: Mapping[str, Array] = field(default_factory=dict)
    """By name one number a row [B], such as an advantage."""
    token_values: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    """By name one array a row [R], such as values, returns or the reference's log-probabilities."""
    temperature: float | None = None
    """Temperature that rows of stored debates were sampled at, which they are scored at; None of
    rollouts that the trainer samples itself, at its own."""

    def __post_init__(self) -> None:
        size = len(self.rows)
        per_row: dict[str, Any] = {
            "rewards": self.rewards_B,
            "groups": self.groups_B,
            "finished": self.finished_B,
            "roles": self.roles,
            **self.row_values,
            **self.token_values,
        }
        for name, values in per_row.items():
            if len(values) != size:
                raise DataError(f"{name} has {len(values)} entries for {size} rows")
        for name, arrays in self.token_values.items():
            for row, array in zip(self.rows, arrays, strict=True):
                if len(array) != len(row.response_ids):
                    raise DataError(
                        f"row {row.id!r}: {name} has {len(array)} entries for "
                        f"{len(row.response_ids)} response tokens"
                    )

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def collect(
        cls,
        examples: Sequence[PromptExample],
        collected: CollectedBatch,
        rewards: Sequence[Sequence[float]],
    ) -> Self:
        """The batch of a collection: one group a prompt, rows named after their example."""
        rows = [
            each.row(prompt_ids, id=f"{example.id}#{i}")
            for example, prompt_ids, group in zip(
                examples, collected.prompts, collected.sampled, strict=True
            )
            for i, each in enumerate(group)
        ]
        sizes = [len(group) for group in collected.sampled]
        finished = [each.finished for group in collected.sampled for each in group]
        return cls(
            rows=tuple(rows),
            rewards_B=np.array([each for group in rewards for each in group], dtype=np.float64),
            groups_B=np.repeat(np.arange(len(sizes)), sizes),
            finished_B=np.array(finished, dtype=np.bool_),
            roles=("",) * len(rows),
            version=collected.version,
        )

    @classmethod
    def of_segments(cls, segments: Sequence[SegmentRow], version: int) -> Self:
        """The batch of a tree's or a debate's rows; those with one prompt are one group.

        Raises:
            DataError: A row has no reward, or one that is no number; or rows were sampled at
                different temperatures.
        """
        temperatures = {each.temperature: each.row.id for each in segments}
        if len(temperatures) > 1:
            found = ", ".join(f"{id!r} at {at}" for at, id in temperatures.items())
            raise DataError(
                f"rows were sampled at different temperatures ({found}), and a batch is scored at "
                "one: make a batch of each, or run the debates with one temperature for all roles"
            )
        for each in segments:
            if each.reward is None or not np.isfinite(each.reward):
                raise DataError(f"row {each.row.id!r}: its reward is {each.reward!r}")
        numbers: dict[bytes, int] = {}
        keys = [each.row.prompt_ids.tobytes() for each in segments]
        groups = [numbers.setdefault(key, len(numbers)) for key in keys]
        advantages = [each.advantage for each in segments]
        known = [each for each in advantages if each is not None]
        if known and len(known) < len(advantages):
            raise DataError(f"{len(known)} of {len(advantages)} segments have an advantage")
        return cls(
            rows=tuple(each.row for each in segments),
            rewards_B=np.array([each.reward for each in segments], dtype=np.float64),
            groups_B=np.array(groups, dtype=np.int64),
            finished_B=np.array([each.finished for each in segments], dtype=np.bool_),
            roles=tuple(each.role for each in segments),
            version=version,
            temperature=next(iter(temperatures), None),
            row_values={"advantages": np.array(known)} if known else {},
        )

    def with_row_values(self, **values: Array) -> Self:
        """The batch with more (or other) numbers a row."""
        return replace(self, row_values={**self.row_values, **values})

    def with_token_values(self, **values: Sequence[Array]) -> Self:
        """The batch with more (or other) arrays a row."""
        arrays = {name: tuple(each) for name, each in values.items()}
        return replace(self, token_values={**self.token_values, **arrays})

    def select(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Self:
        """The batch of these rows, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            rows=tuple(self.rows[i] for i in chosen),
            rewards_B=self.rewards_B[chosen],
            groups_B=self.groups_B[chosen],
            finished_B=self.finished_B[chosen],
            roles=tuple(self.roles[i] for i in chosen),
            row_values={name: each[chosen] for name, each in self.row_values.items()},
            token_values={
                name: tuple(each[i] for i in chosen) for name, each in self.token_values.items()
            },
        )

    def state(self) -> dict[str, Any]:
        """All of it as a nested dict of arrays and JSON-plain values."""
        return {
            "rows": rows_state(self.rows),
            "rewards": self.rewards_B,
            "groups": self.groups_B,
            "finished": self.finished_B,
            "roles": list(self.roles),
            "version": self.version,
            **({} if self.temperature is None else {"temperature": self.temperature}),
            "row_values": dict(self.row_values),
            "token_values": {
                name: pack(each, each[0].dtype if each else np.float32)
                for name, each in self.token_values.items()
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The batch that `state` was taken of."""
        return cls(
            rows=rows_from_state(state["rows"]),
            rewards_B=state["rewards"],
            groups_B=state["groups"],
            finished_B=state["finished"],
            roles=tuple(state["roles"]),
            version=state["version"],
            temperature=state.get("temperature"),
            row_values=dict(state["row_values"]),
            token_values={
                name: tuple(unpack_all(packed)) for name, packed in state["token_values"].items()
            },
        )


def rows_state(rows: Sequence[TokenRow]) -> dict[str, Any]:
    """Token rows as arrays and their names."""
    return {
        "prompt_ids": pack([row.prompt_ids for row in rows], np.int64),
        "response_ids": pack([row.response_ids for row in rows], np.int64),
        "mask": pack([row.mask for row in rows], np.bool_),
        "logprobs": pack([row.logprobs for row in rows], np.float32),
        "ids": [row.id for row in rows],
    }


def rows_from_state(state: Mapping[str, Any]) -> tuple[TokenRow, ...]:
    """The rows that `rows_state` was given."""
    columns = (
        unpack_all(state["prompt_ids"]),
        unpack_all(state["response_ids"]),
        unpack(state["mask"]),
        unpack(state["logprobs"]),
        state["ids"],
    )
    return tuple(TokenRow(*fields) for fields in zip(*columns, strict=True))
