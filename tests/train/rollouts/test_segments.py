"""Trees of turns and stored debates as rows: token for token, each worth what it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.errors import DataError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.store import Store
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.buffer import (
    Segment,
    belief_reward,
    from_transcript,
    num_segment_tokens,
    segment_rows,
)
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.types import Purpose, Role, Seat, Transcript, Turn, Usage


def given(ids: list[int], *children: Segment, id: str = "") -> Segment:
    return Segment(np.array(ids), sampled=False, children=children, id=id)


def said(ids: list[int], *children: Segment, **fields: Any) -> Segment:
    return Segment(np.array(ids), sampled=True, children=children, **fields)


def test_each_sampled_segment_is_a_row_whose_prompt_is_all_before_it() -> None:
    second = given([8], said([9, 1], id="a2", reward=0.5, advantage=-1.0, role="a"))
    first = said([4, 1], second, id="a1", reward=1.0, role="a")
    sibling = said([5, 1], id="a1-sibling", reward=0.0, role="a")
    rows = segment_rows([given([2, 3], first, sibling), given([7], said([6], id="alone"))])
    found = {each.row.id: each for each in rows}
    assert list(found) == ["a1", "a2", "a1-sibling", "alone"]
    assert found["a1"].row.prompt_ids.tolist() == [2, 3]
    assert found["a2"].row.prompt_ids.tolist() == [2, 3, 4, 1, 8]
    assert found["a2"].row.response_ids.tolist() == [9, 1]
    assert found["a1-sibling"].row.prompt_ids.tolist() == [2, 3]
    assert found["alone"].row.ids().tolist() == [7, 6]
    assert (found["a2"].reward, found["a2"].advantage, found["a2"].role) == (0.5, -1.0, "a")
    assert found["alone"].reward is None


def test_one_pass_computes_as_many_tokens_as_the_tree_has() -> None:
    turns = [given([20 + i], said([30 + i, 1])) for i in range(3)]
    tree = given(list(range(2, 12)), *(said([15 + i, 40], *turns) for i in range(4)))
    batch = RowBatch.build([each.row for each in segment_rows([tree])])
    assert batch.trie.num_tokens == num_segment_tokens([tree]) == 10 + 4 * (2 + 3 * 3)


def test_a_tree_deeper_than_the_interpreter_recurses_is_walked() -> None:
    segment = said([3])
    for _ in range(3000):
        segment = said([3], segment)
    assert len(segment_rows([given([2], segment)])) == 3001


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (said([3], id="first"), "'first' has no token before it"),
        (given([2], said([], id="empty")), "'empty' holds no token"),
        (
            given([2], said([3, 4], id="short", logprobs=np.zeros(1, dtype=np.float32))),
            "'short' has 1 log-probabilities for 2 tokens",
        ),
        (
            given([2], said([3], id="bad", logprobs=np.array([np.nan], dtype=np.float32))),
            "'bad' has the log-probability nan",
        ),
    ],
)
def test_segments_that_cannot_be_learnt_from_are_refused(tree: Segment, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        segment_rows([tree])


def test_a_sampled_tree_scores_as_it_was_sampled(random_lm: Callable[..., Any]) -> None:
    # Two rounds: three siblings, then two answers to each after words that were given.
    sampler = InProcessSampler(PolicyModel(random_lm()), SamplingSettings(max_new_tokens=6))
    prompt = np.arange(2, 14)

    def spoken(before: Any, number: int, seed: int) -> Iterator[Segment]:
        (group,) = sampler.sample([before], number, seed)
        for each in group:
            yield Segment(each.token_ids, sampled=True, logprobs=each.logprobs)

    reply = np.array([50, 51, 52])
    openings = []
    for opening in spoken(prompt, 3, seed=0):
        before = np.concatenate([prompt, opening.token_ids, reply])
        answers = Segment(reply, sampled=False, children=tuple(spoken(before, 2, seed=1)))
        openings.append(replace(opening, children=(answers,)))
    tree = Segment(prompt, sampled=False, children=tuple(openings))
    rows = [each.row for each in segment_rows([tree])]
    assert len(rows) == 3 + 3 * 2
    assert furthest(sampler.policy, rows, 1.0) <= 1e-5


def furthest(policy: PolicyModel, rows: list[TokenRow], temperature: float) -> float:
    policy.eval()
    with torch.no_grad():
        scores = policy(RowBatch.build(rows), temperature)
    differences = []
    for row, logps in zip(rows, scores.logps_BR.numpy(), strict=True):
        assert row.logprobs is not None
        differences.append(float(np.abs(row.logprobs - logps[: len(row.logprobs)]).max()))
    return max(differences)


TEMPERATURE = 0.9


@pytest.fixture(scope="module")
def debates(
    chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[Transcript, Store]]]:
    """Debates with notes, best-of-N and several rounds, by the tiny model in this process."""
    speech = {"max_tokens": 12, "max_reasoning_tokens": 8, "temperature": TEMPERATURE}
    agents = {
        Role.DEBATER: AgentSettings(agent="debater", engine="model", settings=speech),
        Role.JUDGE: AgentSettings(agent="judge", engine="model", settings={"max_tokens": 12}),
        Role.SCORER: AgentSettings(agent="lexical"),
    }
    settings = {"model": str(chat_model), "num_threads": 1}
    engine = EngineSettings(engine="transformers", settings=settings)
    questions = load_questions(("world", {"split": "held_out", "difficulty": 1}), limit=2).questions
    changes = {"rounds": 2, "choose_by": Role.SCORER}
    protocol = protocols.load("debate_best_of_n").model_copy(update=changes)

    async def run() -> None:
        async with cast(agents, {"model": engine}) as actors:
            planned = list(plan(questions, [protocol], actors.specs))
            progress = await run_debates(planned, Runtime(store, actors), concurrency=2)
        assert (progress.done, progress.failures) == (len(planned), [])

    with Store.open(tmp_path_factory.mktemp("debates") / "debates.db") as store:
        asyncio.run(run())
        yield [(transcript, store) for transcript in store.transcripts()]


def _num_said(turn: Turn) -> int:
    """Calls of a turn, without those whose answer was none and was asked for again."""
    return sum(sample.purpose is not Purpose.UNANSWERED for sample in turn.samples)


def test_a_stored_debate_scores_as_it_was_sampled(
    debates: list[tuple[Transcript, Store]], chat_model: Path
) -> None:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    policy = PolicyModel(AutoModelForCausalLM.from_pretrained(chat_model, dtype="float32"))
    for transcript, store in debates:
        segments = from_transcript(transcript, store.prompt)
        speakers = [turn for turn in transcript.turns if turn.seat is not Seat.JUDGE]
        assert len(segments) == sum(map(_num_said, speakers)) > 8
        rows = [each.row for each in segments]
        assert furthest(policy, rows, TEMPERATURE) < 1e-4
        assert RowBatch.build(rows).trie.num_tokens < sum(row.num_tokens for row in rows) / 2
        assert {each.role for each in segments} == {"debater-a", "debater-b"}


def test_rewards_are_the_beliefs_in_the_speakers_sides(
    debates: list[tuple[Transcript, Store]],
) -> None:
    for transcript, store in debates:
        segments = from_transcript(transcript, store.prompt, purposes=[Purpose.SPEECH])
        turns = [turn for turn in transcript.turns if turn.role is Role.DEBATER]
        assert [each.reward for each in segments] == [turn.score for turn in turns]
        assert any(not turn.chosen for turn in turns)


def test_without_a_chooser_the_final_judgment_is_the_reward(
    debates: list[tuple[Transcript, Store]],
) -> None:
    transcript, _ = debates[0]
    final = transcript.judgments[0].final
    probs = (0.7, 0.3)
    judged = transcript.judgments[0].model_copy(
        update={"final": final.model_copy(update={"probs": probs})}
    )
    plain = replace(transcript, judgments=(judged,))
    for turn in transcript.turns:
        unscored = turn.model_copy(update={"score": None})
        found = belief_reward(plain, unscored, turn.samples[0]) if turn.samples else None
        if turn.seat is Seat.JUDGE or not turn.chosen:
            assert found is None
        elif turn.samples:
            assert found == probs[transcript.debate.orders.defended_by(turn.seat)]


def test_a_sample_without_ids_is_refused(debates: list[tuple[Transcript, Store]]) -> None:
    transcript, store = debates[0]
    turn = next(turn for turn in transcript.turns if turn.role is Role.DEBATER)
    bare = turn.samples[0].model_copy(update={"token_ids": ()})
    stripped = replace(transcript, turns=(turn.model_copy(update={"samples": (bare,)}),))
    with pytest.raises(DataError, match="stored without token ids"):
        from_transcript(stripped, store.prompt)


def test_a_sample_of_a_server_that_only_counts_tokens_is_refused_alike(
    debates: list[tuple[Transcript, Store]],
) -> None:
    transcript, store = debates[0]
    turn = next(turn for turn in transcript.turns if turn.role is Role.DEBATER)
    counted = {"token_ids": (), "usage": Usage(prompt_tokens=1, completion_tokens=5)}
    bare = turn.samples[0].model_copy(update=counted)
    stripped = replace(transcript, turns=(turn.model_copy(update={"samples": (bare,)}),))
    with pytest.raises(DataError, match="stored without token ids"):
        from_transcript(stripped, store.prompt)


def test_rows_of_a_debate_are_at_the_temperature_that_its_speakers_sampled_at(
    debates: list[tuple[Transcript, Store]], chat_model: Path
) -> None:
    """Against the definition, log softmax(logits / T), by transformers' own model."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(chat_model, dtype=torch.float32).eval()
    transcript, store = debates[0]
    for each in from_transcript(transcript, store.prompt)[:4]:
        assert each.temperature == TEMPERATURE
        row = each.row
        assert row.logprobs is not None
        with torch.no_grad():
            logits = model(torch.from_numpy(row.ids())[None]).logits[0]
        logits_RV = logits[len(row.prompt_ids) - 1 : -1]
        chosen = torch.from_numpy(row.response_ids)[:, None]
        own = torch.log_softmax(logits_RV / TEMPERATURE, -1).gather(-1, chosen)[:, 0]
        at_one = torch.log_softmax(logits_RV, -1).gather(-1, chosen)[:, 0]
        assert row.logprobs.tolist() == pytest.approx(own.tolist(), abs=1e-4)
        assert float((at_one - own).abs().max()) > 1e-2


