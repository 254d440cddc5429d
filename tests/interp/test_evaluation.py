"""A study says what a probe found on what it has not seen, and what its controls say of that."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from oversight.errors import DataError
from oversight.interp.contrasts import ContrastSet, contrast_set
from oversight.interp.evaluation import (
    after_training,
    auroc_estimate,
    recall_estimate,
    shuffled_labels,
    split_questions,
    study,
)
from oversight.interp.planted import random_examples, random_model
from oversight.interp.reading import SiteReader


def contrasts(strength: float = 1.5, num: int = 60, seed: int = 0, **changes: Any) -> ContrastSet:
    """Two examples a question: a direction at site residual.1, nothing at residual.0."""
    rng = np.random.default_rng(seed)
    direction = np.eye(12)[3]
    labels = np.arange(2 * num) % 2 == 0
    noise = rng.standard_normal((2, 2 * num, 12))
    signal = np.outer(np.where(labels, strength, -strength), direction)
    words = [f"w{rng.integers(9)} w{rng.integers(9)} q{i // 2}" for i in range(2 * num)]
    known: dict[str, Any] = {
        "states": {"residual.0": noise[0], "residual.1": noise[1] + signal},
        "labels_N": labels,
        "questions": [f"q{i // 2}" for i in range(2 * num)],
        "texts": words,
        "templates": [f"t{i // 2 % 2}" for i in range(2 * num)],
        "lengths_N": rng.integers(5, 9, 2 * num).astype(float),
        "entropies_N": rng.random(2 * num),
        "random_states": {
            name: rng.standard_normal((2 * num, 12)) for name in ("residual.0", "residual.1")
        },
    }
    return ContrastSet(**known | changes)


def test_an_auroc_is_that_of_scikit_learn_and_its_interval_covers() -> None:
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        questions = np.repeat(np.arange(40), 3)
        labels = rng.random(120) < 0.5
        shared = rng.standard_normal(40)[questions]
        scores = shared + rng.standard_normal(120) + 1.0 * labels
        found = auroc_estimate(scores, labels, [str(q) for q in questions])
        assert found.value == pytest.approx(roc_auc_score(labels, scores))
        assert found.low is not None and found.high is not None  # noqa: PT018
        inside += found.low <= 0.6925 <= found.high  # Phi(1 / 2), a little more within questions
    assert 180 <= inside <= 200


def test_a_perfect_score_has_an_interval_that_is_no_point() -> None:
    labels = np.arange(20) % 2 == 0
    found = auroc_estimate(labels.astype(float), labels, [str(i // 2) for i in range(20)])
    assert found.value == 1.0
    assert found.low is not None
    assert 0.5 < found.low < 0.9


def test_recall_is_of_positives_above_the_highest_hundredth_of_negatives() -> None:
    labels = np.arange(400) % 2 == 0
    scores = np.where(labels, np.arange(400) / 4, np.arange(400) / 8)
    found = recall_estimate(scores, labels, [str(i) for i in range(400)])
    threshold = np.sort(scores[~labels])[-2]
    assert found.value == (scores[labels] > threshold).mean()


def test_a_planted_direction_is_claimed_at_its_site_and_beats_its_controls() -> None:
    report = study(contrasts(), "logistic", others={"other": contrasts(seed=5)})
    assert report.site == "residual.1"
    assert report.held_out.auroc.low is not None
    assert report.held_out.auroc.low > 0.8
    assert report.claims
    assert report.controls["shuffled labels"] is not None
    assert abs(report.controls["shuffled labels"].value - 0.5) < 0.25
    words = report.controls["bag of words"]
    assert words is not None and words.low is not None and words.low < 0.5  # noqa: PT018
    assert set(report.templates) == {"t0", "t1"}
    assert all(each.value > 0.8 for each in report.templates.values())
    other = report.other["other"]
    assert other is not None
    assert other.auroc.value > 0.8
    assert report.selectivity > 0.2
    taken_out = report.controls["entropy and length taken out"]
    assert taken_out is not None
    assert taken_out.value > 0.8
    assert report.findings == ("Not run: neutral re-encoding, of which no states were given.",)
    json.dumps(report.as_json())


def test_nothing_is_claimed_where_there_is_nothing() -> None:
    report = study(contrasts(strength=0.0))
    assert not report.claims
    assert "not above chance" in report.findings[0]


def test_labels_that_the_text_gives_away_are_said_with_the_baselines_figure() -> None:
    known = contrasts()
    texts = [
        f"{'yes' if y else 'no'} {t}" for y, t in zip(known.labels_N, known.texts, strict=True)
    ]
    report = study(replace(known, texts=texts))
    assert not report.claims
    said = " ".join(report.findings)
    assert "The text gives labels away: bag of words AUROC 1.00" in said
    assert "Bag of words alone does as well" in said


def test_a_score_that_is_length_alone_is_nothing_once_length_is_taken_out() -> None:
    known = contrasts(strength=0.0)
    lengths = np.where(known.labels_N, 9.0, 3.0) + np.random.default_rng(0).random(120)
    states = {"residual.1": np.outer(lengths, np.eye(12)[0]) + 0.01 * known.states["residual.0"]}
    report = study(replace(known, states=states, random_states=None, lengths_N=lengths))
    assert report.held_out.auroc.value > 0.95
    taken_out = report.controls["entropy and length taken out"]
    assert taken_out is not None
    assert taken_out.value < 0.75
    assert "Length alone does as well" in " ".join(report.findings)


def test_no_question_stands_on_both_sides_and_shuffling_keeps_their_shares() -> None:
    known = contrasts()
    train, test = split_questions(known.questions, seed=3)
    assert not {known.questions[i] for i in train} & {known.questions[i] for i in test}
    assert len(train) + len(test) == 120
    mixed = shuffled_labels(known.labels_N, known.questions, np.random.default_rng(0))
    assert (mixed != known.labels_N).any()
    assert all(mixed[i] != mixed[i + 1] for i in range(0, 120, 2))
    one_each = [f"q{i}" for i in range(120)]
    among = shuffled_labels(known.labels_N, one_each, np.random.default_rng(0))
    assert among.sum() == known.labels_N.sum()
    assert (among != known.labels_N).any()


def test_a_frozen_probe_and_one_fitted_again_are_both_reported_after_training() -> None:
    report = study(contrasts())
    moved = contrasts()
    turned = np.roll(moved.states["residual.1"], 4, axis=1)
    found = after_training(report, replace(moved, states={**moved.states, "residual.1": turned}))
    frozen, again = found["frozen"], found["fitted again"]
    assert frozen is not None
    assert again is not None
    assert frozen.auroc.value < 0.7 < 0.9 < again.auroc.value


def test_hardly_anything_is_claimed_of_random_models() -> None:
    claims = [
        study(
            contrast_set(
                reader := SiteReader(random_model(seed)),
                random_examples(24, seed),
                reader.modules.every(["residual"]),
            ),
            "mean_difference",
            num_shuffles=10,
            seed=seed,
        ).claims
        for seed in range(5)
    ]
    assert sum(claims) <= 1


def test_sets_that_no_honest_figure_can_be_had_of_are_refused() -> None:
    known = contrasts()
    with pytest.raises(DataError, match="one class: 120 of 120"):
        study(replace(known, labels_N=np.ones(120, dtype=bool)))
    with pytest.raises(DataError, match=r"has 4 questions, and 5 folds .* need at least 10"):
        study(contrasts(num=4))
    texts = ["the same"] * 120
    with pytest.raises(DataError, match="one text under two questions, 'q0' and 'q1'"):
        study(replace(known, texts=texts))
