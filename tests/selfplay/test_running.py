"""A circle's processes: what is done is kept, what fails is named, nobody is left behind."""

from __future__ import annotations

import json
from collections import Counter

import psutil
import pytest

from oversight.errors import CheckpointError, ConfigError
from oversight.selfplay.running import RECORD, StageError, run
from oversight.selfplay.stages import folder_of
from oversight.train.runs.lock import FolderLock


@pytest.fixture
def baselines(circle):
    """Only what needs no training, and that small."""
    return circle.model_copy(update={"methods": (), "arenas": ("debate",), "jobs": 1})


def test_what_is_done_is_not_done_again(baselines):
    told = []
    first = run(baselines, told.append)
    assert set(first) == {
        *("arm.naive", "arm.expert", "arm.start.debate", "arm.best_of_n.debate"),
        *("arm.placebo.debate", "arm.retrieval.debate"),
    }
    assert len(told[-1].done) == len(first)
    for name in ("arm.naive", "arm.expert"):
        # Either option listed first, each listing a judgment of its own.
        asked = Counter(ruling["question"] for ruling in first[name]["rulings"])
        assert set(asked.values()) == {2}
        assert len(asked) == baselines.held_out_questions
    finished = [at.finished[0] for at in told if at.finished]
    assert sorted(finished) == sorted(first)
    folder = folder_of(baselines, "arm.placebo.debate")
    (folder / "done.json").unlink()
    told.clear()
    second = run(baselines, told.append)
    assert [at.finished[0] for at in told if at.finished] == ["arm.placebo.debate"]
    for name, result in second.items():
        assert result["rulings"] == first[name]["rulings"]
    assert not psutil.Process().children(recursive=True) or all(
        "spawn_main" not in " ".join(child.cmdline())
        for child in psutil.Process().children(recursive=True)
    )


def test_other_settings_in_the_same_folder_are_refused(baselines):
    baselines.out.mkdir()
    known = json.loads(baselines.model_dump_json(exclude=set(baselines.incidental)))
    (baselines.out / RECORD).write_text(json.dumps({**known, "held_out_questions": 99}))
    with pytest.raises(CheckpointError, match=r"another held_out_questions \(99, now 12\)"):
        run(baselines)


def test_a_folder_in_use_is_refused(baselines):
    baselines.out.mkdir()
    lock = FolderLock(baselines.out)
    try:
        with pytest.raises(ConfigError, match="is being"):
            run(baselines)
    finally:
        lock.release()


def test_a_piece_that_fails_is_named_with_its_reason(baselines):
    store = folder_of(baselines, "arm.naive") / "debates.db"
    store.parent.mkdir(parents=True)
    store.write_text("no store")
    with pytest.raises(StageError, match=r"arm\.naive failed: .*debates\.db") as failure:
        run(baselines)
    assert "logs" in str(failure.value)
