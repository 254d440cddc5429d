"""Learning from candidates, also where the judge finds few of them better than others."""

from __future__ import annotations

import tomllib

import pytest

from oversight.errors import DataError
from oversight.experiments.selfplay import methods
from oversight.experiments.selfplay.games import BEST_OF_N, debate, questions, speaking
from oversight.store import Store


def test_fewer_candidates_than_a_batch_are_one_batch(circle, tmp_path):
    circle = circle.model_copy(update={"sft": {"steps": 2}, "dpo": {"steps": 2}})
    store = tmp_path / "debates.db"
    asked = questions(circle, "train", 4)
    speakers = speaking(circle, circle.model)
    debate(circle, store, BEST_OF_N["debate"], asked, speakers, circle.judge, seed=0)
    for train in (methods.train_sft, methods.train_dpo):
        out = tmp_path / train.__name__
        num_rows = train(circle, circle.model, store, "debate", out, 0)
        assert 0 < num_rows < 32
        settings = tomllib.loads((out / "config.toml").read_text())
        assert settings["batch_size"] == num_rows
        assert (out / "model" / "model.safetensors").exists()
        # What is finished is found so, with the same number.
        assert train(circle, circle.model, store, "debate", out, 0) == num_rows


def test_candidates_of_which_none_is_better_are_refused(circle, tmp_path):
    store = tmp_path / "debates.db"
    Store.open(store).close()
    with pytest.raises(DataError, match="there is nothing to learn from"):
        methods.train_sft(circle, circle.model, store, "debate", tmp_path / "sft", 0)
