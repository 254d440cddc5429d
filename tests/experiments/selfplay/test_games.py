"""Games outside a graph are those of the graph: prompts word for word, beliefs to rounding."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from oversight.errors import ConfigError, DataError, ProtocolError
from oversight.experiments.selfplay import methods
from oversight.experiments.selfplay.games import (
    PROTOCOLS,
    debate,
    games,
    one_round,
    questions,
    speaking,
)
from oversight.experiments.selfplay.rewards import (
    BeliefReader,
    JudgedGames,
    beliefs_in_first,
    rows,
    speeches,
)
from oversight.experiments.selfplay.running import check
from oversight.models import SEEDLING, resolve
from oversight.store import Store
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.types import SampledResponse
from oversight.train.types import PromptExample
from oversight.types import Seat


@pytest.fixture(scope="module")
def reader() -> BeliefReader:
    return BeliefReader(SEEDLING)


@pytest.fixture(params=["debate", "consultancy"])
def arena(request):
    return request.param


def test_prompts_and_beliefs_are_those_of_the_graph(circle, reader, arena, tmp_path):
    asked = questions(circle, "held_out", 5)
    store = tmp_path / "debates.db"
    speakers = speaking(circle, SEEDLING)
    debate(circle, store, PROTOCOLS[arena], asked, speakers, SEEDLING, seed=3)
    by_sides = {(g.question.id, g.debate.orders.defends): g for g in games(asked, arena, 3)}
    with Store.open(str(store), create=False) as opened:
        transcripts = list(opened.transcripts())
        assert len(transcripts) == len(by_sides) == 10
        for transcript in transcripts:
            orders = transcript.debate.orders
            game = by_sides[transcript.question.id, orders.defends]
            assert game.debate.orders == orders
            for turn in transcript.spoken():
                [sample] = turn.samples
                assert opened.prompt(sample.prompt_id).prompt == game.prompt(turn.seat)
            prompt = game.judged({turn.seat: turn.text for turn in transcript.spoken()})
            [judgment] = transcript.judgments
            assert opened.prompt(judgment.samples[0].prompt_id).prompt == prompt
            [belief] = reader.beliefs([prompt], [orders.options])
            assert belief.probs == pytest.approx(judgment.final.probs, abs=1e-4)
            assert belief.mass == pytest.approx(judgment.final.mass, abs=1e-4)


def test_values_for_the_chat_template_reach_debaters_judge_and_games_alike(circle, tmp_path):
    from transformers import AutoTokenizer

    shutil.copytree(resolve(SEEDLING), tmp_path / "opening")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "opening")
    tokenizer.chat_template += (
        "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
        "A{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "opening")
    model, args = str(tmp_path / "opening"), {"enable_thinking": False}
    told = {"model": model, "judge": model, "template_args": args, "judge_template_args": args}
    circle = type(circle).parse({**circle.model_dump(), **told})
    asked = questions(circle, "held_out", 2)
    store = tmp_path / "debates.db"
    debate(circle, store, PROTOCOLS["debate"], asked, speaking(circle, model), model, seed=3)
    with Store.open(str(store), create=False) as opened:
        transcript = next(iter(opened.transcripts()))
        [judgment] = transcript.judgments
        prompt = opened.prompt(judgment.samples[0].prompt_id).prompt
    listing = transcript.debate.orders.options
    for given, is_same in ((args, True), (None, False)):
        [belief] = BeliefReader(model, given).beliefs([prompt], [listing])
        assert (belief.probs == pytest.approx(judgment.final.probs, abs=1e-4)) is is_same
    played = games(asked, "debate", 3)
    plain = speeches(SEEDLING, played, 8, 0)
    assert speeches(model, played, 8, 0, args) == plain
    assert speeches(model, played, 8, 0) != plain
    config = methods.grpo_config(circle, model, tmp_path / "x", 0)
    assert config["data"]["template_args"] == args
    check(circle)


def test_two_ways_to_ask_one_model_are_refused(circle):
    with pytest.raises(ConfigError, match="judge and debaters are one model; give both the same"):
        type(circle).parse({**circle.model_dump(), "judge_template_args": {"a": 1}})


def test_each_assignment_of_sides_is_one_game(circle, arena):
    asked = questions(circle, "train", 6)
    found = games(asked, arena, 0)
    assert len(found) == 12
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first.question == second.question
        assert first.side(Seat.A) != second.side(Seat.A)
        assert first.is_honest(Seat.A) != second.is_honest(Seat.A)


def test_a_debate_of_several_rounds_is_no_game():
    with pytest.raises(ProtocolError, match="'debate_sequential' is no game of one round"):
        one_round("debate_sequential")
    with pytest.raises(ProtocolError, match="'naive' is no game"):
        one_round("naive")


def test_beliefs_do_not_depend_on_what_is_asked_beside(circle, reader):
    asked = games(questions(circle, "train", 6), "debate", 0)
    prompts = [g.judged({Seat.A: "A: x.", Seat.B: "B: y."}) for g in asked]
    listings = [g.debate.orders.options for g in asked]
    together = reader.beliefs(prompts, listings)
    alone = [reader.beliefs([p], [k])[0] for p, k in zip(prompts, listings, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.probs == pytest.approx(other.probs, abs=1e-5)
    assert [b.probs for b in reader.beliefs(prompts, listings)] == [b.probs for b in together]


# --- rewards ---


def judged(circle, reader, arena, number=2, opponents=2):
    asked = games(questions(circle, "train", number), arena, 0)
    return JudgedGames(asked, reader, reader._tokenizer, opponents)


def examples_of(source):
    return [
        PromptExample(row["id"], np.array([1]), {"game": row["game"], "seat": row["seat"]})
        for row in rows(source.games)
    ]


def saying(reader, texts):
    return [
        SampledResponse(np.array(reader._tokenizer(text)["input_ids"]), np.zeros(1), True)
        for text in texts
    ]


def test_the_sides_of_a_game_share_the_judges_belief(circle, reader):
    source = judged(circle, reader, "debate", opponents=4)
    examples = examples_of(source)
    said = [saying(reader, [f"{e.id} {i}" for i in range(4)]) for e in examples]
    rewards = source.score(examples, said)
    assert [len(group) for group in rewards] == [4] * 8
    # Against all of the other side's, the two seats' rewards of a game sum to one a pair.
    for first, second in zip(rewards[::2], rewards[1::2], strict=True):
        assert sum(first) + sum(second) == pytest.approx(4.0, abs=1e-5)
    assert 0.0 <= source.metrics["reward/judge_right"] <= 1.0


def test_a_reward_is_the_mean_belief_over_its_bouts(circle, reader):
    source = judged(circle, reader, "debate", number=1, opponents=2)
    examples = examples_of(source)
    texts = [[f"{example.id} says {i}" for i in range(3)] for example in examples]
    rewards = source.score(examples, [saying(reader, each) for each in texts])
    game = source.games[0]
    bouts = [(1, 1), (1, 2)]  # the second of A meets the second and the third of B
    prompts = [game.judged({Seat.A: texts[0][i], Seat.B: texts[1][j]}) for i, j in bouts]
    found = reader.beliefs(prompts, [game.debate.orders.options] * 2)
    expected = sum(belief.probs[game.side(Seat.A)] for belief in found) / 2
    assert rewards[0][1] == pytest.approx(expected, abs=1e-5)


def test_a_consultant_meets_nobody(circle, reader):
    source = judged(circle, reader, "consultancy")
    examples = examples_of(source)
    rewards = source.score(examples, [saying(reader, ["A: x.", "B: y."]) for _ in examples])
    assert [len(group) for group in rewards] == [2] * 4


def test_half_a_game_is_refused(circle, reader):
    source = judged(circle, reader, "debate")
    examples = examples_of(source)[:3]
    with pytest.raises(DataError, match="game 1: a collection holds no response of seat 'b'"):
        source.score(examples, [saying(reader, ["A"]) for _ in examples])


def test_thoughts_that_a_prompt_opened_do_not_reach_the_judge(circle, reader):
    source = judged(circle, reader, "consultancy")
    opened = np.array(reader._tokenizer("<turn>\n<think>\n")["input_ids"])
    examples = examples_of(source)
    thinking = [replace(example, prompt_ids=opened) for example in examples]
    plain = source.score(examples, [saying(reader, ["", "B: y."]) for _ in examples])
    thought = ["I know that A is wrong", "Quote B.</think>B: y."]  # the first one was cut off
    assert source.score(thinking, [saying(reader, thought) for _ in thinking]) == plain


# --- cross-play ---


def test_what_a_policy_says_is_without_a_thought_that_its_prompt_opened(
    circle, reader, monkeypatch
):
    def answers(self, prompts, count, seed):
        return [saying(reader, ["I know that A is wrong.</think>A: x."]) for _ in prompts]

    monkeypatch.setattr(InProcessSampler, "sample", answers)
    monkeypatch.setattr("oversight.chat.prompt_ids.opens_thought", lambda end: True)
    played = games(questions(circle, "held_out", 2), "consultancy", 0)
    said = speeches(SEEDLING, played, 48, 0)
    assert [each for game in said for each in game.values()] == ["A: x."] * 4


def test_crossplay_puts_every_pair_before_the_judge(circle, reader, arena):
    played = games(questions(circle, "held_out", 3), arena, 0)
    said = {"one": speeches(SEEDLING, played, 48, 0), "two": speeches(SEEDLING, played, 48, 1)}
    assert all(
        list(each) == list(game.seats) for each, game in zip(said["one"], played, strict=True)
    )
    assert said["one"] == speeches(SEEDLING, played, 48, 0)
    found = beliefs_in_first(reader, played, said, arena)
    shape = (2, 2, 6) if arena == "debate" else (2, 6)
    assert np.array(found["beliefs"]).shape == shape
    assert found["first_is_honest"] == [game.is_honest(Seat.A) for game in played]
    if arena == "debate":
        text = {Seat.A: said["one"][4][Seat.A], Seat.B: said["two"][4][Seat.B]}
        [belief] = reader.beliefs([played[4].judged(text)], [played[4].debate.orders.options])
        expected = belief.probs[played[4].side(Seat.A)]
        assert found["beliefs"][0][1][4] == pytest.approx(expected, abs=1e-5)


def test_a_judge_is_not_shown_what_a_speaker_thought(circle, arena):
    game = games(questions(circle, "train", 1), arena, 0)[0]
    said = dict.fromkeys(game.seats, "It was on day 3.")
    thought = {seat: f"<think>I know better.</think>\n{text}" for seat, text in said.items()}
    assert game.judged(thought) == game.judged(said)
