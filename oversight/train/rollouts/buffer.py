"""Rollouts of one collection with all that was made of them, kept while they are learnt from.

A batch is used for several updates; a run that is killed in between resumes
with the very numbers, so nothing here is computed again: `state` gives all of
it as arrays and JSON-plain values, `from_state` the same batch, bit for bit.

Shapes: B rows, R tokens of one row's response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from oversight.errors import DataError
from oversight.train.rollouts.ahead import Collected
from oversight.train.rollouts.ragged import pack, unpack, unpack_all
from oversight.train.rollouts.segments import SegmentRow
from oversight.train.types import PromptExample, TokenRow

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
    """Whose words each row is, "" where there are no roles."""
    version: int
    """Step of the weights that sampled them."""
    row_values: Mapping[str, Array] = field(default_factory=dict)
    """By name one number a row [B], such as an advantage."""
    token_values: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    """By name one array a row [R], such as values, returns or the reference's log-probabilities."""

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
        collected: Collected,
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
            DataError: A row has no reward, or one that is no number.
        """
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
