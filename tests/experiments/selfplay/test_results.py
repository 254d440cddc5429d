"""From pieces to results: what is pooled, paired and won, and what is named instead of averaged."""

from __future__ import annotations

import numpy as np
import pytest

from oversight.evals.drawing import LIGHT
from oversight.evals.intervals import mean_interval
from oversight.experiments.selfplay import words
from oversight.experiments.selfplay.jobs import plan_jobs
from oversight.experiments.selfplay.pictures import draw_curve, write_all
from oversight.experiments.selfplay.results import gather

ACCURACY = {"start": 0.6, "naive": 0.5, "expert": 1.0}


def rulings(circle, share, honest=None):
    """As many right as `share` says, the same on every circle of questions."""
    number = circle.held_out_questions
    return [
        {
            "question": f"q{i}",
            "score": float(i < share * number),
            "p_right": 0.9 if i < share * number else 0.1,
            "honest": honest(i) if honest else None,
            "valid": True,
            "majority": float(i < share * number),
        }
        for i in range(number)
    ]


def arm(circle, share, *, consultancy=False, first=0.5, empty=0.0):
    estimate = {"value": first, "low": None, "high": None}
    return {
        "rulings": rulings(circle, share, (lambda i: i % 2 == 0) if consultancy else None),
        "position": {"first_chosen": estimate, "first_argued": None, "gain": None, "flipped": None},
        "honest_win_rate": None,
        "quotes": {"verified": {"value": 0.9}, "per_turn": 1.0},
        "empty": empty,
        "num_turns": 24,
        "length": {"value": 20.0},
        "kl": {"value": 0.5},
    }


def crossplay(circle, job, job_names):
    """Everyone trained always beats the start; among themselves the first seat wins by a hair."""
    players = ["start", *job_names]
    number = 2 * circle.crossplay_questions
    strength = np.array([0.0] + [1.0] * len(job_names))
    if job.arena == "debate":
        table = 0.51 + 0.4 * np.sign(strength[:, None] - strength[None, :])
        beliefs = np.repeat(table[:, :, None], number, axis=2)
    else:
        beliefs = np.repeat((0.2 + 0.5 * strength)[:, None], number, axis=1)
    return {
        "players": players,
        "questions": [f"q{g // 2}" for g in range(number)],
        "first_is_honest": [g % 2 == 0 for g in range(number)],
        "beliefs": np.clip(beliefs, 0, 1).tolist(),
    }


@pytest.fixture
def done(circle):
    """Trained debaters make the judge right in five of six debates, consultants in half."""
    found = {}
    for job in plan_jobs(circle):
        if job.kind == "crossplay":
            found[job.name] = crossplay(circle, job, job.needs)
        elif job.kind == "arm":
            consultancy = job.arena == "consultancy"
            share = ACCURACY.get(job.name.split(".")[1], 0.5 if consultancy else 5 / 6)
            share = 0.5 if consultancy else share
            found[job.name] = arm(circle, share, consultancy=consultancy)
        else:
            found[job.name] = {}
    return found


def test_seeds_are_pooled_and_differences_paired(circle, done):
    results = gather(circle, done)
    grpo = results.arm("grpo", "debate")
    assert grpo.accuracy.value == pytest.approx(10 / 12)
    assert (grpo.accuracy.num, grpo.accuracy.num_clusters) == (24, 12)
    assert grpo.seeds == (0, 1)
    start = results.arm("start", "debate")
    assert start.change is None
    assert grpo.change.value == pytest.approx(grpo.accuracy.value - start.accuracy.value)
    control = results.arm("grpo", "consultancy")
    assert results.gap("grpo").value == pytest.approx(grpo.accuracy.value - control.accuracy.value)
    assert control.honest.num == control.dishonest.num == 12
    assert results.methods == (
        *("expert_iteration, round 1", "expert_iteration"),
        *("dpo", "ppo", "grpo"),
    )
    assert results.warnings == ()


def test_an_interval_is_that_of_the_rulings(circle, done):
    found = gather(circle, done).arm("start", "debate").accuracy
    rows = done["arm.start.debate"]["rulings"]
    expected = mean_interval([r["score"] for r in rows], [r["question"] for r in rows])
    assert (found.low, found.high) == (expected.low, expected.high)


