"""A reward model reads a speech as the judge does: quotes looked up, no source, no opponent."""

from __future__ import annotations

import numpy as np
import pytest

from oversight.experiments.selfplay import methods
from oversight.experiments.selfplay.games import (
    BEST_OF_N,
    PROTOCOLS,
    debate,
    games,
    questions,
    speaking,
)
from oversight.experiments.selfplay.rewards import SpeechesAlone, comparisons, rows
from oversight.models import SEEDLING
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from oversight.train.experience_settings import RewardSettings
from oversight.train.loading import read_config
from oversight.train.rollouts.reward_models import RewardModels
from oversight.train.rollouts.types import SampledResponse
from oversight.train.settings import ModelSettings
from oversight.train.types import PromptExample
from oversight.types import Seat


@pytest.fixture(scope="module")
def tokenizer():
    return read_config(ModelSettings(path=SEEDLING), ())[1].tokenizer


@pytest.fixture(params=["debate", "consultancy"])
def arena(request):
    return request.param


@pytest.fixture
def candidates(circle, arena, tmp_path):
    store = tmp_path / "candidates.db"
    speakers = speaking(circle, circle.model)
    asked = questions(circle, "train", 8)
    debate(circle, store, BEST_OF_N[arena], asked, speakers, circle.judge, seed=0)
    return store


def test_rows_are_what_the_judge_reads_of_either_speech(candidates, arena, tokenizer):
    settings = PreferenceSettings.parse({"kinds": ["siblings"], "siblings": "best_worst"})
    num_marked = 0
    with Store.open(str(candidates), create=False) as store:
        found = list(comparisons(store, BEST_OF_N[arena], PROTOCOLS[arena], settings, tokenizer))
        transcripts = list(store.transcripts())
    assert found
    sources = {t.question.id: t.question.source.text for t in transcripts}
    for row in found:
        source = sources[row["question_id"]]
        for name in ("chosen_ids", "rejected_ids"):
            read = tokenizer.decode([*row["prompt_ids"], *row[name]])
            assert source not in read
            assert read.count("</turn>") == 1
            for quote in read.split("<verified_quote>")[2:]:  # the rules name the tag once
                num_marked += 1
                assert quote.split("</verified_quote>")[0] in source
    assert num_marked


def test_it_learns_what_the_judge_believes_and_rewards_it(circle, candidates, arena, tokenizer):
    circle = circle.model_copy(update={"reward": {"steps": 60}})
    out = candidates.parent / "reward"
    num_rows = methods.train_reward(circle, circle.model, candidates, arena, out, 0)
    assert num_rows > 20
    settings = RewardSettings.parse({"models": [str(out / "model")]})
    models = RewardModels.load(settings, tokenizer, "cpu")

    asked = [q for q in questions(circle, "train", 30) if q.source][10:]
    played = games(asked, arena, 0)
    given = rows(played)
    examples = [
        PromptExample(row["id"], np.array([1]), fields={k: row[k] for k in ("game", "seat")})
        for row in given
    ]

    def scores(words):
        sampled = [
            [
                SampledResponse(
                    np.array(tokenizer.encode(words(played[row["game"]], Seat(row["seat"])))),
                    np.zeros(1),
                    True,
                )
            ]
            for row in given
        ]
        return np.array(SpeechesAlone(played, models, tokenizer).score(examples, sampled))

    def claim(game, seat):
        option = game.question.options[game.side(seat)].text
        label = "AB"[game.debate.orders.options.index(game.side(seat))]
        return f"{label}: {option}.", option

    def bare(game, seat):
        return claim(game, seat)[0]

    def proved(game, seat):
        words, option = claim(game, seat)
        lines = game.question.source.text.splitlines()
        subject = _subject(game)
        line = next((x for x in lines if option in x and subject in x), lines[0])
        return f"{words} <quote>{line.removesuffix('.')}</quote>"

    def invented(game, seat):
        words, option = claim(game, seat)
        return f"{words} <quote>Everybody knew of {option} on the day</quote>"

    assert (scores(proved) > scores(bare)).mean() > 0.9
    assert (scores(proved) > scores(invented)).mean() > 0.9


def _subject(game):
    """The thing that the question is about: the longest run of its words in the source."""
    words = game.question.text.rstrip("?").split()
    runs = [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    return max((r for r in runs if r in game.question.source.text), key=len)


def test_a_thought_that_a_prompt_opened_and_nothing_closed_is_not_read(circle, arena, tokenizer):
    heard = []

    class Models:
        def score_rows(self, rows):
            heard.append([tokenizer.decode(row.ids().tolist()) for row in rows])
            return [0.0] * len(rows)

    played = games(questions(circle, "train", 2), arena, 0)
    for opening, text in (("", ""), ("<think>\n", "I know that A is wrong")):
        prompt_ids = np.array(tokenizer(f"<turn>\n{opening}")["input_ids"])
        examples = [
            PromptExample(row["id"], prompt_ids, fields={k: row[k] for k in ("game", "seat")})
            for row in rows(played)
        ]
        answer = SampledResponse(np.array(tokenizer(text)["input_ids"]), np.zeros(1), True)
        SpeechesAlone(played, Models(), tokenizer).score(examples, [[answer] for _ in examples])
    assert heard[1] == heard[0]
