"""A batch of rollouts comes back from its state bit for bit, and fits together."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oversight.errors import DataError
from oversight.modeling import TokenRow
from oversight.train.rollouts.buffer import RolloutBatch, Segment, segment_rows
from oversight.train.rollouts.types import CollectedBatch, SampledResponse
from oversight.train.types import PromptExample


def sampled(*ids: int, finished: bool = True) -> SampledResponse:
    logprobs = -np.arange(1, len(ids) + 1, dtype=np.float32) / 3
    return SampledResponse(np.array(ids), logprobs, finished)


def batch() -> RolloutBatch:
    examples = [PromptExample("p", np.array([2, 3])), PromptExample("q", np.array([4]))]
    collected = CollectedBatch(
        tuple(each.prompt_ids for each in examples),
        ((sampled(5, 6, 1), sampled(7, finished=False)), (sampled(8, 1), sampled(9, 9, 9, 1))),
        version=12,
    )
    made = RolloutBatch.collect(examples, collected, [[0.1, -2.0], [1 / 3, 4e-300]])
    made = made.with_row_values(advantages=np.array([1.0, -1.0, 0.5, 0.25], dtype=np.float32))
    sizes = [len(row.response_ids) for row in made.rows]
    values = [np.linspace(0, 1, size, dtype=np.float64) / 7 for size in sizes]
    return made.with_token_values(values=values)


def test_a_collection_becomes_named_rows_in_groups() -> None:
    made = batch()
    assert [row.id for row in made.rows] == ["p#0", "p#1", "q#0", "q#1"]
    assert made.groups_B.tolist() == [0, 0, 1, 1]
    assert made.finished_B.tolist() == [True, False, True, True]
    assert made.rewards_B.tolist() == [0.1, -2.0, 1 / 3, 4e-300]
    assert made.rows[1].prompt_ids.tolist() == [2, 3]
    assert (len(made), made.version) == (4, 12)


def through_files(state: Any, place: str = "") -> Any:
    """As a checkpoint does it: arrays by their bytes, all else as JSON."""
    if isinstance(state, dict):
        return {name: through_files(each, f"{place}.{name}") for name, each in state.items()}
    if isinstance(state, np.ndarray):
        return np.frombuffer(state.tobytes(), dtype=state.dtype).reshape(state.shape)
    return json.loads(json.dumps(state))


def test_a_state_comes_back_bit_for_bit() -> None:
    made = batch()
    masked = TokenRow(np.array([1]), np.array([2, 3]), mask=np.array([True, False]), id="masked")
    made = RolloutBatch(
        rows=(*made.rows, masked),
        rewards_B=np.append(made.rewards_B, np.nextafter(1.0, 2.0)),
        groups_B=np.append(made.groups_B, 2),
        finished_B=np.append(made.finished_B, True),
        roles=("a", "b", "a", "b", ""),
        version=12,
        row_values={"advantages": np.append(made.row_values["advantages"], np.float32(3))},
        token_values={"values": (*made.token_values["values"], np.array([0.1, 0.2]))},
    )
    again = RolloutBatch.from_state(through_files(made.state()))
    for row, other in zip(made.rows, again.rows, strict=True):
        assert row.id == other.id
        for name in ("prompt_ids", "response_ids", "mask", "logprobs"):
            one, two = getattr(row, name), getattr(other, name)
            assert (one is None) == (two is None)
            assert one is None or (one.dtype == two.dtype and one.tobytes() == two.tobytes())
    for name in ("rewards_B", "groups_B", "finished_B"):
        assert getattr(made, name).tobytes() == getattr(again, name).tobytes()
    assert (again.roles, again.version) == (made.roles, made.version)
    assert again.row_values["advantages"].dtype == np.float32
    assert again.row_values["advantages"].tolist() == made.row_values["advantages"].tolist()
    for one, two in zip(made.token_values["values"], again.token_values["values"], strict=True):
        assert one.tobytes() == two.tobytes()


def test_a_selection_keeps_what_belongs_together() -> None:
    chosen = batch().select([3, 0])
    assert [row.id for row in chosen.rows] == ["q#1", "p#0"]
    assert chosen.rewards_B.tolist() == [4e-300, 0.1]
    assert chosen.row_values["advantages"].tolist() == [0.25, 1.0]
    assert [len(each) for each in chosen.token_values["values"]] == [4, 3]


def test_what_does_not_fit_the_rows_is_refused() -> None:
    with pytest.raises(DataError, match="advantages has 3 entries for 4 rows"):
        batch().with_row_values(advantages=np.zeros(3))
    with pytest.raises(DataError, match="row 'p#0': values has 2 entries for 3 response tokens"):
        batch().with_token_values(values=[np.zeros(2)] * 4)


def test_segments_become_rows_whose_siblings_are_one_group() -> None:
    def said(token: int, reward: float | None, *children: Segment) -> Segment:
        return Segment(
            np.array([token]), sampled=True, reward=reward, role="a", children=children, id="s"
        )

    follow_up = Segment(np.array([8]), sampled=False, children=(said(9, 0.5),))
    tree = Segment(np.array([2]), sampled=False, children=(said(3, 1.0, follow_up), said(4, 0.0)))
    made = RolloutBatch.of_segments(segment_rows([tree]), version=3)
    assert made.rewards_B.tolist() == [1.0, 0.5, 0.0]
    assert made.groups_B.tolist() == [0, 1, 0]
    assert (made.roles, made.version, dict(made.row_values)) == (("a", "a", "a"), 3, {})
    unscored = Segment(np.array([2]), sampled=False, children=(said(3, None),))
    with pytest.raises(DataError, match="row 's': its reward is None"):
        RolloutBatch.of_segments(segment_rows([unscored]), version=3)


def test_rows_of_two_temperatures_are_no_batch() -> None:
    tree = Segment(np.array([2]), sampled=False, children=(said_alone(3), said_alone(4)))
    cold, hot = segment_rows([tree])
    rows = [replace(cold, temperature=0.7), replace(hot, temperature=1.0)]
    with pytest.raises(DataError, match=r"'s3' at 0\.7, 's4' at 1\.0.*make a batch of each"):
        RolloutBatch.of_segments(rows, version=0)


def said_alone(token: int) -> Segment:
    return Segment(np.array([token]), sampled=True, reward=1.0, id=f"s{token}")


def test_the_temperature_of_a_batch_is_kept_with_it() -> None:
    tree = Segment(np.array([2]), sampled=False, children=(said_alone(3),))
    rows = [replace(each, temperature=0.7) for each in segment_rows([tree])]
    made = RolloutBatch.of_segments(rows, version=0)
    assert made.temperature == made.select([0]).temperature == 0.7
    assert RolloutBatch.from_state(made.state()).temperature == 0.7
    assert RolloutBatch.from_state(batch().state()).temperature is None