def test_matches_count_the_same_mix_of_sides(circle, done):
    results = gather(circle, done)
    match = next(match for match in results.matches if match.method == "grpo")
    assert match.wins.value == match.honest.value == match.dishonest.value == 1.0
    # The start against itself always wins at seat A, which is honest in half of the games.
    assert match.honest_before == 0.5
    assert match.honest_rise == match.dishonest_rise == 0.5


def test_who_beats_the_start_is_rated_above_it(circle, done):
    points = gather(circle, done).points
    for arena in circle.arenas:
        [start] = [p for p in points if p.arena == arena and p.policy == "start"]
        others = [p for p in points if p.arena == arena and p.policy != "start"]
        assert start.rating.value == 0.0
        assert len(others) == 10
        assert all(p.rating.low > 0 for p in others)


def test_a_judge_that_collapsed_is_named(circle, done):
    done["arm.dpo.debate.0"] = arm(circle, 0.5, first=1.0)
    done["arm.dpo.debate.1"] = arm(circle, 0.5, first=0.99)
    [warning] = [w for w in gather(circle, done).warnings if "collapsed" in w]
    assert warning.startswith("dpo in debate: the judge has collapsed to one answer")
    assert "listed first" in warning


def test_a_judge_that_collapsed_to_the_last_option_is_named(circle, done):
    done["arm.naive"] = arm(circle, 0.5, first=0.0)
    [warning] = gather(circle, done).warnings
    assert warning.startswith("naive: the judge has collapsed")
    assert "listed last in 100%" in warning


def test_empty_speeches_and_unreadable_rulings_are_named(circle, done):
    broken = arm(circle, 0.5, empty=0.3)
    for ruling in broken["rulings"][:2]:
        ruling["valid"] = False
    done["arm.ppo.debate.0"] = done["arm.ppo.debate.1"] = broken
    found = gather(circle, done).warnings
    assert "ppo in debate: 30% of the speeches are empty" in found
    assert "ppo in debate: 17% of the rulings could not be read" in found


def test_seeds_that_are_far_apart_are_named(circle, done):
    done["arm.grpo.debate.1"] = arm(circle, 0.25)
    assert any("its seeds are far apart (83%, 25%)" in w for w in gather(circle, done).warnings)


def test_ratings_that_are_not_connected_are_named(circle, done):
    beliefs = np.array(done["crossplay.debate"]["beliefs"])
    done["crossplay.debate"]["beliefs"] = beliefs.tolist()
    name = done["crossplay.debate"]["players"][-1]
    beliefs[-1, :, :] = beliefs[:, -1, :] = np.nan
    done["crossplay.debate"]["beliefs"] = beliefs.tolist()
    results = gather(circle, done)
    [warning] = [w for w in results.warnings if "not connected" in w]
    assert name in warning


def test_a_circle_of_one_arena_has_no_gap(circle, done):
    alone = circle.model_copy(update={"arenas": ("debate",)})
    results = gather(alone, done)
    assert results.gaps == ()
    assert all(words.tables(results))
    assert words.headlines(results)


def test_what_is_left_to_look_at(circle, done):
    circle.out.mkdir()
    results = gather(circle, done)
    paths = write_all(circle, results)
    assert {path.name for path in paths} == {
        *("report.html", "results.json"),
        *("accuracy.png", "curve.png", "baselines.png"),
    }
    assert all(path.stat().st_size > 1000 for path in paths)
    page = (circle.out / "report.html").read_text()
    assert "<title>The closed circle</title>" in page
    assert "reward model + PPO" in page
    before = (circle.out / "report.html").read_bytes()
    write_all(circle, results)
    assert (circle.out / "report.html").read_bytes() == before


def test_the_curve_shows_every_point(circle, done):
    done["arm.dpo.consultancy.0"] = arm(circle, 1 / 6, consultancy=True)
    results = gather(circle, done)
    [axes, *_] = draw_curve(results, LIGHT).axes
    low, high = axes.get_ylim()
    assert all(low < p.accuracy.low and p.accuracy.high < high for p in results.points)


def test_narrow_tables_fit_a_terminal_of_80_columns(circle, done):
    results = gather(circle, done)
    for table in words.tables(results, wide=False):
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80, table.title


def test_who_learnt_from_few_preferences_is_named(circle, done):
    done["expert_iteration.consultancy.1.2"] = {"rows": 7}
    done["dpo.debate.0"] = {"rows": 300}
    [named] = [said for said in gather(circle, done).warnings if "preferences only" in said]
    assert named.startswith("expert_iteration.consultancy.1.2 learnt from 7 preferences only")