def changed(transcript: Transcript, **update: Any) -> Transcript:
    """The debate with one of its debaters' turns alone, whose only sample is changed."""
    turn = next(turn for turn in transcript.turns if turn.role is Role.DEBATER)
    sample = turn.samples[-1].model_copy(update=update)
    return replace(transcript, turns=(turn.model_copy(update={"samples": (sample,)}),))


BEFORE = {"temperature": None, "top_p": None, "logprobs_temperature": None}
"""Of samples that were stored before these were kept."""


def test_samples_from_before_it_was_kept_are_at_the_temperature_of_their_agents_settings(
    debates: list[tuple[Transcript, Store]],
) -> None:
    transcript, store = debates[0]
    (found,) = from_transcript(changed(transcript, **BEFORE), store.prompt)
    assert found.temperature == TEMPERATURE
    assert found.row.logprobs is not None


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"temperature": 0.0}, r"drawn greedily.*agents\.debater\.settings\.temperature above 0"),
        ({"top_p": 0.9}, r"top_p = 0\.9.*agents\.debater\.settings\.top_p = 1"),
        ({"logprobs_temperature": 1.0}, r"at temperature 0\.9 and has log-probabilities at 1,.*"),
        ({"logprobs_temperature": None}, r"nobody knows at which.*set logprobs_mode"),
    ],
)
def test_samples_of_another_distribution_than_is_scored_are_refused(
    debates: list[tuple[Transcript, Store]], update: dict[str, Any], message: str
) -> None:
    transcript, store = debates[0]
    with pytest.raises(DataError, match=message):
        from_transcript(changed(transcript, **update), store.prompt)


def test_beliefs_drawn_among_choices_are_refused(debates: list[tuple[Transcript, Store]]) -> None:
    transcript, store = debates[0]
    with pytest.raises(DataError, match="among enforced choices; leave out the purpose 'belief'"):
        from_transcript(transcript, store.prompt, roles=[Role.JUDGE], purposes=[Purpose.BELIEF])


def test_log_probabilities_before_temperature_can_be_left_out(
    debates: list[tuple[Transcript, Store]],
) -> None:
    transcript, store = debates[0]
    raw = changed(transcript, logprobs_temperature=1.0)
    (found,) = from_transcript(raw, store.prompt, with_logprobs=False)
    assert (found.temperature, found.row.logprobs) == (TEMPERATURE, None)
